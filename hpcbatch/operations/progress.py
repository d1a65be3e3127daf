"""How far a job is, cheaply enough to ask every second: only what was appended since the last look is read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.records.ledger import FLAG_FINAL, RECORD_BYTES, Kind

_KIND, _FLAGS, _FAILED_ITEMS, _MINI_BATCH = 4, 5, slice(104, 108), slice(40, 48)


@dataclass(frozen=True)
class Progress:
    """One look. `eta_s` is None while nothing was finished yet."""

    items: int
    items_done: int
    items_failed: int
    mini_batches: int
    mini_batches_done: int
    elapsed_s: float
    rate_per_s: float
    eta_s: float | None
    status: str
    noun: str = "items"  # what is counted: the items of a model's job, the steps of a pipeline's


@dataclass
class ProgressReader:
    """Follows the ledgers of one job. Counts are of finished mini-batches, each once; checksums are the merge's
    business.
    """

    job: JobDir
    began: float = field(default_factory=time.monotonic)
    _at: dict[Path, int] = field(default_factory=dict)
    _done: bytearray = field(default_factory=bytearray)
    _count: int = 0
    _failed: int = 0
    _first: tuple[float, int] | None = None

    def look(self, status: str) -> Progress:
        """Read what is new."""
        record = self.job.record
        self._done = self._done or bytearray(record.mini_batches)
        for attempt in all_attempts(self.job.paths):
            self._read(attempt.ledger)
        items = self._count * record.scoring.mini_batch_size
        if self._done and self._done[-1]:  # the last mini-batch has what the others leave over
            items -= record.mini_batches * record.scoring.mini_batch_size - record.items
        now = time.monotonic()
        if self._first is None and items:
            self._first = (now, items)
        since, counted = self._first or (now, 0)
        rate = (items - counted) / (now - since) if now > since else 0.0
        eta_s = (record.items - items) / rate if rate else None
        return Progress(
            record.items, items, self._failed, record.mini_batches, self._count, now - self.began, rate, eta_s, status
        )

    def _read(self, ledger: Path) -> None:
        at = self._at.get(ledger, 0)
        try:
            with open(ledger, "rb") as file:
                file.seek(at)
                data = file.read()
        except FileNotFoundError:
            return
        whole = len(data) - len(data) % RECORD_BYTES
        for start in range(0, whole, RECORD_BYTES):
            kind, flags = data[start + _KIND], data[start + _FLAGS]
            if kind == Kind.COMMIT or (kind == Kind.FAIL and flags & FLAG_FINAL):
                record = data[start : start + RECORD_BYTES]
                number = int.from_bytes(record[_MINI_BATCH], "little")
                if number < len(self._done) and not self._done[number]:
                    self._done[number] = 1
                    self._count += 1
                    self._failed += int.from_bytes(record[_FAILED_ITEMS], "little")
        self._at[ledger] = at + whole
