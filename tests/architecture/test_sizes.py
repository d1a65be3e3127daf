"""Hard stops for sizes, and names that say nothing."""

from __future__ import annotations

import ast
import re
import tokenize

from tests.architecture.tree import package_files, python_files, report, syntax, where

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_POSITIONAL = 5
EMPTY_NAMES = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc", "base_utils"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_no_file_is_longer_than_400_lines() -> None:
    """A reader holds one file in mind; beyond that, a floor is missing a name."""
    found = [
        f"{where(path, lines)} lines"
        for path in python_files()
        if (lines := len(path.read_bytes().splitlines())) > MAX_FILE_LINES
    ]
    report(found, f"More than {MAX_FILE_LINES} lines:")


def test_no_function_is_longer_than_50_lines() -> None:
    """Decide in pure functions, act at the edge: neither is long."""
    found = [
        f"{where(path, node.lineno)} {node.name}: {length} lines"
        for path in python_files()
        for node in ast.walk(syntax(path))
        if isinstance(node, Function) and (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    report(found, f"More than {MAX_FUNCTION_LINES} lines:")


def test_no_function_takes_more_than_five_positional_parameters() -> None:
    """After five, a frozen dataclass or keyword-only parameters."""
    found = [
        f"{where(path, node.lineno)} {node.name}: {count}"
        for path in python_files("hpcbatch", "slurm")
        for node in ast.walk(syntax(path))
        if isinstance(node, Function) and (count := _positional(node)) > MAX_POSITIONAL
    ]
    report(found, f"More than {MAX_POSITIONAL} positional parameters:")


def _positional(node: Function) -> int:
    names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
    return len(names[1:] if names[:1] in (["self"], ["cls"]) else names)


def test_names_of_modules_say_what_is_inside() -> None:
    """If a function has no home, a room is missing a name; `utils` is not one."""
    found = [
        where(path, 1)
        for path in python_files("hpcbatch", "slurm", "tests")
        if set(re.split(r"[_.]", path.stem.lower())) & EMPTY_NAMES
        or EMPTY_NAMES & {part.lower() for part in path.parent.parts[-2:]}
    ]
    report(found, "Modules whose names say nothing:")


def test_no_init_files_among_the_tests() -> None:
    """Tests are found by path (import-mode=importlib), so that two files may have the same name."""
    report([where(path, 1) for path in python_files("tests") if path.name == "__init__.py"], "Not needed:")


def test_every_exception_from_a_rule_carries_its_code_and_its_reason() -> None:
    """`# noqa: BLE001 - reason` and `# type: ignore[code]  # reason`: the next reader judges them."""
    found = []
    for path in package_files():
        with path.open("rb") as file:
            found += [
                f"{where(path, token.start[0])} {token.string}"
                for token in tokenize.tokenize(file.readline)
                if token.type == tokenize.COMMENT and not _reasoned(token.string)
            ]
    report(found, "Without a code or a reason:")


def _reasoned(comment: str) -> bool:
    if "noqa" in comment and not re.search(r"noqa: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)*\W+\w{2,}", comment):
        return False
    return "type: ignore" not in comment or bool(re.search(r"type: ignore\[[a-z-]+(, ?[a-z-]+)*\]\s+# \w{2,}", comment))


def test_catching_everything_says_why() -> None:
    """`except Exception` has a comment beside it; a bare except is refused."""
    found = []
    for path in package_files():
        lines = path.read_text("utf-8").splitlines()
        for node in ast.walk(syntax(path)):
            if not isinstance(node, ast.ExceptHandler):
                continue
            if isinstance(node.body[-1], ast.Raise) and node.type is not None:
                continue  # passes on what it caught
            if node.type is None:
                found.append(f"{where(path, node.lineno)} bare except")
            elif isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}:
                near = lines[node.lineno - 1 : node.lineno + 1]
                if not any("#" in line for line in near):
                    found.append(f"{where(path, node.lineno)} except {node.type.id} without a reason")
    report(found, "Catches everything:")


def test_no_finalisers() -> None:
    """Crash-only: what must happen at the end may not happen at all."""
    found = [
        where(path, node.lineno)
        for path in package_files()
        for node in ast.walk(syntax(path))
        if isinstance(node, Function) and node.name == "__del__"
    ]
    report(found, "__del__:")
