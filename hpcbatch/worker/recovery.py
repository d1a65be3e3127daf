"""What earlier attempts of a group left behind, read from their ledgers alone."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from hpcbatch.jobdir.accounting import AttemptTally
from hpcbatch.jobdir.ledgers import AttemptFiles, Payloads
from hpcbatch.jobdir.repair import crashed_starts
from hpcbatch.records.ledger import FLAG_FINAL, FLAG_MEMORY, OF_INIT, Kind, Record

MAX_CRASHED_STARTS = 3
MAX_BARREN_ATTEMPTS = 20


@dataclass
class GroupState:
    """The state of one group: what is finished, and what was tried in vain."""

    done: set[int] = field(default_factory=set)  # has a COMMIT or a final FAIL
    failed_items: int = 0  # of `done`, by the rule of the merge: a COMMIT beats a FAIL, then the first one counts
    given_up: dict[int, int] = field(default_factory=dict)  # of `done`, by a FAIL alone: its failed items
    tries: Counter[int] = field(default_factory=Counter)  # failed tries of what is not done
    crashed_starts: Counter[int] = field(default_factory=Counter)  # started by a worker that died without a word
    memory_kills: Counter[int] = field(default_factory=Counter)  # tries that were killed for memory
    cut_short: Counter[int] = field(default_factory=Counter)  # running when an attempt reached its time limit
    time_limits: int = 0  # attempts that reached it
    longest_run_ms: int = 0  # of a mini-batch that was finished
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
            _read_attempt(state, AttemptTally(attempt), list(attempt.scan(job)), payloads)
    return state


def _read_attempt(state: GroupState, tally: AttemptTally, records: list[Record], payloads: Payloads) -> None:
    synced = max((r.seq for r in records if r.kind == Kind.SYNC), default=-1)
    waiting: dict[int, bool] = {}  # whether the files are there that the next COMMIT of a mini-batch goes with
    finished = False
    for record in records:
        tally.take(record)
        if record.kind == Kind.FILES:
            waiting[record.mini_batch] = record.seq < synced or payloads.intact(record)
        elif record.kind == Kind.COMMIT:
            finished = True
            files = waiting.pop(record.mini_batch, True) and waiting.get(OF_INIT, True)
            if files and (record.seq < synced or payloads.read(record) is not None):
                _commit(state, record)
        elif record.kind == Kind.FAIL:
            finished = True
            _fail(state, record)
    state.barren = 0 if finished else state.barren + (not tally.was_released)
    if tally.at_time_limit:
        state.time_limits += 1
        state.cut_short.update(list(tally.running))
    state.crashed_starts += crashed_starts([tally])


def _commit(state: GroupState, record: Record) -> None:
    state.longest_run_ms = max(state.longest_run_ms, record.run_ms)
    if record.mini_batch in state.given_up:
        state.failed_items -= state.given_up.pop(record.mini_batch)
    elif record.mini_batch in state.done:
        return
    state.done.add(record.mini_batch)
    state.failed_items += record.failed_items


def _fail(state: GroupState, record: Record) -> None:
    if record.flags & FLAG_FINAL:
        if record.mini_batch not in state.done:
            state.done.add(record.mini_batch)
            state.given_up[record.mini_batch] = record.failed_items
            state.failed_items += record.failed_items
    elif record.flags & FLAG_MEMORY:
        state.memory_kills[record.mini_batch] += 1
    else:
        state.tries[record.mini_batch] += 1
