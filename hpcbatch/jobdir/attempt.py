"""One attempt's private pair of files: payloads go to the segment, then their records to the ledger."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpcbatch.fs.publish import create_exclusive, fsync_directory, write_all
from hpcbatch.jobdir.layout import LEDGER, SEGMENT, attempt_stem
from hpcbatch.records.ledger import FLAG_FAILED, FLAG_FINAL, FLAG_MEMORY, OF_INIT, Chain, Kind

SYNC_BYTES = 64 << 20
SYNC_MIN_S, SYNC_MAX_S = 2.0, 30.0
HEARTBEAT_S = 60.0


class Stored(NamedTuple):
    """Bytes of the segment that no record covers yet."""

    offset: int
    length: int
    crc: int


class AttemptWriter:
    """Appends to a pair that did not exist before and that nobody else ever writes.

    Order is the promise: when a COMMIT record is in the ledger, its payload was written before it. A failed write or
    fsync leaves the writer `poisoned`: nothing more is appended, and the next attempt goes on with a pair of its own.
    """

    def __init__(self, folder: Path, *, job: bytes, group: int, epoch: int, about: Mapping[str, Any]) -> None:
        self.nonce = os.urandom(16).hex()
        self.epoch = epoch
        self.stem = attempt_stem(epoch, self.nonce)
        self.poisoned = False
        self._pid = os.getpid()
        self._chain = Chain(job, group, epoch, bytes.fromhex(self.nonce))
        self._offset = 0
        self._fsync_s = 0.0
        self._unsynced_bytes = self._unsynced_commits = 0
        self._synced_at = time.monotonic()
        self.sync_each = False
        self._segment = create_exclusive(folder / (self.stem + SEGMENT))
        self._ledger = create_exclusive(folder / (self.stem + LEDGER))
        blob = json.dumps(dict(about), sort_keys=True).encode() + b"\n"
        self._append(blob, Kind.OPEN)
        self.sync(record=False)
        fsync_directory(folder)
        os.register_at_fork(after_in_child=self._forget)

    def start(self, mini_batch: int) -> None:
        """Record that *mini_batch* is about to be run."""
        self._write(self._ledger, self._chain.record(Kind.START, mini_batch=mini_batch, wall_ms=_wall_ms()))

    def commit(
        self,
        mini_batch: int,
        payload: bytes | memoryview,
        *,
        rows: int,
        failed_items: int,
        run_ms: int,
        then_start: int | None = None,
        files: Stored | None = None,
    ) -> None:
        """Append *payload*, then the record that makes it count, and with it the *files* of the same mini-batch;
        *then_start* adds the next START in the same write.
        """
        if payload:
            self._write(self._segment, payload)
        wall_ms = _wall_ms()
        record = self._files(mini_batch, files, wall_ms) if files else b""
        record += self._chain.record(
            Kind.COMMIT, mini_batch=mini_batch, offset=self._offset, payload=payload, rows=rows,
            failed_items=failed_items, run_ms=run_ms, wall_ms=wall_ms,
        )  # fmt: skip
        if then_start is not None:
            record += self._chain.record(Kind.START, mini_batch=then_start, wall_ms=wall_ms)
        self._write(self._ledger, record)
        self._offset += len(payload)
        self._unsynced_bytes += len(payload)
        self._unsynced_commits += 1

    def store(self, blocks: Iterable[bytes]) -> Stored:
        """Append *blocks*, of any size together; they count once `commit` or `files_of_init` was told of them."""
        offset, crc = self._offset, 0
        for block in blocks:
            self._write(self._segment, block)
            crc = zlib.crc32(block, crc)
            self._offset += len(block)
            self._unsynced_bytes += len(block)
        return Stored(offset, self._offset - offset, crc)

    def files_of_init(self, files: Stored) -> None:
        """Record the files that init() of one driver wrote."""
        self._write(self._ledger, self._files(OF_INIT, files, _wall_ms()))

    def fail(
        self, mini_batch: int, reason: Mapping[str, Any], *, final: bool, failed_items: int, memory: bool = False
    ) -> None:
        """Record one failed try, or with *final* that the mini-batch is given up and *failed_items* items count as
        failed. With *memory* the try was killed for memory, which has a budget of its own.
        """
        self._append(
            json.dumps(dict(reason)).encode(), Kind.FAIL, mini_batch=mini_batch, failed_items=failed_items,
            flags=FLAG_FINAL * final | FLAG_MEMORY * memory,
        )  # fmt: skip
        self._unsynced_commits += 1

    def init_ended(self, took_ms: int, *, failed: bool = False) -> None:
        """Record how long a driver took from its start to the end of init()."""
        flags = FLAG_FAILED * failed
        self._write(self._ledger, self._chain.record(Kind.INIT, run_ms=took_ms, wall_ms=_wall_ms(), flags=flags))

    def note(self, kind: Kind, reason: Mapping[str, Any] | None = None, *, flags: int = 0) -> None:
        """Append a RELEASE, FENCED, END or ABORT record."""
        self._append(json.dumps(dict(reason)).encode() if reason else b"", kind, flags=flags)

    def sync_due(self) -> bool:
        """Whether a sync is due, by bytes or by time; the interval adapts so that fsync costs about 5 % of it. With
        nothing to make durable one is due each minute all the same: so the ledger tells, to a minute, how long an
        attempt lived that died without a word.
        """
        if not self._unsynced_commits:
            return self._since_sync_s() >= HEARTBEAT_S
        return self.sync_each or self._unsynced_bytes >= SYNC_BYTES or self._since_sync_s() >= self._interval_s()

    def next_sync_s(self) -> float:
        """Seconds until a sync by time is due."""
        interval_s = self._interval_s() if self._unsynced_commits else HEARTBEAT_S
        return max(0.0, interval_s - self._since_sync_s())

    def sync(self, *, record: bool = True) -> None:
        """Make all that was appended durable, then say so. Never repeated on a file whose fsync failed once."""
        begin = time.monotonic()
        self._guard()
        try:
            os.fsync(self._segment)
            os.fsync(self._ledger)
        except OSError:
            self.poisoned = True
            raise
        took_s = time.monotonic() - begin
        self._fsync_s = took_s if not self._fsync_s else 0.7 * self._fsync_s + 0.3 * took_s
        self._synced_at = time.monotonic()
        self._unsynced_bytes = self._unsynced_commits = 0
        if record:
            self._write(self._ledger, self._chain.record(Kind.SYNC, wall_ms=_wall_ms()))

    def close(self) -> None:
        """Close both files; an error here (a quota that is checked at close) is raised like one of fsync."""
        if self._segment < 0 or os.getpid() != self._pid:
            return
        segment, ledger, self._segment, self._ledger = self._segment, self._ledger, -1, -1
        try:
            os.close(segment)
        finally:
            os.close(ledger)

    def _files(self, mini_batch: int, files: Stored, wall_ms: int) -> bytes:
        stored = (files.length, files.crc)
        return self._chain.record(
            Kind.FILES, mini_batch=mini_batch, offset=files.offset, stored=stored, wall_ms=wall_ms
        )

    def _append(
        self, payload: bytes, kind: Kind, *, mini_batch: int = 0, failed_items: int = 0, flags: int = 0
    ) -> None:
        if payload:
            self._write(self._segment, payload)
        record = self._chain.record(
            kind, mini_batch=mini_batch, offset=self._offset, payload=payload, failed_items=failed_items, flags=flags,
            wall_ms=_wall_ms(),
        )  # fmt: skip
        self._write(self._ledger, record)
        self._offset += len(payload)
        self._unsynced_bytes += len(payload)

    def _write(self, fd: int, data: bytes | memoryview) -> None:
        self._guard()
        try:
            write_all(fd, data)
        except OSError:
            self.poisoned = True
            raise

    def _guard(self) -> None:
        if self.poisoned or self._segment < 0 or os.getpid() != self._pid:
            raise RuntimeError("an attempt's files are written by their owner only, and never after a failure")

    def _interval_s(self) -> float:
        return min(SYNC_MAX_S, max(SYNC_MIN_S, 20 * self._fsync_s))

    def _since_sync_s(self) -> float:
        return time.monotonic() - self._synced_at

    def _forget(self) -> None:
        """A forked child must not hold, or ever write, these files."""
        if self._segment >= 0:
            os.close(self._segment)
            os.close(self._ledger)
            self._segment = self._ledger = -1


def _wall_ms() -> int:
    """By the node's clock: for people and accounting, never compared with another node's."""
    return time.time_ns() // 1_000_000
