"""What a job must come to, whatever compute runs it: scripts, settings, and the exact end."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.site import ECHO, echoed

STATE_MODULE = """
import os, time

def once(name):
    try:
        os.close(os.open(os.path.join(os.environ["STATE"], name), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

def call(mini_batch):
    with open(os.path.join(os.environ["STATE"], "calls"), "a") as calls:
        calls.write(" ".join(names(mini_batch)) + "\\n")
    return names(mini_batch)

def names(mini_batch):
    return [os.path.basename(path) for path in mini_batch]

def gone(parent):
    while os.getppid() == parent:
        time.sleep(0.01)
"""


@dataclass(frozen=True)
class Case:
    """One job. `output` None means that nothing was published; `calls` counts run(), where the script does."""

    name: str
    script: str
    output: bytes | None
    status: str = "Completed"
    exit_code: int = 0
    detail: Sequence[str] = ()
    log: Sequence[str] = ()
    items: int = 6
    names: Sequence[bytes] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, str] | None = None
    bare: bool = False
    failed_items: int = 0
    calls: int | None = None
    failures: Sequence[str] = ()


def script(text: str) -> str:
    return "import os, sys, time, signal\nfrom state import *\n" + textwrap.dedent(text)


def returning(expression: str) -> str:
    """A script whose run() returns an expression of `found`, the names of the mini-batch's files."""
    return script(
        f"""
        def run(mini_batch):
            found = call(mini_batch)
            return {expression}
        """
    )


BOTH_KILLED = (
    "me, worker = os.getpid(), os.getppid(); os.fork() or (os.setsid(), gone(me), os.kill(worker, 9), os._exit(0)); "
    "os.kill(me, 9)"
)


def sabotaged(action: str, *, only_once: bool) -> str:
    """A script that does something terrible instead of scoring file 00003, the first time or always."""
    condition = 'once("sabotage")' if only_once else "True"
    return script(
        f"""
        def run(mini_batch):
            found = call(mini_batch)
            if "00003.txt" in found and {condition}:
                {action}
            return found
        """
    )


def without(*missing: int, count: int = 6) -> bytes:
    return b"".join(b"%05d.txt\n" % number for number in range(count) if number not in missing)


FAILED: dict[str, Any] = {"status": "Failed", "exit_code": 5, "output": None}
ONE_EACH = {"mini_batch_size": 1, "retry_settings": {"max_retries": 0, "timeout": 300}, "error_threshold": -1}
ONE_RETRY = {**ONE_EACH, "retry_settings": {"max_retries": 1, "timeout": 300}}
ROWS = '["a\\nb", 1, None, ["f", 1], ("t", 2), {"k": 1.5}, 0.1, "\\u00e9", b"x", ""]'
ROW_BYTES = "a\nb\n1\nNone\n['f', 1]\n('t', 2)\n{'k': 1.5}\n0.1\né\nb'x'\n\n".encode()
FRAME = (
    'pandas.DataFrame({"f": ["a b", "c", \'q"q\', "r"], "n": [1, 2, 3, 4], "x": [0.5, None, 1e-7, 3.0]},'
    " index=[7, 8, 9, 10])"
)
FRAME_BYTES = b'"a b" 1 0.5\nc 2 \n"q""q" 3 1e-07\nr 4 3.0\n'
NESTED = (b"b/2", b"b/1", b"a", b"c.txt", b"b.txt", b"b/a/z", b"b-x/1")

RESULTS = [
    *(
        Case(
            f"{groups} groups, mini-batches of {size}",
            ECHO,
            echoed(100),
            items=100,
            settings={"mini_batch_size": size},
            overrides={"groups": groups, "instance_count": 4},
        )
        for groups, size in [(1, 7), (2, 7), (8, 7), (8, 1), (1, 1000)]
    ),
    Case(
        "two drivers, two groups",
        script("def run(m):\n    time.sleep(0.005)\n    return names(m)"),
        echoed(60),
        items=60,
        settings={"mini_batch_size": 1, "max_concurrency_per_instance": 2},
        overrides={"groups": 2, "instance_count": 2},
    ),
    Case(
        "nested folders",
        script('def run(m):\n    return [p.split("/data-")[1].split("/", 1)[1] for p in m]'),
        b"a\nb/1\nb/2\nb/a/z\nb-x/1\nb.txt\nc.txt\n",
        items=0,
        names=NESTED,
        settings={"mini_batch_size": 2},
    ),
    Case(
        "names that are not UTF-8",
        ECHO,
        b"\xe9t\xe9\n\xff\xfe\n",
        items=0,
        names=[b"\xff\xfe", b"\xe9t\xe9"],
        settings={"mini_batch_size": 1},
    ),
    Case("a list of anything", returning(ROWS), ROW_BYTES, items=1, calls=1),
    Case("a tuple", returning("tuple(found)"), echoed(6), bare=True),
    Case("a data frame", "import pandas\n" + returning(FRAME), FRAME_BYTES, items=4),
    Case("a series", "import pandas\n" + returning('pandas.Series(["a", 1, 0.5])'), b"a\n1\n0.5\n", items=3),
    Case(
        "arrays",
        "import numpy\n" + returning("numpy.arange(4).reshape(2, 2) / 2 if '00000.txt' in found else numpy.arange(2)"),
        b"0.0 0.5\n1.0 1.5\n0\n1\n",
        items=4,
        settings={"mini_batch_size": 2},
    ),
    Case("more rows than files", returning("found * 2"), echoed(3) * 2, items=3, calls=1),
    Case(
        "an environment with nothing in it",
        script(
            """
            import importlib.util

            def init():
                print(sys.prefix, sys.flags.isolated, file=sys.stderr)

            def run(mini_batch):
                return [importlib.util.find_spec(m) for m in ("hpcbatch", "numpy", "pandas", "pip", "yaml", "submitit")]
            """
        ),
        b"None\n" * 6,
        bare=True,
    ),
    Case(
        "what scripts rely on",
        script(
            """
            from pathlib import Path

            def init():
                global weights
                weights = Path(os.environ["AZUREML_MODEL_DIR"], "model", "deep", "w.txt").read_text()

            def run(mini_batch):
                at = sys.argv.index("--logging_level")
                return [weights, sys.argv[at + 1].upper(), os.path.basename(__file__), os.environ["MINE"],
                        "AWS_SECRET_ACCESS_KEY" in os.environ, os.path.isdir(os.environ["AZUREML_BI_OUTPUT_PATH"])]
            """
        ),
        b"3\nWARNING\nscore.py\nit is\nFalse\nTrue\n",
        model={"deep/w.txt": "3"},
        settings={"logging_level": "warning", "environment_variables": {"MINE": "it is"}},
    ),
    Case(
        "prints",
        script(
            """
            def init():
                print("hello from init")

            def run(mini_batch):
                print("scoring", names(mini_batch)[0])
                sys.stderr.write("careful with " + names(mini_batch)[0] + "\\n")
                os.write(1, b"from C in " + names(mini_batch)[0].encode())
                return names(mini_batch)
            """
        ),
        echoed(3),
        items=3,
        settings={"mini_batch_size": 1},
        log=[
            r"^\[init\] hello from init$",
            *(rf"^\[mb {n}\] scoring 0000{n}\.txt$" for n in range(3)),
            *(rf"^\[mb {n}!\] careful with 0000{n}\.txt$" for n in range(3)),
            *(rf"^\[mb {n}\] from C in 0000{n}\.txt" for n in range(3)),
        ],
    ),
]

WRONG = """
WRONG = {"00001.txt": None, "00002.txt": "text", "00003.txt": {}, "00004.txt": (n for n in "ab"), "00005.txt": 5}
"""
TOLERATED = [
    Case(
        "wrong return types",
        WRONG + returning("WRONG[found[0]] if found[0] in WRONG else found"),
        echoed(1),
        settings=ONE_EACH,
        failed_items=5,
        failures=["nothing (None)", "'str'", "'dict'", "'generator'", "'int'"],
        calls=6,
    ),
    Case(
        "fewer rows than files",
        returning("found[:-1]"),
        without(2, 5),
        settings={"mini_batch_size": 3, "error_threshold": -1},
        failed_items=2,
        calls=2,
    ),
    Case(
        "an exception the first time",
        sabotaged('raise ValueError("not yet")', only_once=True),
        echoed(6),
        settings={**ONE_RETRY, "error_threshold": 0},
        calls=7,
        log=[r"mini-batch 3 failed, try 1 of 2: ValueError: not yet$"],
    ),
    Case(
        "an exception every time",
        sabotaged('raise ValueError("never")', only_once=False),
        without(3),
        settings=ONE_RETRY,
        failed_items=1,
        calls=7,
        failures=["never"],
        log=[r"try 2 of 2: ValueError: never$", r'File ".*score\.py", line \d+, in run'],
    ),
    Case(
        "sys.exit in run",
        sabotaged('sys.exit("enough")', only_once=False),
        without(3),
        settings=ONE_EACH,
        failed_items=1,
        failures=["enough"],
    ),
    Case(
        "a hang",
        sabotaged("time.sleep(600)", only_once=False),
        without(3),
        settings={**ONE_EACH, "retry_settings": {"max_retries": 0, "timeout": 5}},
        failed_items=1,
        failures=["did not return in 5 s"],
    ),
    *(
        Case(name, sabotaged(how, only_once=True), echoed(6), settings=ONE_RETRY, calls=7, log=[words])
        for name, how, words in (
            ("SIGKILL to itself", "os.kill(os.getpid(), signal.SIGKILL)", "killed by signal 9"),
            ("a segmentation fault", "import ctypes; ctypes.string_at(0)", "killed by signal 11"),
            ("os._exit", "os._exit(0)", "exit status 0"),
        )
    ),
    Case(
        "a stray binary among texts",
        script("def run(m):\n    return [open(p, encoding='utf-8').read() for p in m]"),
        b"a.csv\nb.csv\nz.csv\n",
        items=0,
        names=[b"a.csv", b"b.csv", b"x\xff.bin", b"z.csv"],
        settings=ONE_EACH,
        failed_items=1,
        failures=["can't decode byte 0xff"],
    ),
    Case(
        "it always crashes",
        sabotaged("os._exit(3)", only_once=False),
        without(3),
        settings=ONE_RETRY,
        failed_items=1,
        failures=["exit status 3"],
        calls=7,
    ),
    Case(
        "the worker dies once",
        sabotaged("os.kill(os.getppid(), 9); time.sleep(60)", only_once=True),
        echoed(6),
        settings=ONE_EACH,
    ),
    Case(
        "both are killed, the scoring process first, as Slurm ends a step",
        sabotaged(BOTH_KILLED, only_once=True),
        echoed(6),
        settings=ONE_EACH,
    ),
]

REFUSED = [
    Case(
        "fewer rows than allowed",
        returning("found[:-1]"),
        **FAILED,
        settings={"mini_batch_size": 3, "error_threshold": 1},
        failed_items=2,
        detail=["The number of failed items is 2, which exceeds error threshold 1."],
    ),
    Case(
        "one exception is too many",
        sabotaged('raise ValueError("never")', only_once=False),
        **FAILED,
        settings={**ONE_RETRY, "error_threshold": 0},
        detail=["The number of failed items is 1, which exceeds error threshold 0.", "mini-batch 3: ValueError: never"],
    ),
    Case(
        "nothing succeeds",
        returning("1 / 0"),
        **FAILED,
        settings=ONE_EACH,
        failed_items=6,
        calls=6,
        detail=["There is no succeeded mini batch item returned from run()", "division by zero"],
    ),
    Case(
        "init() raises",
        script('def init():\n    raise OSError("no weights here")\ndef run(m):\n    return m'),
        **FAILED,
        detail=["init() failed", "no weights here"],
        failures=["no weights here"],
        log=["in init$", "^-- .*OSError: no weights here$"],
    ),
    Case(
        "the model is not there",
        script(
            'def init():\n    open(os.environ["AZUREML_MODEL_DIR"] + "/model/missing.pkl")\ndef run(m):\n    return m'
        ),
        **FAILED,
        model={"w": ""},
        detail=["init() failed", "No such file or directory", "missing.pkl"],
    ),
    Case(
        "an import that fails",
        "import torch_that_is_not_there\ndef run(m):\n    return m",
        **FAILED,
        bare=True,
        detail=["No module named 'torch_that_is_not_there'"],
        failures=["torch_that_is_not_there"],
    ),
    Case(
        "the script exits",
        "import sys\nsys.exit('not today')\ndef run(m):\n    return m",
        **FAILED,
        detail=["not today"],
    ),
    Case(
        "the script dies in init()",
        script("def init():\n    print('last words')\n    os._exit(9)\ndef run(m):\n    return m"),
        **FAILED,
        detail=["died during init()", "exit status 9"],
        log=[r"^\[init\] last words$"],
    ),
]

POISONED = """
def run(mini_batch):
    if names(mini_batch)[0] in ("00001.txt", "00003.txt"):
        os.kill(os.getppid(), 9)
        time.sleep(60)
    return names(mini_batch)
"""
POISON = Case(
    "the worker dies of two mini-batches every time",
    script(POISONED),
    without(1, 3),
    settings=ONE_EACH,
    failed_items=2,
    failures=["died 3 times"],
)

ALL = [*RESULTS, *TOLERATED, *REFUSED, POISON]  # the slowest last: on Slurm all of them run at once
