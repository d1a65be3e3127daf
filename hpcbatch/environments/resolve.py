"""From an environment, as Azure ML names it, to an interpreter that exists here."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcbatch.environments.build import Base, Say, base_for, build, digest_of, find_built
from hpcbatch.environments.requirements import Requirements, of_document, of_model
from hpcbatch.errors import SpecError
from hpcbatch.fs.publish import explained


@dataclass(frozen=True)
class ResolvedEnvironment:
    """An interpreter, and why it was chosen: `registered`, `map '<glob>'`, `built from <file>` or `own`. `python` is ""
    as long as it is not built; `requirements` and `base` say how to.
    """

    name: str
    python: str
    origin: str
    requirements: Requirements | None = None
    base: Base | None = None


def resolve_environment(
    environment: Mapping[str, Any] | None,
    maps: Sequence[Mapping[str, str]],
    *,
    root: Path,
    model_name: str | None = None,
    mlflow_model: Path | None = None,
) -> tuple[ResolvedEnvironment, tuple[str, ...]]:
    """The interpreter for *environment* and what the user should be warned about. Builds nothing.

    Its own `python` wins, then the first map whose glob matches its name, its image or, without an environment,
    `mlflow:<model name>`; then an environment built below *root* from its conda file or from what the *mlflow_model*
    asks for; then our own interpreter. Raises SpecError if the one chosen cannot be run.
    """
    found = environment or {}
    name = str(found.get("name") or "")
    candidates = [text for text in (name, found.get("image")) if text]
    if environment is None and model_name:
        candidates = [f"mlflow:{model_name}"]
    shown = name or (str(candidates[0]) if candidates else "none")
    if found.get("python"):
        python = interpreter(str(found["python"]), f"environment {shown!r}")
        return ResolvedEnvironment(shown, python, "registered"), ()
    for one in maps:
        if one["glob"] == "*" or any(fnmatch.fnmatchcase(text, one["glob"]) for text in candidates):
            python = interpreter(one["python"], f"environment map {one['glob']!r}")
            return ResolvedEnvironment(shown, python, f"map {one['glob']!r}"), ()
    requirements = of_document(found.get("requirements")) or (of_model(mlflow_model) if mlflow_model else None)
    if requirements is not None:
        base = base_for(requirements)
        python = find_built(root, digest_of(requirements, base)) or ""
        chosen = ResolvedEnvironment(shown, python, f"built from {requirements.source}", requirements, base)
        return chosen, base.warnings
    warning = (
        f"Nothing says which Python has environment {shown!r}, so hpcbatch's own ({sys.executable}) is used. "
        f"To choose another: hpcbatch environment map '{candidates[0] if candidates else '*'}' --python /path/to/venv"
    )
    return ResolvedEnvironment(shown, interpreter(sys.executable, "hpcbatch itself"), "own"), (warning,)


def built(environment: ResolvedEnvironment, root: Path, say: Say) -> ResolvedEnvironment:
    """*environment* with its interpreter, built below *root* if it has to be. Raises SpecError with what pip said."""
    if environment.python or environment.requirements is None or environment.base is None:
        return environment
    return replace(environment, python=build(root, environment.requirements, environment.base, say))


def interpreter(path: str, where: str) -> str:
    """The absolute path of the interpreter *path*, or of the one in the prefix *path*.

    Symbolic links are kept: a venv is known by the name its interpreter is called by. Raises SpecError, which says
    *where* the path is from, and FilesystemError for a folder that this user may not enter.
    """
    expanded = Path(os.path.abspath(os.path.expanduser(path)))
    with explained(expanded):
        tried = [expanded / "bin" / name for name in ("python", "python3")] if expanded.is_dir() else [expanded]
        for one in tried:
            if one.is_file() and os.access(one, os.X_OK):
                return str(one)
        reason = "is not executable" if tried[0].is_file() else "does not exist"
    raise SpecError(
        f"The interpreter {str(tried[0])!r} of {where} {reason}.",
        hint="Give the path of a Python interpreter, or of a venv or conda prefix that holds bin/python.",
        field="python",
        found=path,
        allowed="an executable Python, or a folder that holds bin/python",
    )
