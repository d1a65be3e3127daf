"""One driver alone: what it is told, what it answers, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hpcbatch.scoring.driver_process import Done, DriverProcess, DriverSpec, Stopped
from tests.unit.scoring.conftest import INIT, TIMEOUT_S, Start, done, failed, ready, wait_for_end


def interpreters() -> list[str]:
    """One Python of each version from 3.8 on that this machine has besides ours."""
    places = [*os.environ.get("PATH", "").split(os.pathsep)]
    places += [str(path) for path in Path("~/.pyenv/versions").expanduser().glob("*/bin")]
    found: dict[str, str] = {}
    for place in places:
        for path in sorted(Path(place).glob("python3.*")):
            version = re.fullmatch(r"python(3\.(\d+))", path.name)
            if version and int(version[2]) >= 8 and version[1] not in found and "shims" not in place:
                with suppress(OSError, subprocess.SubprocessError):
                    subprocess.run([path, "-c", ""], check=True, timeout=10, capture_output=True)
                    found[version[1]] = str(path)
    return [path for _, path in sorted(found.items())] or [sys.executable]


@pytest.mark.parametrize("python", interpreters())
def test_a_life_from_init_to_shutdown(start: Start, python: str) -> None:
    script = """
import os, sys

def init():
    global state
    state = "ready"
    print("in init")

def run(mini_batch):
    assert type(mini_batch) is list
    print("running", len(mini_batch))
    print("careful", file=sys.stderr)
    return [state + " " + path for path in mini_batch]

def shutdown():
    print("bye")
"""
    talk = ready(start(script, python=python))
    assert talk.score(7, "a", "sub/b") == done(7, 2, b"ready /data/a\nready /data/sub/b\n")
    talk.driver.stop()
    assert talk.next() == Stopped()
    assert talk.ended() == 0
    assert talk.printed(INIT) == b"in init\nbye\n"
    assert (talk.printed(7), talk.printed(7, error=True)) == (b"running 2\n", b"careful\n")


FIXED = [
    ("mini_batch", 2, 0, b"/data/a\n/data/b\n"),
    ("tuple(mini_batch[:1])", 1, 1, b"/data/a\n"),
    ("[]", 0, 2, b""),
    ("mini_batch * 2", 4, 0, b"/data/a\n/data/b\n/data/a\n/data/b\n"),
    ("['\\udce9', 'two\\nlines']", 2, 0, b"\xe9\ntwo\nlines\n"),
    ("[None, b'x', ['f', 1], {'a': 1.5}]", 4, 0, b"None\nb'x'\n['f', 1]\n{'a': 1.5}\n"),
    ("pandas.DataFrame({'a': ['x y', None], 'b': [1.0, float('nan')]})", 2, 0, b'"x y" 1.0\n \n'),
    ("pandas.DataFrame()", 0, 2, b""),
    ("pandas.Series(['x', 2])", 2, 0, b"x\n2\n"),
    ("numpy.array([1.5, 2])", 2, 0, b"1.5\n2.0\n"),
    ("numpy.array([[1, 2], [3, 4]])", 2, 0, b"1 2\n3 4\n"),
    ("numpy.zeros((0, 3))", 0, 2, b""),
]


@pytest.mark.parametrize(("returned", "rows", "failed", "payload"), FIXED, ids=[case[0] for case in FIXED])
def test_what_run_may_return(start: Start, returned: str, rows: int, failed: int, payload: bytes) -> None:
    imports = "".join(f"import {name}\n" for name in ("numpy", "pandas") if name in returned)
    talk = ready(start(f"{imports}def run(mini_batch):\n    return {returned}\n"))
    assert talk.score(1, "a", "b") == done(1, rows, payload, failed)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("None", "nothing (None)"),
        ("'text'", "'str'"),
        ("{}", "'dict'"),
        ("(p for p in mini_batch)", "'generator'"),
        ("7", "'int'"),
        ("__import__('numpy').array(5)", "'ndarray'"),
    ],
)
def test_what_run_may_not_return(start: Start, returned: str, words: str) -> None:
    talk = ready(start(f"def run(mini_batch):\n    return {returned}\n"))
    report = failed(talk.score(1, "a"))
    assert report["kind"] == "wrong-type"
    assert words in report["message"]
    assert "must return a list, a tuple or a pandas DataFrame" in report["message"]
    assert report["traceback"] == report["message"] + "\n"


def test_nothing_is_written_for_summary_only(start: Start) -> None:
    talk = ready(start("def run(mini_batch):\n    return mini_batch\n", output_action="summary_only"))
    assert talk.score(1, "a", "b") == done(1, 2, b"")


@pytest.mark.parametrize(
    ("statement", "kind", "message"),
    [
        ("raise ValueError('no good')", "ValueError", "no good"),
        ("sys.exit('enough')", "SystemExit", "enough"),
        ("sys.exit()", "SystemExit", ""),
        ("return ['\\ud800']", "UnicodeEncodeError", "surrogates not allowed"),
        ("class Odd(Exception):\n        def __str__(self): raise self\n    raise Odd()", "Odd", ""),
    ],
)
def test_an_exception_is_one_failed_try_and_the_driver_lives_on(
    start: Start, statement: str, kind: str, message: str
) -> None:
    script = f"import sys\ndef run(mini_batch):\n    if 'good' in mini_batch[0]:\n        return [1]\n    {statement}\n"
    talk = ready(start(script))
    report = failed(talk.score(3, "bad"))
    assert (report["kind"], report["type"], report["mini_batch"]) == ("exception", kind, 3)
    assert message in report["message"]
    if kind != "UnicodeEncodeError":
        assert "score.py" in report["traceback"]
        assert "driver.py" not in report["traceback"]
    assert talk.score(4, "good") == done(4, 1, b"1\n")


@pytest.mark.parametrize(
    ("script", "kind", "words"),
    [
        ("def init():\n    raise OSError('no model')\ndef run(m):\n    return m", "OSError", "no model"),
        ("import nothing_of_the_kind\ndef run(m):\n    return m", "ModuleNotFoundError", "nothing_of_the_kind"),
        ("import sys; sys.exit('not today')", "SystemExit", "not today"),
        ("def run(m)\n    return m", "SyntaxError", "expected ':'"),
        ("def runs(m):\n    return m", "AttributeError", "no function run(mini_batch)"),
        ("run = 3", "AttributeError", "no function run(mini_batch)"),
    ],
)
def test_a_script_that_cannot_start(start: Start, script: str, kind: str, words: str) -> None:
    report = failed(start(script).next())
    assert (report["kind"], report["type"]) == ("init", kind)
    assert words in report["message"]


def test_init_and_shutdown_are_optional_and_shutdown_may_fail(start: Start) -> None:
    talk = ready(start("def run(m):\n    return m\n\ndef shutdown():\n    raise OSError('too late')\n"))
    talk.driver.stop()
    assert failed(talk.next())["kind"] == "shutdown"
    assert talk.next() == Stopped()
    assert talk.ended() == 0


def test_arguments_paths_and_modules_are_those_of_the_script(start: Start, tmp_path: Path) -> None:
    for name in ("sibling.py", "deep/near.py"):
        (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "code" / name).write_text("VALUE = __name__\n")
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "extra.py").write_text("VALUE = 'extra'\n")
    script = """
import os, sys, argparse
import sibling, near, extra

def run(mini_batch):
    parser = argparse.ArgumentParser()
    parser.add_argument("--logging_level")
    known, _ = parser.parse_known_args()
    return [known.logging_level, sys.argv[0], __file__, __name__, os.getcwd(), sibling.VALUE, near.VALUE, extra.VALUE,
            os.path.isdir(sys.path[0]), "" in sys.path, sys.stdin.read(), len(os.listdir("/proc/self/fd"))]
"""
    talk = ready(
        start(
            script,
            name="deep/score.py",
            argv=("--mini_batch_size", "3", "--logging_level", "info"),
            environment={"PYTHONPATH": str(tmp_path / "lib")},
        )
    )
    code = tmp_path / "code"
    answer = talk.score(1, "a")
    assert isinstance(answer, Done)
    *found, descriptors = answer.payload.decode().split("\n")[:-1]
    file = str(code / "deep" / "score.py")
    assert found == ["info", file, file, "deep.score", str(code), "sibling", "near", "extra", "True", "False", ""]
    assert int(descriptors) <= 8, "nothing of the worker's is open in the driver"


def test_a_folder_called_like_a_standard_module_does_no_harm_to_the_driver(start: Start, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    for name in ("json", "struct", "io", "traceback", "signal"):
        (tmp_path / "code" / f"{name}.py").write_text("raise SystemExit('hijacked')\n")
    talk = ready(start("def run(mini_batch):\n    raise ValueError('mine')\n"))
    assert failed(talk.score(1, "a"))["message"] == "mine"


def test_a_payload_of_50_megabytes_and_a_request_of_100000_paths(start: Start) -> None:
    names = [f"folder/{'x' * 60}-{number:06d}.csv" for number in range(100_000)]
    talk = ready(start("def run(mini_batch):\n    return ['y' * 500 + p[-10:] for p in mini_batch]\n"))
    reply = talk.score(1, *names)
    assert isinstance(reply, Done)
    assert (reply.rows, reply.failed_items) == (100_000, 0)
    assert len(reply.payload) == 511 * 100_000
    assert reply.payload.endswith(b"y099999.csv\n")


def test_names_of_files_are_bytes(start: Start) -> None:
    talk = ready(
        start(
            "import os\ndef run(mini_batch):\n    return [os.fsencode(p)[::-1] for p in mini_batch]\n", root="/\udce9/"
        )
    )
    assert talk.score(1, "\udcff\udcfe", "new\nline") == done(1, 2, b"b'\\xfe\\xff/\\xe9/'\nb'enil\\nwen/\\xe9/'\n")


def test_it_is_killed_with_all_that_it_started(start: Start) -> None:
    script = """
import os, subprocess, time

def run(mini_batch):
    child = subprocess.Popen(["sleep", "600"])
    print(child.pid)
    time.sleep(600)
"""
    talk = ready(start(script))
    talk.driver.run(1, b"a")
    talk.until(lambda: talk.texts)
    child = int(talk.texts[0].data)
    talk.driver.kill()
    assert talk.ended() == -signal.SIGKILL
    wait_for_end(child)


@pytest.mark.parametrize("ignored", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT])
def test_a_preemptions_signal_does_not_end_it_and_is_not_inherited(start: Start, ignored: signal.Signals) -> None:
    script = """
import subprocess, sys

def run(mini_batch):
    child = subprocess.run([sys.executable, "-c", "import signal; print(int(signal.getsignal(signal.SIGTERM)))"],
                           stdout=subprocess.PIPE, check=True)
    return [child.stdout.decode().strip()]
"""
    talk = ready(start(script))
    os.kill(talk.driver.process.pid, ignored)
    assert talk.score(1, "a") == done(1, 1, b"0\n")


def test_what_the_script_forks_can_be_ended_with_sigterm(start: Start) -> None:
    """As `multiprocessing` ends the processes of a Pool: with the driver's own handler in them, it waited for ever."""
    script = """
import os, signal, time

def init():
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)

def run(mini_batch):
    told, tell = os.pipe()
    child = os.fork()
    if not child:
        os.write(tell, b"there")
        time.sleep(600)
        os._exit(1)
    os.read(told, 5)
    os.kill(child, signal.SIGUSR1)
    os.kill(child, signal.SIGTERM)
    return [os.waitpid(child, 0)[1]]
"""
    assert ready(start(script)).score(1, "a") == done(1, 1, b"15\n")


def test_it_dies_with_its_worker_even_of_sigkill(tmp_path: Path) -> None:
    """In the middle of run(), with its children holding every descriptor that they can."""
    (tmp_path / "score.py").write_text(
        "import os, subprocess, time\n"
        "def run(mini_batch):\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    subprocess.Popen(['sleep', '5'], close_fds=False)\n"
        "    while True: time.sleep(0.01)\n"
    )
    worker = (
        "import sys, time\n"
        "from hpcbatch.scoring.driver_process import DriverProcess, DriverSpec\n"
        f"spec = DriverSpec(sys.executable, (), {{}}, {str(tmp_path)!r}, 'score.py', (), '/', 'append_row')\n"
        "driver = DriverProcess(spec)\n"
        "driver.run(1, b'a')\n"
        "time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", worker], cwd=Path(__file__).parents[3]) as process:
        deadline = time.monotonic() + TIMEOUT_S
        note = tmp_path / "pid"
        while not (note.exists() and note.read_text()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
    wait_for_end(int(note.read_text()), 3)


def test_an_interpreter_that_does_not_start_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        DriverProcess(DriverSpec("/nowhere/python", (), {}, str(tmp_path), "score.py", (), "/", "append_row"))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_driver_that_is_gone_takes_requests_and_says_nothing(start: Start) -> None:
    talk = ready(start("def run(mini_batch):\n    return mini_batch\n"))
    talk.driver.kill()
    talk.driver.process.wait()
    talk.driver.run(1, b"x" * 1_000_000)
    talk.driver.flush()
    assert not talk.driver.wants_to_write
    assert talk.ended() == -signal.SIGKILL
    assert talk.replies == []
