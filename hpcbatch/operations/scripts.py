"""Look at a scoring script without running it."""

from __future__ import annotations

import ast
import os
import zipfile
from pathlib import Path

from hpcbatch.errors import SpecError
from hpcbatch.fs.scan import read_document
from hpcbatch.registry.ignored import FILES as IGNORE_FILES


def check_script(code: Path, name: str) -> None:
    """Raises SpecError with file and line unless *name* inside *code* is Python that defines `run`.

    The script is read, never imported.
    """
    path = find_script(code, name)
    source = read_document(path.resolve())
    try:
        tree = ast.parse(source, str(path))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise SpecError(
            f"The scoring script is not valid Python: {getattr(error, 'msg', None) or error}.",
            hint="Correct it, or deploy it as it is with --skip-script-validation.",
            file=str(path),
            line=line,
            field="code_configuration.scoring_script",
            found=(getattr(error, "text", None) or "").strip(),
            allowed="valid Python",
        ) from error
    if not _defines_run(tree):
        raise SpecError(
            "The scoring script defines no function run(mini_batch).",
            hint="Add it, or deploy the script as it is with --skip-script-validation.",
            file=str(path),
            line=1,
            field="code_configuration.scoring_script",
            found="no run",
            allowed="def run(mini_batch)",
        )


def find_script(code: Path, name: str) -> Path:
    """The path of the script *name* inside *code* (a folder, or the script itself). Raises SpecError without one."""
    folder = code if code.is_dir() else code.parent
    path = Path(os.path.normpath(folder / name))
    inside = not os.path.isabs(name) and path.is_relative_to(folder)
    if inside and path.is_file() and (code.is_dir() or path == code):
        return path
    scripts = sorted(one.name for one in folder.glob("*.py")) if code.is_dir() else [code.name]
    raise SpecError(
        f"The scoring script {name!r} is not in {str(code)!r}.",
        hint=f"Found there: {', '.join(scripts[:10]) or 'no Python files'}. Correct code_configuration.",
        field="code_configuration.scoring_script",
        found=name,
        allowed="a Python file inside code",
    )


def check_kept(snapshot: Path, name: str, field: str, code: Path) -> None:
    """Raises SpecError if the *snapshot* of *code* does not hold the script *name*: it may have been left out."""
    with zipfile.ZipFile(snapshot) as archive:
        if os.path.normpath(name) in archive.namelist():
            return
    ignore = next((one for one in IGNORE_FILES if (code / one).is_file()), None)
    why = f" without what {ignore} leaves out" if ignore else ""
    let_in = f", or write !{os.path.normpath(name)} as the last line of {ignore}" if ignore else ""
    raise SpecError(
        f"{field}: the script {name!r} is not in {str(code)!r}{why}.",
        hint=f"Correct {field}{let_in}.",
        field=field,
        found=name,
        allowed="a file inside code",
    )


def _defines_run(tree: ast.Module) -> bool:
    """Whether the module may bind the name `run` at its top level: by a definition, an assignment or an import."""
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if node.name == "run":
                return True
            continue  # what is defined inside it is not at the top level
        if isinstance(node, ast.alias) and (node.asname or node.name) in ("run", "*"):
            return True
        if isinstance(node, ast.Name) and node.id == "run" and isinstance(node.ctx, ast.Store):
            return True
        pending.extend(ast.iter_child_nodes(node))
    return False
