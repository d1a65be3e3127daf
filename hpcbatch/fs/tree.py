"""A tree of files that is made aside, then given its names one by one; nothing that is there is overwritten."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.publish import (
    fsync_directory,
    fsync_file,
    left_over_prefix,
    link_once,
    make_directory,
    remove_tree,
    temp_name,
    write_all,
)

_BLOCK_BYTES = 1 << 20
_SYNCS_AT_ONCE = 32
_CLASH = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR)


class NameClash(Exception):
    """A name is a file's and a folder's at once."""


class Swept(Exception):
    """Another process of the same owner took this tree for that of a dead one and removed it."""


class StagedTree:
    """Files below a private folder; their sizes by name, in the order in which they were begun."""

    def __init__(self, root: Path, mode: int) -> None:
        self._root = root
        self._mode = mode
        self.sizes: dict[str, int] = {}
        self._folders = {root}

    def append(self, name: str, blocks: Iterable[bytes]) -> None:
        """Append *blocks* to the file *name*, which they make if there is none. Raises NameClash."""
        path = self._root / name
        with self._unswept(name):
            if path.parent not in self._folders:
                os.makedirs(path.parent, 0o700, exist_ok=True)
                self._folders.add(path.parent)
            flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            fd = os.open(path, flags, self._mode)
        try:
            if name not in self.sizes:
                os.fchmod(fd, self._mode)  # whatever the umask
            self.sizes.setdefault(name, 0)
            for block in blocks:
                write_all(fd, block)
                self.sizes[name] += len(block)
        finally:
            os.close(fd)

    def publish(self, folder: Path, shown: Path) -> None:
        """Give every file its name in *folder*; on return they are there, whole and durable, whoever put them there.

        Raises FilesystemError, which calls the folder *shown*, if a name there is taken by something else.
        """
        from concurrent.futures import ThreadPoolExecutor  # most merges have no tree, and it brings logging along

        folders = {folder}
        # At once, because a filesystem makes many files durable in the time that it needs for one.
        with self._unswept(""), ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
            for _ in pool.map(lambda name: fsync_file(self._root / name), self.sizes):
                pass
        for name in self.sizes:
            target = folder / name
            with self._unswept(name):
                if target.parent not in folders:
                    make_directory(target.parent, self._mode | self._mode >> 2 & 0o111)
                    folders.update(above for above in target.parents if above.is_relative_to(folder))
                if not link_once(self._root / name, target) and not _same_bytes(self._root / name, target):
                    raise FilesystemError(
                        f"{str(shown / name)!r} exists and holds something else; nothing was overwritten.",
                        hint="Move it away, then run: hpcbatch job resume", path=str(shown / name),
                    )  # fmt: skip
        for one in sorted(folders):
            fsync_directory(one)

    @contextlib.contextmanager
    def _unswept(self, name: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not os.path.lexists(self._root):
                raise Swept from error
            if error.errno in _CLASH:
                raise NameClash(name) from error
            raise


@contextlib.contextmanager
def staged_tree(folder: Path, owner: str, mode: int) -> Iterator[StagedTree]:
    """A tree in *folder*, gone at the end whatever happened; what killed processes of *owner* left there goes too."""
    for name in os.listdir(folder):
        if name.startswith(left_over_prefix(owner)):
            remove_tree(folder / name)
    root = folder / temp_name(owner)
    os.mkdir(root, 0o700)
    try:
        yield StagedTree(root, mode)
    finally:
        remove_tree(root)


def _same_bytes(ours: Path, theirs: Path) -> bool:
    if not theirs.is_file() or theirs.stat().st_size != ours.stat().st_size:
        return False
    with open(ours, "rb") as one, open(theirs, "rb") as other:
        while block := one.read(_BLOCK_BYTES):
            if block != other.read(_BLOCK_BYTES):
                return False
    return True
