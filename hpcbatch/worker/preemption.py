"""Signals: a preemption is noted at once, and the work goes on until SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from types import FrameType

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.records.ledger import FLAG_TIME_LIMIT, Kind
from hpcbatch.worker.environment import SlurmTask
from hpcbatch.worker.log import UserLog


class Signals:
    """SIGTERM, SIGUSR2 and SIGCONT arrive as bytes on a pipe, so that the event loop acts on them between two steps."""

    def __init__(self) -> None:
        self.read_fd, self._write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self._write_fd, False)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT):
            signal.signal(number, _wake)

    def take(self) -> set[int]:
        """The signals that came since the last call."""
        with contextlib.suppress(BlockingIOError):
            return set(os.read(self.read_fd, 4096))
        return set()


def _wake(number: int, frame: FrameType | None) -> None:
    """The wakeup pipe has the signal's number already."""


class Release:
    """Says in the ledger, once, that this attempt will be cut off, and asks Slurm to queue the array task again, and to
    let it begin *back_after_s* later if that is not 0.
    """

    def __init__(self, writer: AttemptWriter, task: SlurmTask, log: UserLog, *, back_after_s: int = 0) -> None:
        self._writer = writer
        self._task = task
        self._log = log
        self._back_after_s = back_after_s
        self._asked: subprocess.Popen[bytes] | None = None
        self._set: subprocess.Popen[bytes] | None = None
        self.said = False

    def preempted(self) -> None:
        """Somebody wants the node. A SIGTERM that follows our own request says nothing new, but that the array task is
        in the queue again.
        """
        if not self.said:
            self._say(0, "told to make room: what is finished is safe; working on until the end")
            self._ask()
        self._come_back()

    def time_is_up(self, *, requeue: bool) -> None:
        """The time limit is near; with *requeue* what is left goes on in a new array task of the same name."""
        if not self.said:
            what = "what is left goes on in the next attempt" if requeue else "what is left is for the next round"
            self._say(FLAG_TIME_LIMIT, f"the time limit is near: what is finished is safe; {what}")
        if requeue:
            self._ask()

    def wait(self) -> None:
        """Until Slurm has the request: one that comes after this process has ended is refused."""
        if self._asked is not None:
            self._asked.wait()
            self._come_back()
        if self._set is not None:
            self._set.wait()

    def _say(self, flags: int, text: str) -> None:
        self.said = True
        self._writer.note(Kind.RELEASE, flags=flags)
        self._writer.sync()
        self._writer.sync_each = True
        self._log.note(text)

    def _ask(self) -> None:
        """`requeue incomplete` leaves a cancelled task cancelled (scontrol(1)); plain `requeue` would bring it back to
        life.
        """
        if self._asked is None and self._task.requeue_id:
            self._asked = _scontrol("requeue", "incomplete", self._task.requeue_id)

    def _come_back(self) -> None:
        """Slurm holds a requeued job back for two minutes, unless it has a time of its own to begin at (slurmctld,
        batch_requeue_fini). It takes one of a job that is in the queue, so of none that is cancelled or runs.
        """
        if not self._back_after_s or not self._task.requeue_id:
            return
        if self._set is None or self._set.poll():
            self._set = _scontrol("update", f"JobId={self._task.requeue_id}", f"StartTime=now+{self._back_after_s}")


def _scontrol(*words: str) -> subprocess.Popen[bytes] | None:
    quiet = subprocess.DEVNULL
    with contextlib.suppress(OSError):  # no Slurm commands on the node
        return subprocess.Popen(["timeout", "5", "scontrol", *words], stdin=quiet, stdout=quiet, stderr=quiet)
    return None
