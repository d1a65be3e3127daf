"""What earlier attempts of a group left behind, read from their ledgers alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpcbatch.jobdir.ledgers import AttemptFiles, Payloads
from hpcbatch.records.ledger import FLAG_FINAL, Kind, Record

MAX_CRASHED_STARTS = 3
MAX_BARREN_ATTEMPTS = 20


@dataclass
class GroupState:
    """The state of one group: what is finished, and what was tried in vain."""

    done: set[int] = field(default_factory=set)  # has a COMMIT or a final FAIL
    failed_items: int = 0  # of `done`
    tries: Counter[int] = field(default_factory=Counter)  # failed tries of what is not done
    crashed_starts: Counter[int] = field(default_factory=Counter)  # started by a worker that died without a word
    last_epoch: int = 0
    barren: int = 0  # the latest attempts in a row that finished nothing, those not counted that were told to make room


def read_group(attempts: Iterable[AttemptFiles], job: bytes) -> GroupState:
    """The union of what *attempts* accepted.

    A COMMIT since the last SYNC may point to bytes that a crashed node never wrote, so its payload is checked; older
    ones are durable.
    """
    state = GroupState()
    for attempt in attempts:
        state.last_epoch = max(state.last_epoch, attempt.epoch)
        with contextlib.closing(Payloads(attempt.segment)) as payloads:
            _read_attempt(state, list(attempt.scan(job)), payloads)
    return state


def _read_attempt(state: GroupState, records: list[Record], payloads: Payloads) -> None:
    synced = max((r.seq for r in records if r.kind == Kind.SYNC), default=-1)
    started: set[int] = set()
    excused = finished = released = False
    for record in records:
        if record.kind == Kind.START:
            started.add(record.mini_batch)
        elif record.kind in (Kind.COMMIT, Kind.FAIL):
            finished = True
            started.discard(record.mini_batch)
            if record.kind == Kind.FAIL and not record.flags & FLAG_FINAL:
                state.tries[record.mini_batch] += 1
            elif record.kind == Kind.FAIL or record.seq < synced or payloads.read(record) is not None:
                _finish(state, record.mini_batch, record.failed_items)
        elif record.kind in (Kind.RELEASE, Kind.FENCED, Kind.END, Kind.ABORT):
            excused = True
            released |= record.kind == Kind.RELEASE
    state.barren = 0 if finished else state.barren + (not released)
    if not excused:
        state.crashed_starts.update(started)


def _finish(state: GroupState, mini_batch: int, failed_items: int) -> None:
    if mini_batch not in state.done:
        state.done.add(mini_batch)
        state.failed_items += failed_items
