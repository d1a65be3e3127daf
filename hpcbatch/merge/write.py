"""Stream the chosen payloads in input order into one file, checking every checksum on the way."""

from __future__ import annotations

import hashlib
import itertools
import os
import queue
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.publish import explained, fsync_directory, link_once, staged, write_all
from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan

BLOCK_BYTES = 1 << 20
_AHEAD = 4
_FLUSH_BYTES = 64 << 20
HASH_UP_TO_BYTES = 256 << 20


class DamagedPayload(Exception):
    """The bytes at (segment file, offset) are not those that were committed."""

    def __init__(self, segment: str, offset: int) -> None:
        super().__init__(segment, offset)
        self.segment = segment
        self.offset = offset


@dataclass(frozen=True)
class Written:
    """The published output. `sha256` is None where hashing a large file would cost more than copying it."""

    sha256: str | None
    size_bytes: int


@dataclass(frozen=True)
class _Run:
    """Consecutive bytes of one segment, and the parts (offset, length, crc) they are checked by."""

    segment: int
    offset: int
    length: int
    parts: list[tuple[int, int, int]]


def write_output(root: Path, plan: MergePlan, target: Path, mode: int = 0o600) -> Written:
    """Publish the payloads of *plan* at *target*, once.

    On return the file at *target* is whole and durable and holds exactly these bytes, whichever merge wrote it. Raises
    DamagedPayload, and publishes nothing, if a segment's bytes do not match; FilesystemError if *target* holds
    something else.
    """
    with explained(target), staged(target.parent, mode) as (temp, file):
        digest = _copy(root, plan, file.fileno())
        os.fsync(file.fileno())
        written = Written(digest, os.fstat(file.fileno()).st_size)
        if link_once(temp, target):
            os.unlink(temp)
            fsync_directory(target.parent)
        elif not _same_bytes(temp, target):
            raise FilesystemError(
                f"{str(target)!r} exists and holds something else; nothing was overwritten.",
                hint="Move it away, then run: hpcbatch job resume", path=str(target),
            )  # fmt: skip
    return written


def _copy(root: Path, plan: MergePlan, out: int) -> str | None:
    """Two threads in a row: read and check, write; zlib and the kernel both leave the interpreter's lock. The SHA-256
    of the whole is taken up to `HASH_UP_TO_BYTES`: every payload has its own checksum, which is checked at any size.
    """
    digest = hashlib.sha256() if sum(length for _, _, _, length in plan) <= HASH_UP_TO_BYTES else None
    blocks: queue.Queue[bytes | memoryview | BaseException | None] = queue.Queue(_AHEAD)
    stop = threading.Event()

    def read() -> None:
        try:
            for block in _blocks(root, plan):
                if stop.is_set():
                    return
                blocks.put(block)
            blocks.put(None)
        except BaseException as error:  # noqa: BLE001  # handed to the thread that writes, which raises it
            blocks.put(error)

    threading.Thread(target=read, daemon=True).start()
    written = flushed = 0
    try:
        while (block := blocks.get()) is not None:
            if isinstance(block, BaseException):
                raise block
            write_all(out, block)
            if digest is not None:
                digest.update(block)
            written += len(block)
            if written - flushed >= _FLUSH_BYTES:
                # Starts writing to the disk now, beside the checking, and not all at once in the final fsync.
                os.posix_fadvise(out, flushed, written - flushed, os.POSIX_FADV_DONTNEED)
                flushed = written
    finally:
        stop.set()
        while not blocks.empty():
            blocks.get_nowait()
    return digest.hexdigest() if digest is not None else None


def _blocks(root: Path, plan: MergePlan) -> Iterator[bytes | memoryview]:
    """The checked payloads as few large blocks; a segment that is gone counts as damaged where it is first needed."""
    for segment, runs in itertools.groupby(_runs(plan), key=lambda run: run.segment):
        name = plan.files[segment]
        first = next(runs)
        try:
            fd = os.open(root / name, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError as error:
            raise DamagedPayload(name, first.offset) from error
        try:
            for run in itertools.chain([first], runs):
                yield from _checked(fd, run, name)
        finally:
            os.close(fd)


def _runs(plan: MergePlan) -> Iterator[_Run]:
    """Neighbouring entries that are neighbours on disk too, joined up to a block; a larger one stays alone."""
    at, first, end = NO_SEGMENT, 0, 0
    parts: list[tuple[int, int, int]] = []
    for segment, crc, offset, length in plan:
        if segment == NO_SEGMENT or not length:
            continue
        if segment != at or offset != end or end - first >= BLOCK_BYTES or length >= BLOCK_BYTES:
            if parts:
                yield _Run(at, first, end - first, parts)
            at, first, parts = segment, offset, []
        parts.append((offset, length, crc))
        end = offset + length
    if parts:
        yield _Run(at, first, end - first, parts)


def _checked(fd: int, run: _Run, name: str) -> Iterator[bytes | memoryview]:
    if len(run.parts) == 1:
        yield from _streamed(fd, run, name)
        return
    block = os.pread(fd, run.length, run.offset)
    view = memoryview(block)
    for offset, length, crc in run.parts:
        at = offset - run.offset
        if at + length > len(block) or zlib.crc32(view[at : at + length]) != crc:
            raise DamagedPayload(name, offset)
    yield block


def _streamed(fd: int, run: _Run, name: str) -> Iterator[bytes]:
    """One payload, of any size, in blocks; its checksum is known only after the last, and nothing is published
    before.
    """
    offset, length, crc = run.parts[0]
    found = done = 0
    while done < length:
        block = os.pread(fd, min(BLOCK_BYTES, length - done), offset + done)
        if not block:
            break
        found = zlib.crc32(block, found)
        done += len(block)
        yield block
    if done != length or found != crc:
        raise DamagedPayload(name, offset)


def _same_bytes(ours: Path, theirs: Path) -> bool:
    if not theirs.is_file() or ours.stat().st_size != theirs.stat().st_size:
        return False
    with open(ours, "rb") as one, open(theirs, "rb") as other:
        while block := one.read(BLOCK_BYTES):
            if block != other.read(BLOCK_BYTES):
                return False
    return True
