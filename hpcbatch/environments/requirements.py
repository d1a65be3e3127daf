"""What pip has to install for an environment: from a conda file, or from the files that MLflow saves with a model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.fs import scan
from hpcbatch.spec.yamlfile import load

_PYTHON = re.compile(r"python\s*(?:[=~<>!]=?|===)\s*=?\s*(\d+(?:\.\d+)*)")
_OPTION = re.compile(r"(-r|--requirement|-c|--constraint|-f|--find-links|-e|--editable)(?:\s+|=|(?<=-[rcfe]))(\S.*)\Z")
_BUILT_IN = {"python", "pip", "setuptools", "wheel"}
_MAX_DEPTH = 10


@dataclass(frozen=True)
class Requirements:
    """Lines for `pip install -r`, complete in themselves: no file is included any more, local paths are absolute."""

    source: str  # where they are from, for messages
    lines: tuple[str, ...]
    python: str | None = None  # the version that was asked for
    not_pip: tuple[str, ...] = ()  # what conda would have installed

    def document(self) -> dict[str, Any]:
        """For JSON; `of_document` reads it."""
        return {**asdict(self), "lines": list(self.lines), "not_pip": list(self.not_pip)}


def of_document(document: Mapping[str, Any] | None) -> Requirements | None:
    """What `Requirements.document` returned."""
    if document is None:
        return None
    lines, not_pip = tuple(document["lines"]), tuple(document["not_pip"])
    return Requirements(document["source"], lines, document["python"], not_pip)


def of_conda(conda: Mapping[str, Any], folder: Path, source: str) -> Requirements | None:
    """The pip part of a conda file that lies in *folder*; None if it has none. Raises SpecError."""
    lines: list[str] = []
    others: list[str] = []
    python = None
    for one in conda.get("dependencies") or ():
        if isinstance(one, Mapping):
            lines += _expanded([str(line) for line in one.get("pip") or ()], folder, source)
        else:
            found = _PYTHON.match(str(one))
            python = found[1] if found else python
            if re.split(r"[\s=<>!~\[]", str(one).rpartition("::")[2])[0] not in _BUILT_IN:
                others.append(str(one))
    return Requirements(source, tuple(lines), python, tuple(others)) if lines else None


def of_model(folder: Path) -> Requirements | None:
    """What an MLflow model needs, by its requirements.txt, else its conda.yaml, else its python_env.yaml; None if it
    does not say.
    """
    names = scan.names(folder)
    conda = load(folder / "conda.yaml").data if "conda.yaml" in names else {}
    found = of_conda(conda, folder, str(folder / "conda.yaml"))
    env = load(folder / "python_env.yaml").data if "python_env.yaml" in names else {}
    python = str(env["python"]) if env.get("python") else found.python if found else None
    if "requirements.txt" in names:
        lines = _file(folder / "requirements.txt", 0)
        return Requirements(str(folder / "requirements.txt"), tuple(lines), python) if lines else None
    if found is None and env.get("dependencies"):
        source = str(folder / "python_env.yaml")
        lines = _expanded([str(line) for line in env["dependencies"]], folder, source)
        return Requirements(source, tuple(lines), python)
    return found


def _file(path: Path, depth: int) -> list[str]:
    if depth > _MAX_DEPTH:
        hint = "Take the circle out: a requirements file must not include itself."
        raise SpecError(f"{path} is included more than {_MAX_DEPTH} deep.", hint=hint, file=str(path))
    text = scan.read_document(path).decode("utf-8", "replace").replace("\\\n", "")
    return _expanded(text.splitlines(), path.parent, str(path), depth)


def _expanded(lines: Sequence[str], folder: Path, source: str, depth: int = 0) -> list[str]:
    found: list[str] = []
    for line in lines:
        stripped = re.sub(r"(^|\s+)#.*", "", line).strip()
        if stripped:
            found += _one(stripped, folder, source, depth)
    return found


def _one(line: str, folder: Path, source: str, depth: int) -> Iterator[str]:
    match = _OPTION.match(line)
    if match is None:
        path = folder / line
        local = line.startswith((".", "/", "~")) or ("/" in line and "://" not in line and "@" not in line)
        yield str(_existing(path, line, source)) if local else line
    elif "://" in match[2] or (match[2].startswith("git+")):
        yield line
    elif match[1] in ("-r", "--requirement"):
        yield from _file(_existing(folder / match[2], line, source), depth + 1)
    else:
        yield f"{match[1]} {_existing(folder / match[2], line, source)}"


def _existing(path: Path, line: str, source: str) -> Path:
    found = path.expanduser().absolute()
    if not found.exists():
        raise SpecError(
            f"{line!r} names {str(found)!r}, which does not exist.",
            hint="Relative paths start at the folder of the file. Correct it, and run the same command again.",
            file=source, found=line, allowed="an existing file or folder",
        )  # fmt: skip
    return found
