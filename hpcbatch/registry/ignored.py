"""What the ignore file of a folder leaves out of its snapshot, by Azure ML's rules (azure-ai-ml, `_asset_utils.py`).

`.amlignore` at the top of the folder counts; where there is none, `.gitignore` at the top. The patterns are git's.
Of several that match a file the last decides, also where it lets in a file of a folder that is left out: git does not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.fs.scan import names, read_document

FILES = (".amlignore", ".gitignore")
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Ignored:
    """The rules of one ignore file."""

    file: Path
    spec: Any  # pathspec.PathSpec
    lets_in: bool  # whether there is a `!` pattern: then a folder that is left out may still hold files that are not

    def leaves_out(self, name: str, *, is_folder: bool = False, is_link: bool = False) -> bool:
        """Whether the file *name*, relative to the folder of the ignore file, is left out; of a folder, whether all
        that is in it is. A link is left out as a file or as a folder: it may lead to either, or nowhere.
        """
        if is_folder and self.lets_in:
            return False
        as_folder = (is_folder or is_link) and self.spec.match_file(f"{name}/")
        return bool(as_folder or (not is_folder and self.spec.match_file(name)))


def ignored_in(folder: Path) -> Ignored | None:
    """The rules for *folder*; None if it has no ignore file. Raises SpecError for a line that is no pattern."""
    there = set(names(folder))
    name = next((one for one in FILES if one in there), None)
    if name is None:
        return None
    import pathspec

    file = folder / name
    patterns: list[Any] = []
    for number, line in enumerate(_lines(file), start=1):
        try:
            patterns += pathspec.PathSpec.from_lines("gitignore", [line]).patterns
        except ValueError as error:
            raise SpecError(
                f"{line!r} is no pattern: {error}",
                hint=f"Correct {file}, line {number}, and run the same command again.",
                file=str(file), line=number, found=line, allowed="patterns as git's .gitignore has them",
            ) from error  # fmt: skip
    kept = [one for one in patterns if one.include is not None]
    return Ignored(file, pathspec.PathSpec(kept), any(one.include is False for one in kept))


def _lines(file: Path) -> list[str]:
    raw = read_document(Path(os.path.realpath(file)), _MAX_BYTES)
    return raw.decode("utf-8-sig", "replace").splitlines()
