"""Whose is a folder? In a workspace that many write, a name may be somebody else's trap."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hpcbatch.errors import FilesystemError


def require_own_folder(folder: Path) -> None:
    """Return if *folder* is this user's and nobody else may write it. Raises FilesystemError with what to ask for.

    What somebody else made under the user's name could be replaced under the user's feet later.
    """
    link, found = os.lstat(folder), os.stat(folder)
    trusted = (os.geteuid(), 0)
    if stat.S_ISLNK(link.st_mode) and link.st_uid not in trusted:
        raise _trap(folder, f"is a symbolic link that user {link.st_uid} made")
    if found.st_uid != os.geteuid():
        raise _trap(folder, f"belongs to user {found.st_uid}")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FilesystemError(
            f"Others may write in {str(folder)!r}.", hint=f"Take that right away: chmod go-w {folder}", path=str(folder)
        )


def refuse_links_of_others(folder: Path, levels: int) -> None:
    """Return if neither *folder* nor *levels* above it are symbolic links of others; what is not there is none.

    Raises FilesystemError. Somebody who swaps a folder for a link right afterwards gains one file of a fixed name in a
    folder that the user may write: nothing is ever replaced.
    """
    for each in (folder, *folder.parents[:levels]):
        try:
            found = os.lstat(each)
        except FileNotFoundError:
            continue
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in (os.geteuid(), 0):
            raise _trap(each, f"is a symbolic link that user {found.st_uid} made")


def _trap(folder: Path, what: str) -> FilesystemError:
    return FilesystemError(
        f"{str(folder)!r} {what}; nothing was written there.",
        hint=f"Ask the owner of the workspace to remove it: ls -ld {folder}",
        path=str(folder),
    )
