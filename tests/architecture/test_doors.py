"""One door per outside library and per dangerous kind of write; docs/how-we-write-code.md says why."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import DRIVER, MLFLOW_SCRIPT, PACKAGE, calls, dotted, imports, package_files, report, where

DOORS = {
    "submitit": ("scheduler/",),
    "cloudpickle": ("scheduler/",),
    "fsspec": ("dataio/",),
    "pyarrow": ("dataio/",),
    "yaml": ("spec/",),
    "pydantic": ("spec/",),
    "mlflow": ("tracking.py", "tracking/"),
    "mpi4py": ("worker/",),
    "pathspec": ("registry/",),
}
# What runs under the interpreter of a user's environment, and what it may import there, when a function is called.
THERE: dict[Path, set[str]] = {
    DRIVER: set(),
    PACKAGE / "scoring" / "output_files.py": set(),
    PACKAGE / "scoring" / "output_watch.py": set(),
    PACKAGE / "scoring" / "row_formats.py": {"pyarrow"},
    MLFLOW_SCRIPT: {"mlflow", "numpy", "pandas", "PIL", "hpcbatch_driver"},
}
MAY_CREATE_FILES = {
    "fs/": "the door itself",
    "worker/scratch.py": "fills a folder of its own process on the node, which nobody else reads",
    "scoring/driver.py": "imports nothing of ours; writes into a folder of its own process",
    "scoring/output_files.py": "as the driver",
}
WRITING_CALLS = {
    "os.link", "os.rename", "os.renames", "os.replace", "os.symlink", "os.truncate", "os.mkfifo", "os.mknod",
    "shutil.move", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree",
}  # fmt: skip
WRITING_METHODS = {
    "write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "rename",
}  # fmt: skip


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("library", sorted(DOORS))
def test_a_library_is_imported_behind_its_door_only(library: str) -> None:
    """Whoever wants another version, a replacement or a lazy import of a library finds it in one room."""
    found = [
        f"{where(path, item.line)} imports {item.module}"
        for path in package_files()
        if not _room(path).startswith(DOORS[library])
        for item in imports(path)
        if item.module.split(".")[0] == library and not (item.lazy and library in THERE.get(path, ()))
    ]
    report(found, f"{library} is imported in {' and '.join(DOORS[library])} only:")


def test_print_lives_in_render_only() -> None:
    """stdout is the answer, and one module decides what it looks like."""
    found = [
        where(path, call.lineno)
        for path in package_files()
        if _room(path) != "cli/render.py"
        for name, call in calls(ast.parse(path.read_bytes()))
        if name == "print"
    ]
    report(found, "print() is called in cli/render.py only:")


def test_files_are_created_in_fs_only() -> None:
    """Whatever another process may read is created by fs/, which does it once, whole and durably."""
    found = [
        f"{where(path, call.lineno)} {name}"
        for path in package_files()
        if not _room(path).startswith(tuple(MAY_CREATE_FILES))
        for name, call in calls(ast.parse(path.read_bytes()))
        if _creates(name, call)
    ]
    found += [
        f"{where(path, node.lineno)} O_CREAT"
        for path in package_files()
        if not _room(path).startswith(tuple(MAY_CREATE_FILES))
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr == "O_CREAT"  # also in flags that os.open is given later
    ]
    report(found, "Files are created, linked, renamed and opened for writing in fs/ only:")


def _creates(name: str, call: ast.Call) -> bool:
    if name in WRITING_CALLS or name.rpartition(".")[2] in WRITING_METHODS:
        return True
    if name.endswith(".replace") and name != "dataclasses.replace":  # Path.replace has one argument, str.replace two
        return len(call.args) == 1 and not call.keywords
    if name == "os.open" and dotted(call.args[0]) != "os.devnull":
        return any(isinstance(n, ast.Attribute) and n.attr in {"O_CREAT", "O_WRONLY", "O_RDWR"} for n in ast.walk(call))
    if name in {"open", "io.open", "os.fdopen", "gzip.open"} or name.endswith(".open"):
        return _mode_writes(name, call)
    return False


def _mode_writes(name: str, call: ast.Call) -> bool:
    method = name.endswith(".open") and name.split(".", maxsplit=1)[0] not in {"io", "gzip"}
    position = 0 if method else 1
    modes = [*call.args[position : position + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    if any(isinstance(a, ast.Name) and a.id in {"fd", "descriptor"} for a in call.args[:1]):
        return False  # a descriptor that fs/ opened
    return any(isinstance(m, ast.Constant) and isinstance(m.value, str) and set(m.value) & set("wax+") for m in modes)


@pytest.mark.parametrize("path", THERE, ids=lambda path: path.stem)
def test_the_driver_needs_nothing_but_a_python(path: Path) -> None:
    """It runs in the user's environment, where nothing of ours is installed and Python may be 3.8."""
    allowed = set(sys.stdlib_module_names)
    found = [
        f"{where(path, item.line)} imports {item.module}"
        for item in imports(path)
        if item.module.split(".")[0] not in allowed and not (item.lazy and item.module.split(".")[0] in THERE[path])
    ]
    report(found, "The driver imports the standard library only:")


@pytest.mark.parametrize("path", THERE, ids=lambda path: path.stem)
def test_the_driver_speaks_python_3_8(path: Path) -> None:
    """Neither its grammar nor the names it uses are newer than Python 3.8."""
    tree = ast.parse(path.read_bytes(), feature_version=(3, 8))
    newer = {"removeprefix", "removesuffix", "bit_count", "pairwise", "batched", "is_relative_to", "with_stem"}
    found = [
        f"{where(path, node.lineno)} .{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in newer
    ]
    found += [
        f"{where(path, call.lineno)} {name}({keyword.arg}=)"
        for name, call in calls(tree)
        for keyword in call.keywords
        if (name, keyword.arg) in {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only")}
        or name in {"functools.cache", "aiter", "anext"}
    ]
    modern = {"tomllib", "zoneinfo", "graphlib"}
    found += [f"{where(path, item.line)} imports {item.module}" for item in imports(path) if item.module in modern]
    report(found, "Newer than Python 3.8:")
    if any((isinstance(n, ast.arg | ast.AnnAssign) and n.annotation) or _returns(n) for n in ast.walk(tree)):
        futures = [n for n in tree.body if isinstance(n, ast.ImportFrom) and n.module == "__future__"]
        assert futures, "annotations such as list[str] need `from __future__ import annotations` there"


def _returns(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and node.returns is not None
