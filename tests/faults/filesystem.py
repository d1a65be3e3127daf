"""The seam where tests come between hpcbatch and the filesystem: the calls of `os` that it makes.

`faulty` fails chosen calls. `Recorder` follows them, and `Recorder.after_crash` says what a disk may hold after a power
cut: names as they were at some moment since the last fsync of a folder, of each file all that was fsynced, and of what
was not a part, zeros, or nothing.
"""

from __future__ import annotations

import errno
import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CALLS = (
    "open", "write", "fsync", "close", "link", "unlink", "rename", "mkdir", "rmdir", "scandir", "pread", "preadv",
    "read", "stat", "fstat", "chmod", "fchmod", "copy_file_range", "ftruncate", "symlink",
)  # fmt: skip
ERRORS = (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE)
SHORT = -1  # in place of an error: a write that does half of what it was asked for
Around = Callable[[str, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


_AROUND: dict[int, Around] = {}  # of each thread that has one
_REAL: dict[str, Callable[..., Any]] = {}
_LOCK = threading.Lock()


@contextmanager
def between(around: Around) -> Iterator[None]:
    """Have *around* make every call of this thread: it gets the name, the real function and the arguments."""
    here = threading.get_ident()
    with _LOCK:
        if not _AROUND:
            _REAL.update({name: getattr(os, name) for name in CALLS})
            for name in CALLS:
                setattr(os, name, _dispatching(name, _REAL[name]))
        assert here not in _AROUND
        _AROUND[here] = around
    try:
        yield
    finally:
        with _LOCK:
            del _AROUND[here]
            if not _AROUND:
                for name in CALLS:
                    setattr(os, name, _REAL[name])


def _dispatching(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        around = _AROUND.get(threading.get_ident())
        return real(*arguments, **options) if around is None else around(name, real, arguments, options)

    return call


@contextmanager
def faulty(faults: Mapping[int, int]) -> Iterator[list[str]]:
    """Fail the calls with these numbers, from 0, with these errors; the names of all calls that were made."""
    made: list[str] = []

    def around(name: str, real: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        made.append(name)
        fault = faults.get(len(made) - 1)
        if fault is None or name == "close":  # a descriptor is closed whatever close(2) says
            return real(*arguments, **options)
        if fault != SHORT:
            raise OSError(fault, os.strerror(fault))
        if name == "write" and len(arguments[1]) > 1:
            return real(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
        return real(*arguments, **options)

    with between(around):
        yield made


@dataclass
class Inode:
    """One file: what was written, and how much of it was fsynced."""

    content: bytearray = field(default_factory=bytearray)
    durable: int = 0


class Recorder:
    """What this thread's calls did below *root*, in order. Files there are written from their start to their end."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.log: list[tuple[Any, ...]] = []
        self._paths: dict[int, str] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Follow the calls."""
        with between(self._around):
            yield

    def _around(self, name: str, real: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        # Looked up before the call: a descriptor that a path goes through may be closed, a name gone, behind it.
        first, *others = (_at(argument) for argument in arguments[:2])
        answer = real(*arguments, **options)
        if name == "open":
            self._paths[answer] = str(first)
            if arguments[1] & os.O_CREAT and self._mine(first):
                self.log.append(("create", str(first)))
        elif name == "write" and self._mine(self._paths.get(first)):
            self.log.append(("write", self._paths[first], bytes(arguments[1])[:answer]))
        elif name == "copy_file_range" and self._mine(self._paths.get(arguments[1])):
            end = os.lseek(arguments[1], 0, os.SEEK_CUR)
            self.log.append(("write", self._paths[arguments[1]], os.pread(arguments[1], answer, end - answer)))
        elif name == "fsync" and self._mine(self._paths.get(first)):
            word = "sync names" if stat.S_ISDIR(os.fstat(first).st_mode) else "sync"
            self.log.append((word, self._paths[first]))
        elif name in ("unlink", "mkdir", "rmdir", "link", "rename") and self._mine(first):
            self.log.append((name, *map(str, (first, *others))))
        return answer

    def _mine(self, path: Any) -> bool:
        return path is not None and str(path).startswith(str(self.root))

    def after_crash(self, calls: int, chance: random.Random) -> dict[str, bytes | None]:
        """A tree that a disk may hold after a crash behind that many calls: path to content, None for a folder."""
        done = self.log[:calls]
        settled = max((n for n, entry in enumerate(done) if entry[0] == "sync names"), default=-1) + 1
        names_until = chance.choice((settled, len(done), chance.randint(settled, len(done))))
        names: dict[str, Inode | None] = {}
        inodes: dict[str, Inode] = {}
        for number, (what, path, *more) in enumerate(done):
            if what == "write":
                inodes[path].content += more[0]
            elif what == "sync":
                inodes[path].durable = len(inodes[path].content)
            elif what == "sync names":
                continue
            else:
                _rename_inodes(inodes, what, path, more)
                if number < names_until:
                    _rename(names, inodes, what, path, more)
        how = chance.choice(("nothing", "all", "prefixes", "zeros", "mixed"))
        return {path: None if inode is None else _left(inode, how, chance) for path, inode in names.items()}


def _at(argument: Any) -> Any:
    """*argument*; if it is a path through an open folder (`fs.owned.pinned`), the path of that folder and below."""
    if not isinstance(argument, (str, Path)) or not str(argument).startswith("/proc/self/fd/"):
        return argument
    number, *below = str(argument).removeprefix("/proc/self/fd/").split("/")
    return "/".join((os.readlink(f"/proc/self/fd/{number}"), *below))


def _rename_inodes(inodes: dict[str, Inode], what: str, path: str, more: list[str]) -> None:
    if what == "create":
        inodes.setdefault(path, Inode())
    elif what == "link":
        inodes[more[0]] = inodes[path]
    elif what == "rename":
        for old in [old for old in inodes if old == path or old.startswith(path + "/")]:
            inodes[more[0] + old[len(path) :]] = inodes[old]


def _rename(names: dict[str, Inode | None], inodes: Mapping[str, Inode], what: str, path: str, more: list[str]) -> None:
    if what == "mkdir":
        names[path] = None
    elif what == "create":
        names[path] = inodes[path]
    elif what == "link":
        names[more[0]] = inodes[path]
    elif what in ("unlink", "rmdir"):
        names.pop(path, None)
    elif what == "rename":
        for old in [old for old in names if old == path or old.startswith(path + "/")]:
            names[more[0] + old[len(path) :]] = names.pop(old)


def _left(inode: Inode, how: str, chance: random.Random) -> bytes:
    durable, loose = bytes(inode.content[: inode.durable]), bytes(inode.content[inode.durable :])
    if how == "mixed":
        how = chance.choice(("nothing", "all", "prefixes", "zeros"))
    if how == "nothing":
        return durable
    if how == "prefixes":
        return durable + loose[: chance.randint(0, len(loose))]
    if how == "zeros":  # the length arrived, some of the data did not
        start = chance.randint(0, len(loose))
        stop = chance.randint(start, len(loose))
        return durable + loose[:start] + bytes(stop - start) + loose[stop:]
    return durable + loose


def lay(root: Path, tree: Mapping[str, bytes | None]) -> None:
    """Make *root* hold exactly this tree."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for path, content in sorted(tree.items()):
        if content is None:
            os.makedirs(path, exist_ok=True)
        elif os.path.isdir(os.path.dirname(path)):  # else its folder's name was lost, and the file with it
            with open(path, "wb") as file:
                file.write(content)
