"""What an attempt hears while it works: signals, Slurm's answer about its time limit, a later attempt of its group."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import attempts_in
from hpcbatch.worker import preemption
from hpcbatch.worker.loop import Canceled, GiveWay, Loop
from hpcbatch.worker.timelimit import Question, TimeLimit

FENCE_CHECK_S = 30.0


def to_signals(
    loop: Loop, signals: preemption.Signals, release: preemption.Release, job: JobDir, limit: TimeLimit
) -> None:
    """SIGTERM, or SIGUSR2 that is not about a time limit that is known: make room, or end if the job was canceled."""

    def on_signal(_: int) -> None:
        came = signals.take()
        if signal.SIGTERM in came and job.canceled():
            raise Canceled
        # SIGUSR2 comes shortly before the time limit, which the loop sees by itself once it is known. Where it is not:
        # with a short limit the signal comes at the very start, and there is nothing to gain by beginning again.
        warned = signal.SIGUSR2 in came and loop.completed and not limit.near
        if signal.SIGTERM in came or warned:
            release.preempted()

    loop.watch(signals.read_fd, on_signal)


def to_slurm(loop: Loop, question: Question) -> Callable[[], None]:
    """A tick that asks *question* when it is time to; the answer is taken when it comes."""

    def tick() -> None:
        fd = question.ask()
        if fd >= 0:
            loop.watch(fd, lambda _: listen(fd))

    def listen(fd: int) -> None:
        loop.unwatch(fd)  # before it is closed
        if not question.listen():
            loop.watch(fd, lambda _: listen(fd))

    tick()
    return tick


def for_a_later_attempt(job: JobDir, round_number: int, group: int, epoch: int) -> Callable[[], None]:
    """A check that ends this process when an attempt later than *epoch* exists, or the job was canceled while Slurm
    could not be asked to end it. Economy only: the merge takes one result per mini-batch.
    """
    checked = [time.monotonic()]
    folder = job.paths.group(round_number, group)

    def check() -> None:
        if time.monotonic() - checked[0] < FENCE_CHECK_S:
            return
        checked[0] = time.monotonic()
        if any(attempt.epoch > epoch for attempt in attempts_in(folder, round_number, group)):
            raise GiveWay
        if job.canceled():
            raise Canceled

    return check
