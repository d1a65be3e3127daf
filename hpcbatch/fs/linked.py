"""What a folder holds for somebody who is to have a copy of it: what its symbolic links lead to is part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from hpcbatch.errors import JobError


def linked_tree(root: Path) -> Iterator[tuple[str, bool]]:
    """Each name below *root*, relative to it, folders before what they hold, and whether it is a folder.

    A link to a file counts as the file, a link to a folder inside *root* as a folder of its own. Raises JobError, which
    names the link, where one leads nowhere, to a folder outside of *root*, or to a folder that it is in itself: nothing
    is left out in silence. Raises OSError for a folder that cannot be read. Nothing if *root* is no folder.
    """
    if root.is_dir():
        top = os.path.realpath(root)
        yield from _below(top, "", (top,), root)


def _below(top: str, prefix: str, above: tuple[str, ...], shown: Path) -> Iterator[tuple[str, bool]]:
    with os.scandir(above[-1]) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name = prefix + entry.name
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise _refused(shown / name, f"to {os.readlink(entry.path)!r}, which is not there")
        if not entry.is_dir():
            yield name, False
            continue
        real = os.path.realpath(entry.path)
        if not real.startswith(f"{top}/") and real != top:
            raise _refused(shown / name, f"to the folder {real!r}, outside of the output")
        if real in above:
            raise _refused(shown / name, "to a folder that it is in itself")
        yield name, True
        yield from _below(top, f"{name}/", (*above, real), shown)


def _refused(link: Path, why: str) -> JobError:
    return JobError(
        f"The output was not copied to its path: the link {str(link)!r} leads {why}.",
        hint="Let the step write a copy there (cp -rL), or remove the link; then: hpcbatch job resume --name JOB",
        path=str(link),
    )
