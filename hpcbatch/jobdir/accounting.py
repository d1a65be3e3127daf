"""What a job has cost, from its ledgers alone: Slurm's accounting may be off, and knows nothing of mini-batches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcbatch.jobdir.attempt import HEARTBEAT_S
from hpcbatch.jobdir.ledgers import AttemptFiles
from hpcbatch.records.ledger import FLAG_FAILED, FLAG_MEMORY, FLAG_TIME_LIMIT, Kind, Record

_LAST_WORDS = (Kind.END, Kind.ABORT, Kind.FENCED)


@dataclass
class AttemptTally:
    """What one attempt's records say about its time. `*_ms` of one process each, all drivers together."""

    attempt: AttemptFiles
    opened: Record | None = None
    last_ms: int = 0  # the wall clock of the last record
    commits: int = 0
    start_up_ms: int = 0
    failed_ms: int = 0  # tries that failed
    inits: int = 0  # that succeeded
    memory_kills: int = 0
    memory_killed: set[int] = field(default_factory=set)
    aborted: Record | None = None
    ended: bool = False  # it had its last word: END, ABORT or FENCED
    preempted: bool = False
    at_time_limit: bool = False
    running: dict[int, int] = field(default_factory=dict)  # mini-batch to the wall clock of a START without an answer

    def take(self, record: Record) -> None:
        """One accepted record, in order."""
        kind = record.kind
        if kind == Kind.START:
            self.running[record.mini_batch] = record.wall_ms
        elif kind == Kind.COMMIT:
            self.commits += 1
            self.running.pop(record.mini_batch, None)
        elif kind == Kind.FAIL:
            self.failed_ms += max(0, record.wall_ms - self.running.pop(record.mini_batch, record.wall_ms))
            if record.flags & FLAG_MEMORY:
                self.memory_kills += 1
                self.memory_killed.add(record.mini_batch)
        elif kind == Kind.INIT:
            self.start_up_ms += record.run_ms
            self.inits += not record.flags & FLAG_FAILED
        elif kind == Kind.RELEASE:
            self.at_time_limit |= bool(record.flags & FLAG_TIME_LIMIT)
            self.preempted |= not record.flags & FLAG_TIME_LIMIT
        elif kind == Kind.OPEN:
            self.opened = record
        elif kind in _LAST_WORDS:
            self.ended = True
            self.aborted = record if kind == Kind.ABORT else None
        self.last_ms = max(self.last_ms, record.wall_ms)

    @property
    def opened_ms(self) -> int:
        """The wall clock of its first record."""
        return self.opened.wall_ms if self.opened else self.last_ms

    @property
    def lost_ms(self) -> int:
        """Time spent on mini-batches that it did not finish."""
        return sum(max(0, self.last_ms - begun_ms) for begun_ms in self.running.values())

    @property
    def was_released(self) -> bool:
        """Whether it was told that its end was near: by a preemption, or by its time limit."""
        return self.preempted or self.at_time_limit

    @property
    def is_silent(self) -> bool:
        """Whether it said nothing that excuses what it was running: it died without a word, or is at work still."""
        return not (self.ended or self.was_released)

    def about(self) -> Mapping[str, Any]:
        """What it noted of itself at its start: node, processors, GPUs; {} if that cannot be read."""
        return self.attempt.reason(self.opened) if self.opened else {}


@dataclass(frozen=True)
class Accounting:
    """What a job has cost until now.

    Seconds of scoring processes: `useful_s` in run() for the results that count, `lost_s` in run() for what was cut
    off or finished twice, `failed_s` for tries that failed, `start_up_s` until init() had returned. Of array tasks:
    `array_task_s` from start to last word, at most `uncertain_s` more (an attempt that dies says nothing; a record is
    written each minute), and that times its processors and GPUs in hours.
    """

    useful_s: float
    lost_s: float
    failed_s: float
    start_up_s: float
    array_task_s: float
    uncertain_s: float
    core_h: float
    gpu_h: float
    preemptions: int  # attempts that were told to make room
    time_limits: int  # attempts that ended because their time limit was near
    deaths: int  # attempts that ended without a word
    memory_kills: int  # tries that the kernel ended for memory
    recomputed_mini_batches: int  # run again although no try had failed


@dataclass(frozen=True)
class Spent:
    """What coverage knows beside the attempts: run() of the chosen results, and of results that came twice."""

    useful_ms: int
    duplicate_ms: int
    duplicates: int


def account(tallies: Sequence[AttemptTally], states: Sequence[int], spent: Spent, *, over: bool) -> Accounting:
    """The cost of a job by its attempts; *states* tells which mini-batches have a result.

    Of a job that is not *over*, the latest attempt of each group counts as running unless it had its last word: what
    it is working on is not lost.
    """
    latest = {(t.attempt.round, t.attempt.group): t for t in tallies}  # tallies come in the order of their epochs
    live = set() if over else {id(t) for t in latest.values() if not t.ended}
    gone = [t for t in tallies if id(t) not in live]
    cut_off = Counter(mini_batch for t in gone for mini_batch in t.running)
    again = sum(count > 1 or bool(states[n]) for n, count in cut_off.items() if n < len(states))
    cores_h = gpus_h = task_s = 0.0
    for tally in tallies:
        about = tally.about()
        seconds = max(0.0, tally.last_ms / 1000 - float(about.get("began") or tally.opened_ms / 1000))
        task_s += seconds
        cores_h += seconds * float(about.get("cores") or 1) / 3600
        gpus_h += seconds * float(about.get("gpus") or 0) / 3600
    return Accounting(
        useful_s=round(spent.useful_ms / 1000, 3),
        lost_s=round((sum(t.lost_ms for t in gone) + spent.duplicate_ms) / 1000, 3),
        failed_s=round(sum(t.failed_ms for t in tallies) / 1000, 3),
        start_up_s=round(sum(t.start_up_ms for t in tallies) / 1000, 3),
        array_task_s=round(task_s, 3),
        uncertain_s=round(_unknown_s(gone, tallies), 3),
        core_h=round(cores_h, 4),
        gpu_h=round(gpus_h, 4),
        preemptions=sum(t.preempted for t in tallies),
        time_limits=sum(t.at_time_limit and not t.preempted for t in tallies),
        deaths=sum(t.is_silent for t in gone),
        memory_kills=sum(t.memory_kills for t in tallies),
        recomputed_mini_batches=again + spent.duplicates,
    )


def _unknown_s(gone: Sequence[AttemptTally], tallies: Sequence[AttemptTally]) -> float:
    """How much longer than their last records they may have lived: a heartbeat, or until their groups' next attempts
    (by another node's clock, so it is a bound for people).
    """
    following: dict[tuple[int, int], AttemptTally] = {}
    total_ms = 0.0
    counted = {id(t) for t in gone}
    for tally in reversed(tallies):
        group = (tally.attempt.round, tally.attempt.group)
        if id(tally) in counted and not tally.ended:
            left_ms = following[group].opened_ms - tally.last_ms if group in following else 1000 * HEARTBEAT_S
            total_ms += max(0.0, min(1000 * HEARTBEAT_S, left_ms))
        following[group] = tally
    return total_ms / 1000
