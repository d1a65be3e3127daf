"""Calls that are wrong on a filesystem shared by many nodes, or dangerous in a program that others invoke."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import DRIVER, PACKAGE, calls, dotted, imports, package_files, report, syntax, where

Check = Callable[[ast.Module], Iterator[tuple[int, str]]]

FORBIDDEN = {
    "fcntl.flock": "locks lie on shared filesystems",
    "fcntl.lockf": "locks lie on shared filesystems",
    "os.lockf": "locks lie on shared filesystems",
    "os.replace": "replaces a name that others read",
    "os.renames": "replaces a name that others read",
    "os.path.getmtime": "clocks of nodes differ",
    "os.path.getctime": "clocks of nodes differ",
    "os.system": "a shell",
    "os.popen": "a shell",
    "subprocess.getoutput": "a shell",
    "subprocess.getstatusoutput": "a shell",
    "pickle.load": "runs what it reads",
    "pickle.loads": "runs what it reads",
    "pickle.Unpickler": "runs what it reads",
    "cloudpickle.load": "runs what it reads",
    "cloudpickle.loads": "runs what it reads",
    "marshal.load": "runs what it reads",
    "marshal.loads": "runs what it reads",
    "shelve.open": "runs what it reads",
    "yaml.load": "builds what it reads; spec.yamlfile has the safe loader",
    "yaml.load_all": "builds what it reads; spec.yamlfile has the safe loader",
    "yaml.full_load": "builds what it reads; spec.yamlfile has the safe loader",
    "yaml.unsafe_load": "builds what it reads; spec.yamlfile has the safe loader",
    "eval": "runs what it reads",
    "exec": "runs what it reads",
    "tempfile.mktemp": "a name that somebody else may take first",
    "atexit.register": "crash-only: recovery never depends on a clean exit",
    "socket.create_server": "we open no port",
}

# (module, check): why it is right there. Each line is a decision that a reader can question.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("fs/own.py", "forbidden_calls"): "a download replaces the person's own older copy of it",
    ("worker/log.py", "swallowed_write_errors"): "a log must not stop the work; lost bytes are counted",
}


def forbidden_calls(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for name, call in calls(tree):
        if name in FORBIDDEN:
            yield call.lineno, f"{name}: {FORBIDDEN[name]}"
        if any(k.arg == "shell" and not _is_false(k.value) for k in call.keywords):
            yield call.lineno, "shell=True: a shell"


def forbidden_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                if name in FORBIDDEN:
                    yield node.lineno, f"{name}: {FORBIDDEN[name]}"


def modification_times(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr.startswith(("st_mtime", "st_ctime", "st_atime")):
            yield node.lineno, f".{node.attr}: clocks of nodes differ, and caches keep old times"


def polling_with_exists(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """A probe of one name may be answered from a cache of absent names for a minute; a listing is not."""
    for loop in ast.walk(tree):
        if isinstance(loop, ast.While):
            for name, call in calls(loop):
                if name.rpartition(".")[2] in {"exists", "lexists", "is_file", "isfile"}:
                    yield call.lineno, f"{name} in a loop: list the folder (fs.scan.names)"


def wall_clock_decisions(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """time.time() may be written down, never compared: it jumps, and other nodes have another one."""
    for scope in ast.walk(tree):
        if not isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        clocks = {
            target.id
            for node in ast.walk(scope)
            if isinstance(node, ast.Assign) and _reads_wall_clock(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(scope):
            if isinstance(node, ast.Compare) and (
                _reads_wall_clock(node) or any(isinstance(n, ast.Name) and n.id in clocks for n in ast.walk(node))
            ):
                yield node.lineno, "a decision from time.time(): use time.monotonic()"


def _reads_wall_clock(tree: ast.AST) -> bool:
    return any(name in {"time.time", "time.time_ns"} for name, _ in calls(tree))


def swallowed_write_errors(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """The one chance to learn that bytes were lost is the error of write, fsync or close."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and _writes(node.body):
            for handler in node.handlers:
                if _catches_os_errors(handler.type) and _does_nothing(handler.body):
                    yield handler.lineno, "an error of write, fsync or close is passed over"
        if isinstance(node, ast.With) and _writes(node.body):
            for item in node.items:
                context = item.context_expr
                if (
                    isinstance(context, ast.Call)
                    and dotted(context.func).endswith("suppress")
                    and any(_catches_os_errors(argument) for argument in context.args)
                ):
                    yield node.lineno, "an error of write, fsync or close is suppressed"


def _writes(body: list[ast.stmt]) -> bool:
    writers = {"write", "writelines", "write_all", "writev", "pwrite", "fsync", "fdatasync", "close", "flush"}
    return any(name.rpartition(".")[2] in writers for statement in body for name, _ in calls(statement))


def _catches_os_errors(node: ast.expr | None) -> bool:
    if node is None:
        return True
    kinds = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(
        dotted(kind) in {"OSError", "IOError", "EnvironmentError", "Exception", "BaseException"} for kind in kinds
    )


def _does_nothing(body: list[ast.stmt]) -> bool:
    return all(
        isinstance(statement, ast.Pass | ast.Continue)
        or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for statement in body
    )


def _is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and not node.value


CHECKS: list[Check] = [
    forbidden_calls,
    forbidden_imports,
    modification_times,
    polling_with_exists,
    wall_clock_decisions,
    swallowed_write_errors,
]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_package_has_none_of(check: Check) -> None:
    """reliability: what cannot be relied on is not called."""
    found = [
        f"{where(path, line)} {text}"
        for path in package_files()
        if (path.relative_to(PACKAGE).as_posix(), check.__name__) not in EXCEPTIONS
        for line, text in check(syntax(path))
    ]
    report(found, "Forbidden here:")


def test_pipes_to_the_driver_are_no_pickles() -> None:
    """The driver's frames are JSON and bytes: the worker never unpickles what user code made."""
    pickles = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "multiprocessing"}
    found = [
        f"{where(DRIVER, item.line)} imports {item.module}"
        for item in imports(DRIVER)
        if item.module.split(".")[0] in pickles
    ]
    report(found, "No pickles on the pipes:")


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (forbidden_calls, "import os\nos.replace('a', 'b')"),
        (forbidden_calls, "import subprocess\nsubprocess.run('ls', shell=True)"),
        (forbidden_calls, "import yaml\nyaml.load(text, Loader=L)"),
        (forbidden_imports, "from os import replace"),
        (modification_times, "if os.stat(a).st_mtime > os.stat(b).st_mtime: pass"),
        (polling_with_exists, "while not path.exists():\n    sleep(1)"),
        (wall_clock_decisions, "def f():\n    start = time.time()\n    return start > limit"),
        (swallowed_write_errors, "try:\n    os.fsync(fd)\nexcept OSError:\n    pass"),
        (swallowed_write_errors, "with contextlib.suppress(OSError):\n    os.close(fd)"),
    ],
)
def test_the_checks_see_what_they_look_for(check: Check, source: str) -> None:
    """A check that never fires proves nothing."""
    assert list(check(ast.parse(source)))


def test_paths_of_the_checks_are_real() -> None:
    """The package and the driver are where these tests look for them."""
    assert package_files()
    assert Path(DRIVER).is_file()
