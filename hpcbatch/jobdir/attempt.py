"""One attempt's private pair of files: payloads go to the segment, then their records to the ledger."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcbatch.fs.publish import create_exclusive, fsync_directory, write_all
from hpcbatch.jobdir.layout import LEDGER, SEGMENT, attempt_stem
from hpcbatch.records.ledger import FLAG_FINAL, Chain, Kind

SYNC_BYTES = 64 << 20
SYNC_MIN_S, SYNC_MAX_S = 2.0, 30.0


class AttemptWriter:
    """Appends to a pair that did not exist before and that nobody else ever writes.

    Order is the promise: when a COMMIT record is in the ledger, its payload was written before it. A failed write or
    fsync leaves the writer `poisoned`: nothing more is appended, and the caller opens a new pair.
    """

    def __init__(
        self, folder: Path, *, job: bytes, group: int, epoch: int, about: Mapping[str, Any], part: int = 0
    ) -> None:
        self.nonce = secrets.token_hex(16)
        self.epoch = epoch
        self.stem = attempt_stem(epoch, self.nonce, part)
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
        self._write(self._ledger, self._chain.record(Kind.START, mini_batch=mini_batch))

    def commit(
        self,
        mini_batch: int,
        payload: bytes | memoryview,
        *,
        rows: int,
        failed_items: int,
        run_ms: int,
        then_start: int | None = None,
    ) -> None:
        """Append *payload*, then the record that makes it count; *then_start* adds the next START in the same write."""
        if payload:
            self._write(self._segment, payload)
        record = self._chain.record(
            Kind.COMMIT, mini_batch=mini_batch, offset=self._offset, payload=payload, rows=rows,
            failed_items=failed_items, run_ms=run_ms, wall_ms=int(time.time() * 1000),
        )  # fmt: skip
        if then_start is not None:
            record += self._chain.record(Kind.START, mini_batch=then_start)
        self._write(self._ledger, record)
        self._offset += len(payload)
        self._unsynced_bytes += len(payload)
        self._unsynced_commits += 1

    def fail(self, mini_batch: int, reason: Mapping[str, Any], *, final: bool, failed_items: int) -> None:
        """Record one failed try, or with *final* that the mini-batch is given up and *failed_items* items count as
        failed.
        """
        self._append(
            json.dumps(dict(reason)).encode(), Kind.FAIL, mini_batch=mini_batch, failed_items=failed_items,
            flags=FLAG_FINAL if final else 0,
        )  # fmt: skip
        self._unsynced_commits += 1

    def note(self, kind: Kind, reason: Mapping[str, Any] | None = None) -> None:
        """Append a RELEASE, FENCED, END or ABORT record."""
        self._append(json.dumps(dict(reason)).encode() if reason else b"", kind)

    def sync_due(self) -> bool:
        """Whether a sync is due, by bytes or by time; the interval adapts so that fsync costs about 5 % of it."""
        if not self._unsynced_commits:
            return False
        return self.sync_each or self._unsynced_bytes >= SYNC_BYTES or self._since_sync_s() >= self._interval_s()

    def next_sync_s(self) -> float:
        """Seconds until a sync by time is due; infinite if nothing waits for one."""
        return max(0.0, self._interval_s() - self._since_sync_s()) if self._unsynced_commits else float("inf")

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
            self._write(self._ledger, self._chain.record(Kind.SYNC))

    def close(self) -> None:
        """Close both files; an error here (a quota that is checked at close) is raised like one of fsync."""
        if self._segment < 0 or os.getpid() != self._pid:
            return
        segment, ledger, self._segment, self._ledger = self._segment, self._ledger, -1, -1
        try:
            os.close(segment)
        finally:
            os.close(ledger)

    def _append(
        self, payload: bytes, kind: Kind, *, mini_batch: int = 0, failed_items: int = 0, flags: int = 0
    ) -> None:
        if payload:
            self._write(self._segment, payload)
        record = self._chain.record(
            kind, mini_batch=mini_batch, offset=self._offset, payload=payload, failed_items=failed_items, flags=flags,
            wall_ms=int(time.time() * 1000),
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
