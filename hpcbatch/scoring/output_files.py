"""What a scoring script left in AZUREML_BI_OUTPUT_PATH, mini-batch by mini-batch. Loaded by `driver.py` once there is
something. Standard library only, one file, Python 3.8 or newer.

The folder belongs to one driver. After each mini-batch a new file is moved to the *taken* folder, so that the next
mini-batch begins with the folder as init() left it, and an `open(..., "a")` makes a new file. A file that is still
open, or that init() made, stays where it is, and of it the bytes that were appended are taken.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import stat

MYPY = False  # true for the type checker only: importing typing would cost every driver some milliseconds
if MYPY:
    from collections.abc import Iterator
    from typing import Any

INIT, SHUTDOWN = -1, -2
TAIL_BYTES = 512


class UnusableOutput(Exception):
    """The mini-batch left something that cannot be kept exactly once."""


class OutputFiles:
    """The files below *folder*; *reserved* is the name that the merged output will have there, "" for none."""

    def __init__(self, folder: str, taken: str, reserved: str) -> None:
        self._folder = folder
        self._taken = taken
        self._reserved = reserved
        self._kept: dict[str, tuple[int, int, bytes]] = {}  # inode, size, last bytes of files that stay
        self._told: set[str] = set()
        self._writers: dict[str, list[Any]] = {}

    def take(self, mini_batch: int) -> Any:
        """What *mini_batch* (`INIT`: init(), `SHUTDOWN`: shutdown()) left, None for nothing: `files` as [name, where it
        is, offset, bytes], `notes`, and `moved`, the folder that whoever has read the files removes.

        Raises UnusableOutput; then nothing of it counts.
        """
        notes: list[str] = []
        there = sorted(self._walk(self._folder, "", notes))
        held = self._held() if there else set()
        moved = os.path.join(self._taken, str(mini_batch))
        files: list[tuple[str, str, int, int]] = []
        for name, path in there:
            if name == self._reserved:
                raise UnusableOutput(
                    f"the script wrote {name!r} itself, which is the name of the merged output of what run() returns. "
                    "Let it write under another name, or set another output_file_name"
                )
            found = os.stat(path)
            if name in self._kept or path in held or mini_batch == INIT:
                files += self._appended(name, path, found, mini_batch)
                continue
            target = os.path.join(moved, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(path, target)
            files.append((name, target, 0, found.st_size))
        for name in [name for name in self._kept if not os.path.lexists(os.path.join(self._folder, name))]:
            del self._kept[name]
        if not files and not notes:
            return None
        listed = [[_portable(name), _portable(path), offset, size] for name, path, offset, size in files]
        return {"mini_batch": mini_batch, "files": listed, "notes": notes, "moved": _portable(moved)}

    def discard(self) -> None:
        """Forget what a failed mini-batch left: new files go, what it appended to others is never taken."""
        there = list(self._walk(self._folder, "", []))
        held = self._held() if there else set()
        for name, path in there:
            if name in self._kept or path in held:
                found = os.stat(path)
                self._kept[name] = (found.st_ino, found.st_size, _tail(path, found.st_size))
            else:
                os.unlink(path)

    def _appended(
        self, name: str, path: str, found: os.stat_result, mini_batch: int
    ) -> list[tuple[str, str, int, int]]:
        inode, size, tail = self._kept.get(name, (found.st_ino, 0, b""))
        same = inode == found.st_ino and found.st_size >= size and _tail(path, size) == tail
        new = name not in self._kept
        self._kept[name] = (found.st_ino, found.st_size, _tail(path, found.st_size))
        if not same:
            raise UnusableOutput(
                f"the script wrote {name!r} again, which init() made or which is open still: only what is appended to "
                "such a file can be kept exactly once. Write it within one run(), or have one plain folder for all "
                "with environment_variables.HPCBATCH_OUTPUT_FILES=shared"
            )
        if found.st_size == size and not (new or mini_batch == INIT):
            return []
        return [(name, path, size, found.st_size - size)]

    def _walk(self, folder: str, prefix: str, notes: list[str]) -> Iterator[tuple[str, str]]:
        with os.scandir(folder) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        for entry in found:
            name = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(entry.path, name + "/", notes)
            elif entry.is_file(follow_symlinks=False):
                yield name, entry.path
            elif name not in self._told:
                self._told.add(name)
                kind = "a symbolic link" if entry.is_symlink() else "no regular file"
                notes.append(f"{_portable(name)!r} in AZUREML_BI_OUTPUT_PATH is {kind} and is left out of the output")

    def _held(self) -> set[str]:
        """The files below the folder that this process or one that it started has open for writing."""
        found = set()
        prefix = os.path.realpath(self._folder) + "/"
        for pid in ["self", *_children()]:
            for path, fd, writes in _open_files(pid):
                if path.startswith(prefix) and writes:
                    found.add(os.path.join(self._folder, path[len(prefix) :]))
                    if pid == "self" and path not in self._writers:
                        self._writers[path] = _objects_of(fd)
        for path in [path for path in self._writers if os.path.join(self._folder, path[len(prefix) :]) not in found]:
            del self._writers[path]
        self._flush()
        return found

    def _flush(self) -> None:
        """What Python still buffers for open files belongs to the mini-batch that wrote it."""
        for writers in self._writers.values():
            for writer in writers:
                with contextlib.suppress(ValueError):  # closed meanwhile, which flushed it
                    writer.flush()


def _tail(path: str, size: int) -> bytes:
    """The last bytes before *size*: they tell a file that grew from one that was written again."""
    with open(path, "rb") as file:
        file.seek(max(0, size - TAIL_BYTES))
        return file.read(min(size, TAIL_BYTES))


def _objects_of(fd: int) -> list[Any]:
    """The Python file objects that write to *fd*, those around others first: text, then buffer."""
    found = []
    for one in gc.get_objects():
        if isinstance(one, (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
            try:
                if one.fileno() == fd:
                    found.append(one)
            except (ValueError, OSError):  # closed, or no file at all
                pass
    return sorted(found, key=lambda one: not isinstance(one, io.TextIOWrapper))


def _children(pid: str = "self") -> list[str]:
    """The processes that the script started and that it still owns, and theirs."""
    found: list[str] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += file.read().split()
    except OSError:  # it ended meanwhile, or the kernel does not tell
        return found
    return found + [one for child in found for one in _children(child)]


def _open_files(pid: str) -> list[tuple[str, int, bool]]:
    """(path, descriptor, whether it may write) of the regular files that a process has open."""
    found = []
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except OSError:  # gone, or not ours to look at
        return []
    for name in names:
        link = f"/proc/{pid}/fd/{name}"
        with contextlib.suppress(OSError):  # closed meanwhile
            if stat.S_ISREG(os.stat(link).st_mode):
                found.append((os.readlink(link), int(name), bool(os.lstat(link).st_mode & stat.S_IWUSR)))
    return found


def _portable(name: str) -> str:
    """*name* for JSON, whatever bytes it has."""
    return os.fsencode(name).decode("latin-1")
