"""The chosen payloads where they lie: their segments, their first bytes, they as a whole."""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan

BLOCK_BYTES = 1 << 20
_OPEN_SEGMENTS = 32
_MAP_FROM_BYTES = 4 << 20


class DamagedPayload(Exception):
    """The bytes at (segment file, offset) are not those that were committed."""

    def __init__(self, segment: str, offset: int) -> None:
        super().__init__(segment, offset)
        self.segment = segment
        self.offset = offset


class RowsDiffer(Exception):
    """The rows of *mini_batch* cannot stand in one file with those of the others; *words* say why."""

    def __init__(self, mini_batch: int, words: str) -> None:
        super().__init__(mini_batch, words)
        self.mini_batch = mini_batch
        self.words = words


class Segments:
    """Opens segments, each once as long as not too many are in use."""

    def __init__(self, root: Path, plan: MergePlan) -> None:
        self._root = root
        self._plan = plan
        self._open: dict[int, int] = {}

    def fd(self, segment: int) -> int:
        """The segment's file. Raises FileNotFoundError."""
        if segment not in self._open:
            if len(self._open) == _OPEN_SEGMENTS:
                os.close(self._open.pop(next(iter(self._open))))
            flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            self._open[segment] = os.open(self._root / self._plan.files[segment], flags)
        return self._open[segment]

    def close(self) -> None:
        """Close all."""
        for fd in self._open.values():
            os.close(fd)


class Payload(NamedTuple):
    """The rows of one mini-batch."""

    mini_batch: int
    segment: int
    crc: int
    offset: int
    length: int


class Payloads:
    """The payloads of a plan, in input order. What a segment does not have counts as damaged: DamagedPayload."""

    def __init__(self, root: Path, plan: MergePlan) -> None:
        self._plan = plan
        self._segments = Segments(root, plan)

    def __iter__(self) -> Iterator[Payload]:
        """Those of mini-batches that have rows."""
        for mini_batch, (segment, crc, offset, length) in enumerate(self._plan):
            if segment != NO_SEGMENT and length:
                yield Payload(mini_batch, segment, crc, offset, length)

    def begin(self, payload: Payload, size: int) -> bytes:
        """The first *size* bytes, or all if they are fewer; not checked."""
        wanted = min(size, payload.length)
        found = os.pread(self._fd(payload), wanted, payload.offset)
        if len(found) < wanted:
            raise self._damaged(payload)
        return found

    def whole(self, payload: Payload) -> memoryview:
        """All bytes, checked; those of a large payload stay where they are and are read as they are used."""
        fd = self._fd(payload)
        if payload.length < _MAP_FROM_BYTES:
            view = memoryview(os.pread(fd, payload.length, payload.offset))
        else:
            before = payload.offset % mmap.ALLOCATIONGRANULARITY
            try:
                mapped = mmap.mmap(fd, before + payload.length, access=mmap.ACCESS_READ, offset=payload.offset - before)
            except ValueError:  # the file is shorter
                raise self._damaged(payload) from None
            view = memoryview(mapped)[before:]
        crc = 0
        for at in range(0, len(view), BLOCK_BYTES):
            crc = zlib.crc32(view[at : at + BLOCK_BYTES], crc)
        if len(view) < payload.length or crc != payload.crc:
            raise self._damaged(payload)
        return view

    def check(self, until: int) -> None:
        """Check all payloads up to that of the mini-batch *until*: before its rows are blamed for what a disk did."""
        for payload in self:
            if payload.mini_batch > until:
                return
            self.whole(payload)

    def __enter__(self) -> Payloads:
        return self

    def __exit__(self, *_: object) -> None:
        self._segments.close()

    def _fd(self, payload: Payload) -> int:
        try:
            return self._segments.fd(payload.segment)
        except FileNotFoundError as error:
            raise self._damaged(payload) from error

    def _damaged(self, payload: Payload) -> DamagedPayload:
        return DamagedPayload(self._plan.files[payload.segment], payload.offset)
