"""Whose is a folder? In a workspace that many write, a name may be somebody else's trap."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from hpcbatch.errors import FilesystemError

_MAX_LINKS = 40  # as path_resolution(7)
_OPEN = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def user_name(uid: int | None = None) -> str:
    """The name of the user *uid*, by default of whoever runs this process; the number where nobody knows a name for it,
    as in a container.
    """
    number = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


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


@contextlib.contextmanager
def pinned(folder: Path) -> Iterator[Path]:
    """Another path of the absolute *folder*, which goes on naming that very folder whatever is renamed or linked.

    It is found name by name, and a symbolic link is followed only if this user, root, or the owner of the folder that
    holds it made it: the kernel's rule for /tmp (`fs.protected_symlinks`), kept in every folder. Raises FilesystemError
    for any other link, OSError for what is not there or no folder. The path is good inside the `with`, in this process.
    """
    here, at = os.open("/", _OPEN), Path("/")
    left = list(reversed(folder.parts[1:]))
    links = 0
    try:
        while left:
            name = left.pop()
            below, target = _step(here, at, name)
            if target is None:
                os.close(here)
                here, at = below, at / name
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(folder))
            if target.startswith("/"):
                os.close(here)
                here, at = os.open("/", _OPEN), Path("/")
            left.extend(part for part in reversed(target.split("/")) if part not in ("", "."))
        yield Path(f"/proc/self/fd/{here}")
    finally:
        os.close(here)


def _step(here: int, at: Path, name: str) -> tuple[int, str | None]:
    """The folder *name* in the open folder *here*, whose path is *at*, opened; or (-1, where that link leads)."""
    try:
        # O_DIRECTORY mounts what an automounter has there; a link is ENOTDIR then.
        return os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=here), None
    except NotADirectoryError:
        pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(at / name)) from None
    fd = os.open(name, _OPEN, dir_fd=here)  # the link itself: owner and target are of one and the same
    try:
        found = os.fstat(fd)
        if not stat.S_ISLNK(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(at / name))
        if found.st_uid not in (os.geteuid(), 0, os.fstat(here).st_uid):
            raise _trap(at / name, f"is a symbolic link that user {found.st_uid} made")
        return -1, os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)


def _trap(folder: Path, what: str) -> FilesystemError:
    return FilesystemError(
        f"{str(folder)!r} {what}; nothing was written there.",
        hint=f"Ask its owner to remove it, or choose another folder; it is here: ls -ld {folder}",
        path=str(folder),
    )
