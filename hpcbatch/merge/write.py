"""Copy the chosen payloads in input order into one file, and read the copy back to check every checksum."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import queue
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.owned import pinned
from hpcbatch.fs.publish import explained, fsync_directory, link_once, remove_left_over, staged, write_all
from hpcbatch.merge.payloads import BLOCK_BYTES, DamagedPayload, Segments
from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan

_GATHER_BELOW_BYTES = 64 << 10
_AHEAD_BLOCKS = 64
FLUSH_BYTES = 64 << 20
HASH_UP_TO_BYTES = 256 << 20
_TRIES = 8
# What a filesystem or a container answers that cannot copy inside the kernel between these two files.
_NO_KERNEL_COPY = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}


@dataclass(frozen=True)
class Written:
    """The published output. `sha256` is None where hashing a large file would cost more than copying it."""

    sha256: str | None
    size_bytes: int


class _Piece(NamedTuple):
    """A payload, or as much of it as falls into one block; `crc` comes with the last piece of it."""

    segment: int
    payload: int  # where the payload begins in its segment
    offset: int
    length: int
    crc: int | None


@dataclass
class _Block:
    """Consecutive bytes of the output, `BLOCK_BYTES` of them but for the last block, and where they come from."""

    size: int = 0
    pieces: list[_Piece] = field(default_factory=list)
    spans: list[tuple[int, int, int]] = field(default_factory=list)  # segment, offset, length: joined neighbours

    def add(self, piece: _Piece) -> None:
        self.pieces.append(piece)
        self.size += piece.length
        if self.spans:
            segment, offset, length = self.spans[-1]
            if segment == piece.segment and offset + length == piece.offset:
                self.spans[-1] = (segment, offset, length + piece.length)
                return
        self.spans.append((piece.segment, piece.offset, piece.length))


def write_output(target: Path, fill: Callable[[int], str | None], *, owner: str, mode: int = 0o600) -> Written:
    """Publish at *target*, once, what *fill* puts into the empty file that it is given; it returns its SHA-256 or None.

    On return the file at *target* is whole and durable and holds exactly these bytes, whichever merge wrote it. Raises
    what *fill* raises, and publishes nothing then; FilesystemError if *target* holds something else, or if a symbolic
    link of somebody else leads there. What merges of the same *owner* (a job's uuid) that were killed left beside
    *target* is removed.
    """
    with explained(target), pinned(target.parent) as folder:
        remove_left_over(folder, owner)
        for _ in range(_TRIES):
            try:
                return _publish(folder / target.name, fill, owner, mode, shown=target)
            except _Swept:
                continue  # each merge removes what is left over once, at its start: no twin goes on doing this to us
    raise FilesystemError(
        f"{str(target)!r} cannot be written: its unfinished file is removed again and again.",
        hint="Find out who removes `.tmp-*` files there, then run: hpcbatch job resume", path=str(target),
    )  # fmt: skip


class _Swept(Exception):
    """Another merge of the job took our unfinished file for that of a dead one and removed it."""


def _publish(target: Path, fill: Callable[[int], str | None], owner: str, mode: int, *, shown: Path) -> Written:
    with staged(target.parent, mode, owner) as (temp, file):
        try:
            digest = fill(file.fileno())
            os.fsync(file.fileno())
            written = Written(digest, os.fstat(file.fileno()).st_size)
            first = link_once(temp, target)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE) and target.parent.is_dir() and not os.path.lexists(temp):
                raise _Swept from error
            raise
        if first:
            os.unlink(temp)
            fsync_directory(target.parent)
        elif not _same_bytes(file.fileno(), target):
            raise FilesystemError(
                f"{str(shown)!r} exists and holds something else; nothing was overwritten.",
                hint="Move it away, then run: hpcbatch job resume", path=str(shown),
            )  # fmt: skip
    return written


def copy_checked(root: Path, plan: MergePlan, out: int, header: bytes = b"", prefix: bytes = b"") -> str | None:
    """Copy *header* and the payloads of *plan*, each without the *prefix* that it begins with, to the empty file *out*;
    its SHA-256 up to `HASH_UP_TO_BYTES`, else None.

    One thread has the kernel copy, another reads the copy back and checks the CRC of every payload: what was checked is
    what is there, not what was meant to be. Raises DamagedPayload as soon as either finds bytes that are not those
    that were committed.
    """
    if header:
        write_all(out, header)
    check = _Check(root, plan, out, hashed=sum(length for _, _, _, length in plan) <= HASH_UP_TO_BYTES)
    check.begin_with(header, prefix)
    check.start()
    try:
        with _Copy(root, plan, out) as copy:
            for block in _blocks(plan, len(prefix)):
                copy.block(block)
                check.blocks.put(block)
                if check.error is not None:
                    break
    finally:
        check.blocks.put(None)
        check.join()
    if check.error is not None:
        raise check.error
    return check.digest.hexdigest() if check.digest is not None else None


def _blocks(plan: MergePlan, skip: int = 0) -> Iterator[_Block]:
    """The output in blocks: neighbours are joined, a payload larger than what a block has left is divided, and the
    first *skip* bytes of each are left out.
    """
    block = _Block()
    for segment, crc, offset, length in plan:
        if segment == NO_SEGMENT:
            continue
        at, end = offset + skip, offset + length
        while at < end:
            size = min(end - at, BLOCK_BYTES - block.size)
            block.add(_Piece(segment, offset, at, size, crc if at + size == end else None))
            at += size
            if block.size == BLOCK_BYTES:
                yield block
                block = _Block()
    if block.size:
        yield block


class _Copy:
    """Appends blocks to a file: inside the kernel where it can, through memory where it cannot, or where the pieces
    are so small that one call of the kernel for each would cost more.
    """

    def __init__(self, root: Path, plan: MergePlan, out: int) -> None:
        self.plan = plan
        self.out = out
        self.segments = Segments(root, plan)
        self.in_kernel = True

    def __enter__(self) -> _Copy:
        return self

    def __exit__(self, *_: object) -> None:
        self.segments.close()

    def block(self, block: _Block) -> None:
        """Append *block*. A segment that is gone or too short counts as damaged where it is first needed."""
        gather = block.size < _GATHER_BELOW_BYTES * len(block.spans)
        gathered = []
        for segment, offset, length in block.spans:
            try:
                fd = self.segments.fd(segment)
            except FileNotFoundError:
                raise self._short(block, segment, offset) from None
            at, end = offset, offset + length
            while at < end:
                done = 0 if gather else self._kernel_copy(fd, at, end - at)
                if not done:
                    data = os.pread(fd, end - at, at)
                    if not data:
                        raise self._short(block, segment, at)
                    done = len(data)
                    gathered.append(data)
                    if not gather:
                        write_all(self.out, gathered.pop())
                at += done
        if gathered:
            write_all(self.out, b"".join(gathered))

    def _kernel_copy(self, fd: int, offset: int, length: int) -> int:
        """How many bytes the kernel copied; 0 if it cannot copy, or says that there is nothing left."""
        if self.in_kernel:
            try:
                return os.copy_file_range(fd, self.out, length, offset)
            except OSError as error:
                if error.errno not in _NO_KERNEL_COPY:
                    raise
                self.in_kernel = False
        return 0

    def _short(self, block: _Block, segment: int, end: int) -> DamagedPayload:
        """The first payload of *block* that needs bytes of *segment* from *end* on."""
        lost = next(p for p in block.pieces if p.segment == segment and p.offset + p.length > end)
        return DamagedPayload(self.plan.files[segment], lost.payload)


class _Check(threading.Thread):
    """Reads back what was copied and checks it; keeps taking blocks after an error, so that nobody waits for it."""

    def __init__(self, root: Path, plan: MergePlan, out: int, *, hashed: bool) -> None:
        super().__init__(daemon=True)
        self.root = root
        self.plan = plan
        self.out = out
        self.digest = hashlib.sha256() if hashed else None
        self.blocks: queue.Queue[_Block | None] = queue.Queue(_AHEAD_BLOCKS)
        self.error: BaseException | None = None
        self._buffer = memoryview(bytearray(BLOCK_BYTES))
        self._first_crc = self._crc = self._at = self._flushed = 0

    def begin_with(self, header: bytes, prefix: bytes) -> None:
        """The file begins with *header*, each payload with a *prefix* that is not copied."""
        self._at = len(header)
        self._first_crc = self._crc = zlib.crc32(prefix)
        if self.digest is not None:
            self.digest.update(header)

    def run(self) -> None:
        while (block := self.blocks.get()) is not None:
            if self.error is None:
                try:
                    self._check(block)
                except BaseException as error:  # noqa: BLE001  # handed to the thread that copies, which raises it
                    self.error = error

    def _check(self, block: _Block) -> None:
        view = self._buffer[: block.size]
        done = 0
        while done < block.size and (count := os.preadv(self.out, [view[done:]], self._at + done)):
            done += count
        if self.digest is not None:
            self.digest.update(view)
        at = 0
        for piece in block.pieces:
            self._crc = zlib.crc32(view[at : at + piece.length], self._crc)
            at += piece.length
            if piece.crc is not None:
                if self._crc != piece.crc or at > done:
                    raise self._blame(piece)
                self._crc = self._first_crc
        self._at += block.size
        if self._at - self._flushed >= FLUSH_BYTES:
            # Starts writing to the disk now, beside the copying, and not all at once in the final fsync.
            os.posix_fadvise(self.out, self._flushed, self._at - self._flushed, os.POSIX_FADV_DONTNEED)
            self._flushed = self._at

    def _blame(self, piece: _Piece) -> Exception:
        """Who is to blame for a payload that does not match in the copy: its segment, or the copy."""
        name = self.plan.files[piece.segment]
        crc, left = 0, piece.offset + piece.length - piece.payload
        with contextlib.suppress(FileNotFoundError), open(self.root / name, "rb") as file:
            file.seek(piece.payload)
            while left and (data := file.read(min(left, BLOCK_BYTES))):
                crc = zlib.crc32(data, crc)
                left -= len(data)
        if left or crc != piece.crc:
            return DamagedPayload(name, piece.payload)
        return FilesystemError(
            f"The copy of {name!r} at byte {piece.payload} does not read back as written; nothing was published.",
            hint="Have the filesystem and the memory of that node checked, then run: hpcbatch job resume", path=name,
        )  # fmt: skip


def _same_bytes(ours: int, theirs: Path) -> bool:
    if not theirs.is_file() or os.fstat(ours).st_size != theirs.stat().st_size:
        return False
    at = 0
    with open(theirs, "rb") as other:
        while block := other.read(BLOCK_BYTES):
            if block != os.pread(ours, len(block), at):
                return False
            at += len(block)
    return True
