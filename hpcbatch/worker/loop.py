"""The event loop of one attempt: hand mini-batches to the drivers, append what comes back, never wait for user code."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import Manifest
from hpcbatch.scoring.driver_process import Done, DriverProcess, Failed, Ready, Reply, Stopped, Text
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.slot import Slot

INIT_TRIES = 3
SHUTDOWN_S = 30.0


@dataclass(frozen=True)
class Limits:
    """The deployment's limits as this attempt applies them."""

    drivers: int
    timeout_s: float
    init_timeout_s: float
    max_tries: int
    max_failed_items: int  # stop when more items than this failed; -1: never


@dataclass(frozen=True)
class Work:
    """The mini-batches of this attempt: *pending* in order, then *suspects* one at a time, and the tries they had."""

    pending: Iterator[int]
    suspects: list[int]
    tries: dict[int, int]
    failed_items: int


class GiveWay(Exception):
    """A later attempt of the same group exists."""


class Canceled(Exception):
    """Somebody asked for the end of the job."""


class Abort(Exception):
    """The attempt cannot go on; the report says why."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__(report.get("message", ""))
        self.report = report


class Loop:
    """Runs one attempt until its work is done, or raises Abort, or OSError of the writer."""

    def __init__(
        self,
        *,
        manifest: Manifest,
        writer: AttemptWriter,
        limits: Limits,
        work: Work,
        start: Callable[[int], DriverProcess],
        log: UserLog,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._limits = limits
        self._work = work
        self._start = start
        self._log = log
        self._pending = work.pending
        self._front: deque[int] = deque()  # taken out and not begun
        self._retries: deque[int] = deque()
        self._suspects = deque(work.suspects)
        self._tries = dict(work.tries)
        self.failed_items = work.failed_items
        self.completed = 0
        self._left_us = 0
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._slots: list[Slot] = []
        self.ticks: list[Callable[[], None]] = []  # called after every sync

    def watch(self, fd: int, call: Callable[[int], None]) -> None:
        """Call *call* with the epoll events whenever *fd* is readable."""
        self._watched[fd] = call
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def run(self) -> None:
        """Score until nothing is left. On return every mini-batch of the work has a COMMIT or a final FAIL."""
        try:
            first = self._next()
            if first is None:
                return
            self._front.appendleft(first)
            for number in range(self._limits.drivers):
                slot = Slot(number)
                self._slots.append(slot)
                self._begin(slot)
            while any(slot.driver is not None for slot in self._slots):
                self._step()
        finally:
            for slot in self._slots:
                self._drop(slot)
            self._poll.close()

    def _step(self) -> None:
        for fd, events in self._poll.poll(self._wait_s()):
            call = self._watched.get(fd)
            if call is not None:
                call(events)
        now = time.monotonic()
        for slot in self._slots:
            if slot.driver is not None and now >= slot.deadline:
                self._overrun(slot)
        if self._writer.sync_due():
            self._writer.sync()
            for tick in self.ticks:
                tick()

    def _wait_s(self) -> float:
        nearest = min((slot.deadline for slot in self._slots if slot.driver is not None), default=0.0)
        return max(0.0, min(nearest - time.monotonic(), self._writer.next_sync_s(), 60.0))

    # -- drivers

    def _begin(self, slot: Slot) -> None:
        driver = self._start(slot.number)
        slot.begin(driver, self._limits.init_timeout_s)
        self.watch(driver.reply_fd, lambda _: self._on_reply(slot))
        self.watch(driver.stdout_fd, lambda _: self._on_text(slot, driver.stdout_fd))
        self.watch(driver.stderr_fd, lambda _: self._on_text(slot, driver.stderr_fd))

    def _drop(self, slot: Slot) -> int:
        """End the slot's driver, take its last words, put back what it had not begun; its exit status."""
        driver = slot.driver
        if driver is None:
            return 0
        driver.kill()
        driver.process.wait()
        self._note_text(slot, driver.drain())
        for fd in (driver.reply_fd, driver.stdout_fd, driver.stderr_fd, driver.request_fd):
            self.unwatch(fd)
        status = driver.close()
        if slot.queued is not None:
            self._front.appendleft(slot.queued)
        slot.end()
        return status

    def _on_reply(self, slot: Slot) -> None:
        driver = slot.driver
        if driver is None:
            return
        replies, alive = driver.replies()
        for reply in replies:
            self._take(slot, reply)
        if not alive and slot.driver is driver:
            self._died(slot)

    def _take(self, slot: Slot, reply: Reply) -> None:
        if type(reply) is Done:
            self._done(slot, reply)
        elif isinstance(reply, Failed):
            self._failed(slot, reply.report)
        elif isinstance(reply, Ready):
            slot.ready = True
            slot.init_failures = 0
            self._log.note(
                f"driver {slot.number}: init() took {reply.report['init_ms']} ms on Python {reply.report['python']}"
            )
            self._feed(slot)
        elif isinstance(reply, Stopped):
            self._drop(slot)

    def _done(self, slot: Slot, reply: Done) -> None:
        slot.advance(self._limits.timeout_s)
        self._writer.commit(
            reply.mini_batch,
            reply.payload,
            rows=reply.rows,
            failed_items=reply.failed_items,
            run_ms=self._run_ms(reply.run_us),
            then_start=slot.current,
        )
        self.completed += 1
        if reply.failed_items:
            self._count_failed(reply.failed_items)
        self._feed(slot)

    def _run_ms(self, run_us: int) -> int:
        """Whole milliseconds, what is left over carried to the next: tiny mini-batches add up too."""
        whole, self._left_us = divmod(self._left_us + run_us, 1000)
        return whole

    def _feed(self, slot: Slot) -> None:
        """Keep one mini-batch running and one waiting in the pipe, or ask the driver to end."""
        driver = slot.driver
        if driver is None or not slot.ready:
            return
        while slot.queued is None and not slot.stopping:
            mini_batch = self._next() if slot.current is None or self._may_prefetch(slot) else None
            if mini_batch is None:
                break
            if slot.current is None:
                self._writer.start(mini_batch)
            slot.give(mini_batch, self._limits.timeout_s)
            driver.run(mini_batch, self._manifest.payload(mini_batch))
        if slot.current is None and not slot.stopping:
            slot.stop(SHUTDOWN_S)
            driver.stop()
        if driver.wants_to_write:
            self._flush_later(driver)

    def _flush_later(self, driver: DriverProcess) -> None:
        def flush(_: int) -> None:
            driver.flush()
            if not driver.wants_to_write:
                self.unwatch(driver.request_fd)

        if driver.request_fd not in self._watched:
            self._watched[driver.request_fd] = flush
            self._poll.register(driver.request_fd, select.EPOLLOUT)

    # -- what comes next

    def _next(self) -> int | None:
        """The next mini-batch: new ones first, failed ones again after them, suspects last and alone."""
        if self._front:
            return self._front.popleft()
        for mini_batch in self._pending:
            return mini_batch
        if self._retries:
            return self._retries.popleft()
        if self._suspects and all(slot.current is None for slot in self._slots):
            return self._suspects.popleft()
        return None

    def _may_prefetch(self, slot: Slot) -> bool:
        """Whether a second mini-batch may wait in the pipe: not beside a suspect, nor once every commit is synced.

        A driver that goes on while its last result is being synced would lose two mini-batches to a SIGKILL.
        """
        return slot.current not in self._work.suspects and not self._writer.sync_each

    # -- failures

    def _failed(self, slot: Slot, report: dict[str, Any]) -> None:
        driver = slot.driver
        assert driver is not None
        self._note_text(slot, driver.drain())
        if report["kind"] == "init":
            self._drop(slot)
            self._init_failed(slot, report)
        elif report["kind"] == "shutdown":
            self._log.note(f"driver {slot.number}: shutdown() failed\n{report['traceback']}")
        else:
            mini_batch = slot.current
            assert mini_batch is not None
            report = {**report, **slot.tail(mini_batch)}
            following = slot.advance(self._limits.timeout_s)
            self._try_failed(slot, mini_batch, report)
            if following is not None:
                self._writer.start(following)
            self._feed(slot)

    def _died(self, slot: Slot) -> None:
        mini_batch, ready, stopping = slot.current, slot.ready, slot.stopping
        status = self._drop(slot)
        if stopping and mini_batch is None:
            return
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        extra = " (out of memory?)" if status == -9 else ""
        report = {"kind": "crash", "type": "ProcessDied", "message": f"the scoring process died: {how}{extra}"}
        if not ready:
            self._init_failed(slot, {**report, "message": f"the scoring process died during init(): {how}{extra}"})
            return
        if mini_batch is not None:
            self._try_failed(slot, mini_batch, report)
        self._begin_again(slot)

    def _overrun(self, slot: Slot) -> None:
        """A deadline passed: kill the driver; a mini-batch loses a try, init() counts as failed."""
        mini_batch, ready, stopping = slot.current, slot.ready, slot.stopping
        self._drop(slot)
        if stopping:
            self._log.note(f"driver {slot.number}: shutdown() did not return in {SHUTDOWN_S:g} s and was ended")
        elif not ready:
            limit = self._limits.init_timeout_s
            self._init_failed(
                slot, {"kind": "init", "type": "Timeout", "message": f"init() did not return in {limit:g} s"}
            )
        elif mini_batch is not None:
            limit = self._limits.timeout_s
            message = f"run() did not return in {limit:g} s (retry_settings.timeout), so its process was killed"
            self._try_failed(slot, mini_batch, {"kind": "timeout", "type": "Timeout", "message": message})
            self._begin_again(slot)

    def _begin_again(self, slot: Slot) -> None:
        first = self._next()
        if first is not None:
            self._front.appendleft(first)
            self._begin(slot)

    def _init_failed(self, slot: Slot, report: dict[str, Any]) -> None:
        report = {**report, "kind": "init", **slot.tail(None)}
        report.pop("mini_batch", None)  # the driver's mark for what is outside of any
        self._log.failure(None, report)
        slot.init_failures += 1
        if slot.init_failures < INIT_TRIES:
            self._begin_again(slot)
        elif not any(other.driver is not None for other in self._slots) and self._next() is not None:
            raise Abort(report)

    def _try_failed(self, slot: Slot, mini_batch: int, report: dict[str, Any]) -> None:
        tries = self._tries.get(mini_batch, 0) + 1
        self._tries[mini_batch] = tries
        final = tries >= self._limits.max_tries
        items = self._manifest.item_count(mini_batch)
        report = {
            **slot.tail(mini_batch),
            **report,
            "mini_batch": mini_batch,
            "try": tries,
            "of": self._limits.max_tries,
        }
        report["items"] = self._manifest.paths(mini_batch)[:5]
        self._log.failure(mini_batch, report)
        self._writer.fail(mini_batch, report, final=final, failed_items=items if final else 0)
        if final:
            self._count_failed(items)
        else:
            self._retries.append(mini_batch)

    def _count_failed(self, items: int) -> None:
        self.failed_items += items
        limit = self._limits.max_failed_items
        if 0 <= limit < self.failed_items:
            message = f"The number of failed items is {self.failed_items}, which exceeds error threshold {limit}."
            raise Abort({"kind": "error_threshold", "message": message})

    # -- printed text

    def _on_text(self, slot: Slot, fd: int) -> None:
        driver = slot.driver
        if driver is None:
            return
        texts, more = driver.text(fd)
        self._note_text(slot, texts)
        if not more:
            self.unwatch(fd)

    def _note_text(self, slot: Slot, texts: list[Text]) -> None:
        for text in texts:
            owner = slot.owner(text.mini_batch)
            outside = "shutdown" if slot.stopping else "init"
            self._log.text(outside if owner is None else f"mb {owner}", text.error, text.data)
            slot.remember(owner, text.error, text.data)


def give_up(writer: AttemptWriter, report: dict[str, Any]) -> None:
    """Record why the attempt stops, durably."""
    writer.note(Kind.ABORT, report)
    writer.sync()
