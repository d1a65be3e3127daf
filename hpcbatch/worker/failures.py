"""What failed tries lead to: another try, a mini-batch that is given up or set aside, or the end of the attempt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import Manifest
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.memory import MAX_MEMORY_KILLS
from hpcbatch.worker.work import Queue

_CERTAIN = ("wrong-type", "time-limit")  # the next try would end the same way


@dataclass(frozen=True)
class Limits:
    """The deployment's limits as this attempt applies them."""

    drivers: int
    timeout_s: float
    init_timeout_s: float
    max_tries: int
    max_failed_items: int  # stop when more items than this failed; -1: never
    memory: str = ""  # what the array task has, in Slurm's words; "" if that is not known
    more_memory_later: bool = False  # a later round can ask for more
    longer: str = ""  # how to get a longer time limit


class Abort(Exception):
    """The attempt cannot go on; the report says why."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report.get("message", ""))
        self.report = report


class Failures:
    """Records failed tries and decides what follows. Raises Abort when too many items failed."""

    def __init__(self, manifest: Manifest, writer: AttemptWriter, limits: Limits, queue: Queue, log: UserLog) -> None:
        self._manifest = manifest
        self._writer = writer
        self._limits = limits
        self._queue = queue
        self._log = log
        self.items = 0

    def failed(self, mini_batch: int, report: Mapping[str, Any]) -> None:
        """A try failed: one of `max_retries`, unless the next would certainly end the same way."""
        tries, of = self._queue.tried(mini_batch), self._limits.max_tries
        final = tries >= of or report["kind"] in _CERTAIN
        self._record(mini_batch, {**report, "try": tries, "of": tries if final else of}, final=final)
        if not final:
            self._queue.again(mini_batch)

    def killed_for_memory(self, mini_batch: int, report: Mapping[str, Any]) -> None:
        """A try was killed for memory: the next one runs alone, the one after that in a round with more memory."""
        tries = self._queue.killed_for_memory(mini_batch)
        at_end = tries >= MAX_MEMORY_KILLS
        final = at_end and not self._limits.more_memory_later
        had = f" The array task has {self._limits.memory}." if self._limits.memory else ""
        next_ = " It runs again in a round that asks for more." if at_end and not final else ""
        what = report["message"] or "run() raised MemoryError"  # which has no words of its own
        said = {**report, "kind": "memory", "type": "OutOfMemory", "message": f"{what}.{had}{next_}"}
        self._record(mini_batch, {**said, "try": tries, "of": MAX_MEMORY_KILLS}, final=final, memory=True)
        if not at_end:
            self._queue.again_alone(mini_batch)

    def count(self, items: int) -> None:
        """*items* more have failed."""
        self.items += items
        limit = self._limits.max_failed_items
        if 0 <= limit < self.items:
            message = f"The number of failed items is {self.items}, which exceeds error threshold {limit}."
            raise Abort({"kind": "error_threshold", "message": message})

    def _record(self, mini_batch: int, report: dict[str, Any], *, final: bool, memory: bool = False) -> None:
        self._queue.ended(mini_batch)
        items = self._manifest.item_count(mini_batch)
        report |= {"mini_batch": mini_batch, "items": self._manifest.paths(mini_batch)[:5]}
        self._log.failure(mini_batch, report)
        self._writer.fail(mini_batch, report, final=final, failed_items=items if final else 0, memory=memory)
        if final:
            self.count(items)


def give_up(writer: AttemptWriter, report: Mapping[str, Any]) -> None:
    """Record why the attempt stops, durably."""
    writer.note(Kind.ABORT, report)
    writer.sync()
