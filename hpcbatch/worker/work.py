"""Which mini-batch comes next: new ones in order, failed ones again after them, suspects last and alone."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hpcbatch.worker.timelimit import TimeLimit

Report = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """The mini-batches of this attempt: *pending* in order, then *suspects* one at a time, and the tries they had."""

    pending: Iterator[int]
    suspects: list[int]
    tries: dict[int, int]
    failed_items: int
    memory_kills: dict[int, int] = field(default_factory=dict)
    begun: bool = False  # an earlier attempt finished a mini-batch of the group


@dataclass(frozen=True)
class Hooks:
    """What the event loop does for the queue."""

    watch: Callable[[int, Callable[[int], None]], None]
    unwatch: Callable[[int], None]
    arrived: Callable[[], None]  # something may be handed out that could not before
    failed: Callable[[int, Report], None]  # a mini-batch cannot be fetched: a failed try


class Queue:
    """What is left of the work. Nothing is handed out that is not likely to end before the time limit."""

    def __init__(self, work: Work, limit: TimeLimit) -> None:
        self.limit = limit
        self.completed = 0
        self._pending = work.pending
        self._front: deque[int] = deque()  # taken out and not begun
        self._retries: deque[int] = deque()
        self._suspects = deque(work.suspects)
        self._lonely = set(work.suspects)
        self._tries = dict(work.tries)
        self._memory_kills = dict(work.memory_kills)

    def next(self, *, idle: bool, before: int = 0) -> int | None:
        """The next mini-batch, to begin when *before* others have ended; None if there is none, or none for now:
        suspects need that everything else is *idle*.

        Until one was finished the time limit is not looked at: an attempt in which nothing fits would be the first of
        an endless row.
        """
        if (self.completed or before) and not self.limit.fits(before):
            return None
        return self._take(idle=idle)

    def attach(self, hooks: Hooks) -> None:
        """What the event loop does for the queue, before the first mini-batch is handed out."""

    @property
    def waiting(self) -> bool:
        """Whether something that cannot be handed out yet soon can be."""
        return False

    def ended(self, mini_batch: int) -> None:
        """A try of *mini_batch* has ended, well or not."""

    def close(self) -> None:
        """Nothing more will be handed out."""

    def anything_left(self) -> bool:
        """Whether there is a mini-batch that was not begun."""
        found = self._take(idle=True)
        if found is not None:
            self._front.appendleft(found)
        return found is not None

    def put_back(self, mini_batch: int) -> None:
        """*mini_batch* was not begun after all: it is the next one."""
        self._front.appendleft(mini_batch)

    def again(self, mini_batch: int) -> None:
        """*mini_batch* is tried once more, after the new ones."""
        self._retries.append(mini_batch)

    def again_alone(self, mini_batch: int) -> None:
        """*mini_batch* is tried once more, with nothing beside it."""
        self._lonely.add(mini_batch)
        self._suspects.append(mini_batch)

    def must_be_alone(self, mini_batch: int | None) -> bool:
        """Whether nothing may run beside *mini_batch*."""
        return mini_batch in self._lonely

    def tried(self, mini_batch: int) -> int:
        """Count a failed try; how many there were."""
        self._tries[mini_batch] = self._tries.get(mini_batch, 0) + 1
        return self._tries[mini_batch]

    def killed_for_memory(self, mini_batch: int) -> int:
        """Count a try that was killed for memory; how many there were."""
        self._memory_kills[mini_batch] = self._memory_kills.get(mini_batch, 0) + 1
        return self._memory_kills[mini_batch]

    def _take(self, *, idle: bool) -> int | None:
        if self._front:
            return self._front.popleft()
        for mini_batch in self._pending:
            return mini_batch
        if self._retries:
            return self._retries.popleft()
        if self._suspects and idle:
            return self._suspects.popleft()
        return None
