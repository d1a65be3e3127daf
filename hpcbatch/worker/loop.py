"""The event loop of one attempt: hand mini-batches to the drivers, append what comes back, never wait for user code."""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable
from typing import Any

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.records.plan import Manifest
from hpcbatch.scoring.driver_process import Done, DriverProcess, Failed, Files, Ready, Reply, Stopped
from hpcbatch.worker.failures import Abort, Failures, Limits
from hpcbatch.worker.files import FileKeeper, Torn
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.memory import MemoryKills
from hpcbatch.worker.slot import Slot
from hpcbatch.worker.timelimit import TimeLimit
from hpcbatch.worker.work import Hooks, Queue, Work

INIT_TRIES = 3
SHUTDOWN_S = 30.0
KILL_SPREAD_S = 1.0
KILL_SPREAD_TOLD_S = 5.0  # once told to make room, a SIGKILL is what is expected


class GiveWay(Exception):
    """A later attempt of the same group exists."""


class Canceled(Exception):
    """Somebody asked for the end of the job."""


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
        limit: TimeLimit,
        memory: MemoryKills,
        queue: Queue | None = None,
    ) -> None:
        self._manifest = manifest
        self._writer = writer
        self._limits = limits
        self._start = start
        self._log = log
        self._files = FileKeeper(writer, log)
        self._limit = limit
        self._memory = memory
        self._queue = queue or Queue(work, limit)
        self._failures = Failures(manifest, writer, limits, self._queue, log)
        self._failures.items = work.failed_items
        self.at_limit: Callable[[], None] = lambda: None  # called once, shortly before the time limit
        self._called = False
        self._begun_at = self._ready_at = float("inf")  # of the first driver: begun, and done with init()
        self._begun = work.begun
        self.completed = 0
        self._left_us = 0
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[int], None]] = {}
        self._slots: list[Slot] = []
        self.ticks: list[Callable[[], None]] = []  # called after every sync
        self.ready: list[Callable[[], None]] = []  # called when an init() has returned
        self._queue.attach(Hooks(self.watch, self.unwatch, self._arrived, self._failures.failed))

    @property
    def failed_items(self) -> int:
        """Of the whole group until now."""
        return self._failures.items

    def watch(self, fd: int, call: Callable[[int], None]) -> None:
        """Call *call* with the epoll events whenever *fd* is readable."""
        self._watched[fd] = call
        self._poll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        """Forget *fd*."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def run(self) -> bool:
        """Score until nothing is left, or nothing that can end before the time limit.

        True if every mini-batch of the work has a COMMIT or a final FAIL, or was set aside for a round with more
        memory.
        """
        try:
            first = self._next()
            if first is not None:
                self._queue.put_back(first)
            elif not self._queue.waiting:
                return True
            self._begun_at = time.monotonic()
            for number in range(self._limits.drivers):
                slot = Slot(number)
                self._slots.append(slot)
                self._begin(slot)
            while any(slot.driver is not None for slot in self._slots):
                self._step()
            return not self._queue.anything_left()
        finally:
            for slot in self._slots:
                self._drop(slot)
            self._queue.close()
            self._poll.close()

    def _step(self) -> None:
        events = self._poll.poll(self._wait_s())
        now = time.monotonic()  # a reply that came while an event was dealt with is read before its deadline counts
        for fd, event in events:
            call = self._watched.get(fd)
            if call is not None:
                call(event)
        for slot in self._slots:
            if slot.driver is not None and now >= slot.deadline:
                self._overrun(slot)
        if now >= self._limit.last_call and not self._called:
            self._called = True
            self._last_call()
        if self._writer.sync_due():
            self._writer.sync()
            for tick in self.ticks:
                tick()

    def _wait_s(self) -> float:
        nearest = min((slot.deadline for slot in self._slots if slot.driver is not None), default=0.0)
        if not self._called:
            nearest = min(nearest, self._limit.last_call)
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
        slot.note(self._log, driver.drain())
        for fd in (driver.reply_fd, driver.stdout_fd, driver.stderr_fd, driver.request_fd):
            self.unwatch(fd)
        status = driver.close()
        if slot.queued is not None:
            self._queue.put_back(slot.queued)
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
            self._ready_at = min(self._ready_at, time.monotonic())
            self._writer.init_ended(slot.lived_ms())
            for call in self.ready:
                call()
            self._log.note(
                f"driver {slot.number}: init() took {reply.report['init_ms']} ms on Python {reply.report['python']}"
            )
            self._feed(slot)
        elif isinstance(reply, Files):
            self._keep(slot, reply)
        elif isinstance(reply, Stopped):
            self._drop(slot)

    def _keep(self, slot: Slot, reply: Files) -> None:
        begin = time.monotonic()
        try:
            slot.files = self._files.take(reply.report)
        except Torn as error:
            slot.torn = str(error)
        took_s = time.monotonic() - begin
        for other in self._slots:  # nobody's reply was read meanwhile
            other.deadline += took_s

    def _done(self, slot: Slot, reply: Done) -> None:
        if slot.torn:
            self._failed(slot, {"kind": "files", "type": "Torn", "message": slot.torn})
            return
        files = slot.files
        slot.advance(self._limits.timeout_s)
        self._writer.commit(
            reply.mini_batch,
            reply.payload,
            rows=reply.rows,
            failed_items=reply.failed_items,
            run_ms=self._run_ms(reply.run_us),
            then_start=slot.current,
            files=files,
        )
        self._queue.ended(reply.mini_batch)
        self.completed = self._queue.completed = self.completed + 1
        self._limit.took(reply.run_us / 1e6)
        if reply.failed_items:
            self._failures.count(reply.failed_items)
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
            if slot.current is None:
                mini_batch = self._next()
            else:
                mini_batch = self._next(before=1) if self._may_prefetch(slot) else None
            if mini_batch is None:
                break
            if slot.current is None:
                self._writer.start(mini_batch)
            slot.give(mini_batch, self._limits.timeout_s)
            driver.run(mini_batch, self._manifest.payload(mini_batch))
        if slot.current is None and not slot.stopping:
            if self._queue.waiting:
                slot.wait()
            else:
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

    def _next(self, before: int = 0) -> int | None:
        return self._queue.next(idle=all(slot.current is None for slot in self._slots), before=before)

    def _may_prefetch(self, slot: Slot) -> bool:
        """Whether a second mini-batch may wait in the pipe: not beside a suspect, nor once every commit is synced.

        A driver that goes on while its last result is being synced would lose two mini-batches to a SIGKILL.
        """
        return not self._queue.must_be_alone(slot.current) and not self._writer.sync_each

    # -- failures

    def _failed(self, slot: Slot, report: dict[str, Any]) -> None:
        driver = slot.driver
        assert driver is not None
        slot.note(self._log, driver.drain())
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
            if report["type"] == "MemoryError":
                self._failures.killed_for_memory(mini_batch, report)
            else:
                self._failures.failed(mini_batch, report)
            if following is not None:
                self._writer.start(following)
            self._feed(slot)

    def _died(self, slot: Slot) -> None:
        mini_batch, ready, stopping = slot.current, slot.ready, slot.stopping
        status = self._drop(slot)
        if stopping and mini_batch is None:
            return
        if status == -signal.SIGKILL:
            # Slurm kills the processes of a step one after the other. Were this the end, ours comes within this time,
            # and no try is spent.
            time.sleep(KILL_SPREAD_TOLD_S if self._writer.sync_each else KILL_SPREAD_S)
        memory = status == -signal.SIGKILL and self._memory.one_more()
        how = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
        how = "it was killed for memory" if memory else how
        report = {"kind": "crash", "type": "OutOfMemory" if memory else "ProcessDied"}
        if not ready:
            message = f"the scoring process died during init(): {how}"
            self._init_failed(slot, {**report, "message": message, "memory": memory})
            return
        if mini_batch is not None:
            report |= {**slot.tail(mini_batch), "message": f"the scoring process died: {how}"}
            if memory:
                self._failures.killed_for_memory(mini_batch, report)
            else:
                self._failures.failed(mini_batch, report)
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
            report = {"kind": "timeout", "type": "Timeout", "message": message}
            self._failures.failed(mini_batch, {**slot.tail(mini_batch), **report})
            self._begin_again(slot)

    def _last_call(self) -> None:
        """The time limit is near: what had nearly all of an attempt's time, or was cut off before, is given up."""
        limit, most_of_it = self._limit, self._limit.had_most_of_it
        within = f"within the array task's time limit of {limit.end - limit.began:.0f} s. {self._limits.longer}"
        running = [slot for slot in self._slots if slot.driver is not None and not slot.stopping]
        if running and not any(slot.ready for slot in running) and most_of_it(running[0].begun_at, self._begun_at):
            raise Abort({"kind": "time-limit", "type": "TimeLimit", "message": f"init() did not return {within}"})
        for slot in running:
            mini_batch = slot.current
            if mini_batch is None or not (most_of_it(slot.given_at, self._ready_at) or limit.too_often(mini_batch)):
                continue
            message = f"mini-batch {mini_batch} did not end {within}"
            report = {"kind": "time-limit", "type": "TimeLimit", "message": message}
            if not (self.completed or self._begun):
                raise Abort(report)
            self._drop(slot)
            self._failures.failed(mini_batch, {**slot.tail(mini_batch), **report})
        self.at_limit()

    def _begin_again(self, slot: Slot) -> None:
        first = self._next()
        if first is not None:
            self._queue.put_back(first)
        if first is not None or self._queue.waiting:
            self._begin(slot)

    def _init_failed(self, slot: Slot, report: dict[str, Any]) -> None:
        report = {**report, "kind": "init", **slot.tail(None)}
        report["memory"] = bool(report.get("memory")) or report["type"] == "MemoryError"
        report.pop("mini_batch", None)  # the driver's mark for what is outside of any
        self._log.failure(None, report)
        self._writer.init_ended(slot.lived_ms(), failed=True)
        slot.init_failures += 1
        if slot.init_failures < INIT_TRIES:
            self._begin_again(slot)
        elif not any(other.driver is not None for other in self._slots) and self._next() is not None:
            raise Abort(report)

    # -- items that are fetched

    def _arrived(self) -> None:
        for slot in self._slots:
            self._feed(slot)

    # -- printed text

    def _on_text(self, slot: Slot, fd: int) -> None:
        driver = slot.driver
        if driver is None:
            return
        texts, more = driver.text(fd)
        slot.note(self._log, texts)
        if not more:
            self.unwatch(fd)
