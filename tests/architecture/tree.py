"""The source tree as these tests read it: files, syntax trees, and who imports what."""

from __future__ import annotations

import ast
import functools
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hpcbatch"
DRIVER = PACKAGE / "scoring" / "driver.py"
MLFLOW_SCRIPT = PACKAGE / "scoring" / "mlflow_model.py"


@dataclass(frozen=True)
class Import:
    """One import: the full name of the module, the line, and whether it runs only when a function is called."""

    module: str
    line: int
    lazy: bool


@functools.cache
def tracked_files() -> tuple[Path, ...]:
    """Every file of the tree that belongs to it: what git tracks or would add; without git, what is not hidden."""
    listing = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=False,
    )
    if listing.returncode == 0:
        found = {ROOT / name for name in listing.stdout.decode().split("\0") if name}
        return tuple(sorted(path for path in found if path.is_file()))
    skipped = {"__pycache__", "hpcbatch.egg-info", "build", "dist"}
    return tuple(
        sorted(
            path
            for path in ROOT.rglob("*")
            if path.is_file() and not any(p in skipped or p.startswith(".") for p in path.relative_to(ROOT).parts[:-1])
        )
    )


def python_files(*folders: str) -> list[Path]:
    """The Python files of the tree, all or below the given top-level folders."""
    files = [path for path in tracked_files() if path.suffix == ".py" or _is_python_script(path)]
    return [path for path in files if not folders or path.relative_to(ROOT).parts[0] in folders]


def _is_python_script(path: Path) -> bool:
    if path.suffix:
        return False
    with path.open("rb") as file:
        first = file.readline(100)
    return first.startswith(b"#!") and b"python" in first


def package_files() -> list[Path]:
    """The modules of hpcbatch."""
    return python_files("hpcbatch")


@functools.cache
def syntax(path: Path) -> ast.Module:
    """The syntax tree of *path*."""
    return ast.parse(path.read_bytes(), filename=str(path))


def module_name(path: Path) -> str:
    """The dotted name of a module of the tree: `hpcbatch.fs.publish`."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[Import]:
    """Every import of *path*, those inside functions included."""
    yield from _imports(syntax(path), lazy=False)


def _imports(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module:
            yield Import(child.module, child.lineno, lazy)
        else:
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, lazy=inside)


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call below *tree* with the dotted text of what is called: `os.link`, `path.write_text`, `open`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield dotted(node.func), node


def dotted(node: ast.AST) -> str:
    """`a.b.c` for names and attributes; what is computed becomes `?`: `?.write_text`."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return "?"


def where(path: Path, line: int) -> str:
    """`hpcbatch/fs/publish.py:12`, as editors and people read it."""
    return f"{path.relative_to(ROOT)}:{line}"


def report(found: list[str], rule: str) -> None:
    """Fail with every place in *found*, under the sentence that says the rule."""
    assert not found, rule + "\n  " + "\n  ".join(found)
