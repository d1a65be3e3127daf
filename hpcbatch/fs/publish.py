"""Publish whole files and directories: there completely, or not at all; the first writer wins."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hpcbatch.errors import FilesystemError, HpcBatchError

_TEMP_PREFIX = ".tmp-"
_BLOCK_BYTES = 1 << 20


def temp_name(owner: str = "") -> str:
    """A file name that no other process has and that every listing of ours skips; begins with *owner* after a dot."""
    return (left_over_prefix(owner) if owner else _TEMP_PREFIX) + os.urandom(16).hex()


def left_over_prefix(owner: str) -> str:
    """What the names begin with that `temp_name` makes for *owner*."""
    return f"{_TEMP_PREFIX}{owner}-"


def is_temp(name: str) -> bool:
    """Whether *name* was made by `temp_name`: left over from a killed writer, never to be read."""
    return name.startswith(_TEMP_PREFIX)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write every byte of *data* or raise; a short write is continued, never dropped."""
    done = os.write(fd, data)
    if done == len(data):
        return
    view = memoryview(data)
    while done < len(view):
        done += os.write(fd, view[done:])


def create_exclusive(path: Path | str, mode: int = 0o600) -> int:
    """Open a file that did not exist for appending by this process alone. Raises FileExistsError if it did."""
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(path, flags, mode)


def fsync_directory(path: Path | str) -> None:
    """Make the entries of the directory *path* durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some filesystems have no directory fsync
            raise
    finally:
        os.close(fd)


def fsync_file(path: Path | str) -> None:
    """Make the bytes of the file *path* durable, whoever wrote them."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def staged(folder: Path, mode: int = 0o600, owner: str = "") -> Iterator[tuple[Path, io.FileIO]]:
    """A private temporary file in *folder*: (its path, open for writing and reading back). Gone at the end whatever
    happened, but for SIGKILL: then `remove_left_over` of the same *owner* finds it.
    """
    path = folder / temp_name(owner)
    # Not O_APPEND: copy_file_range(2) refuses such a file.
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    try:
        with open(fd, "w+b", buffering=0) as file:
            os.fchmod(fd, mode)  # whatever the umask
            yield path, file
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def remove_left_over(folder: Path, owner: str) -> None:
    """Remove the temporary files in *folder* that `staged` made for *owner*, of processes that were killed.

    One that is alive loses its file too: its link finds nothing to link, and it has to begin again.
    """
    prefix = left_over_prefix(owner)
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(prefix)]
    except FileNotFoundError:
        return
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)


def link_once(temp: Path, path: Path) -> bool:
    """Give the finished file *temp* the name *path* unless that name is taken. True if it was this call that did.

    NFS may lose the reply to a link that succeeded, so after an error the link count of *temp* decides (link(2), BUGS).
    """
    before = os.stat(temp).st_nlink
    try:
        os.link(temp, path, follow_symlinks=False)
    except OSError as error:
        if os.stat(temp).st_nlink == before + 1:
            return True
        if isinstance(error, FileExistsError):
            return False
        raise
    return True


def create_once(path: Path, content: bytes, mode: int = 0o600) -> bool:
    """Publish *content* at *path* unless something is already there.

    On return the file at *path* is whole and durable, whoever wrote it. False means that another writer was first.
    """
    with explained(path), staged(path.parent, mode) as (temp, file):
        write_all(file.fileno(), content)
        os.fsync(file.fileno())
        first = link_once(temp, path)
        if first:
            os.unlink(temp)
        fsync_directory(path.parent)
        return first


def publish_directory(path: Path, fill: Callable[[Path], None], mode: int = 0o700) -> bool:
    """Build a directory aside with *fill* and give it the name *path*; False if *path* was there already.

    The rename goes to a name that did not exist: rename(2) refuses to replace a directory that is not empty, and *fill*
    must leave at least one entry. Files that *fill* makes must be durable when it returns.
    """
    with explained(path):
        temp = path.parent / temp_name()
        os.mkdir(temp, 0o700)
        try:
            fill(temp)
            os.chmod(temp, mode)
            fsync_directory(temp)
            if os.path.lexists(path):
                return False
            ours = os.stat(temp)
            try:
                os.rename(temp, path)  # publishes: refuses a non-empty directory, so it never replaces one
            except OSError as error:
                # NFS may lose the reply to a rename that succeeded (rename(2), BUGS).
                if not (path.is_dir() and os.path.samestat(os.stat(path), ours)):
                    if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                        return False
                    raise
        finally:
            remove_tree(temp)
        fsync_directory(path.parent)
        return True


def write_durably(path: Path, content: bytes) -> None:
    """A new private file with *content*, for a folder that is being filled aside. Raises FileExistsError."""
    fd = create_exclusive(path)
    try:
        write_all(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)


def open_log(path: Path) -> int:
    """Open a file for appending that others may be appending to as well: text for people only."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)


def write_program(path: Path, content: bytes) -> None:
    """A new executable file of this user in a private folder. Raises FileExistsError."""
    fd = create_exclusive(path, 0o700)
    try:
        write_all(fd, content)
    finally:
        os.close(fd)


def symlink_once(path: Path, target: str) -> bool:
    """Make *path* a symbolic link to *target* unless the name is taken; False if it is."""
    with explained(path):
        try:
            os.symlink(target, path)
        except FileExistsError:
            return False
        fsync_directory(path.parent)
        return True


def copy_bytes(source: Path, fd: int) -> None:
    """Write every byte of the file *source* to *fd*, or raise: what is written short is continued."""
    with open(source, "rb", buffering=0) as origin:
        while block := origin.read(_BLOCK_BYTES):
            write_all(fd, block)


def copy_tree(source: Path, target: Path) -> None:
    """Copy the files below *source* into the private folder *target*, durably."""
    for folder, folders, names in os.walk(source):
        inside = target / os.path.relpath(folder, source)
        for name in folders:
            os.mkdir(inside / name, 0o700)
        for name in names:
            fd = create_exclusive(inside / name)
            try:
                copy_bytes(Path(folder, name), fd)
                os.fsync(fd)
            finally:
                os.close(fd)


def sync_tree(path: Path, at_most: int = 10_000) -> bool:
    """Make the files below *path* durable; False, and only some are, if there are more than *at_most*."""
    left = at_most
    for folder, _, names in os.walk(path):
        left -= len(names)
        if left < 0:
            return False
        for name in names:
            if stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode):
                fsync_file(f"{folder}/{name}")
        fsync_directory(folder)
    return True


def make_directory(path: Path, mode: int = 0o700) -> None:
    """Make *path* and its missing parents; the mode is the given one whatever the umask. Existing ones are left
    alone.
    """
    with explained(path):
        missing = []
        at = path
        while not at.is_dir():
            missing.append(at)
            at = at.parent
        for folder in reversed(missing):
            try:
                os.mkdir(folder, mode)
            except FileExistsError:
                if os.path.isfile(folder):
                    raise NotADirectoryError(errno.ENOTDIR, "", str(folder)) from None
                continue
            os.chmod(folder, mode)


def remove_tree(path: Path) -> None:
    """Remove a private tree of this process's own; missing is fine. Never used on what others may be reading."""
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            os.unlink(path)
            return
        os.chmod(path, 0o700)
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries]
        for name in names:
            remove_tree(path / name)
        os.rmdir(path)
    except FileNotFoundError:
        return


@contextlib.contextmanager
def explained(path: Path | str) -> Iterator[None]:
    """Turn an OSError about *path* into a FilesystemError that says what to do about it."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise filesystem_error(error, path) from error


_HINTS = {
    errno.ENOSPC: "The filesystem is full. Free some space there (`df -h`, `df -i`), then run the same command again.",
    errno.EDQUOT: "Your quota is used up. Free some space (`quota -s`), then run the same command again.",
    errno.EACCES: "You lack the permission (`ls -ld`). Ask its owner for it, or choose another place.",
    errno.EPERM: "You lack the permission (`ls -ld`). Ask its owner for it, or choose another place.",
    errno.EROFS: "That filesystem is mounted read-only here. Choose another folder.",
    errno.ENOENT: "It does not exist. Check the path.",
    errno.ENOTDIR: "A part of the path is a file, not a folder. Check the path.",
    errno.ESTALE: "The file server replaced it while it was in use. Run the same command again.",
    errno.EIO: "The file server reported an input/output error. Run the same command again when it is healthy.",
}


def says_full(error: OSError | HpcBatchError) -> bool:
    """Whether *error* says that a filesystem is full, or a quota used up: trying again helps when there is space."""
    number = error.errno if isinstance(error, OSError) else error.fields.get("errno")
    return number in (errno.ENOSPC, errno.EDQUOT)


def filesystem_error(error: OSError, path: Path | str) -> FilesystemError:
    """The FilesystemError for *error*: names the path and the reason, ends in what to do."""
    named = (
        isinstance(error.filename, str)
        and not error.filename.startswith("/proc/self/fd/")  # a pinned folder
        and not any(is_temp(part) for part in error.filename.split("/"))
    )
    target = error.filename if named else path
    reason = os.strerror(error.errno) if error.errno else str(error)
    return FilesystemError(
        f"Cannot use {str(target)!r}: {reason}.",
        hint=_HINTS.get(error.errno or 0, "Check the path and the filesystem, then run the same command again."),
        path=str(target),
        errno=error.errno,
    )
