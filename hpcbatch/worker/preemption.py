"""Signals: a preemption is noted at once, and the work goes on until SIGKILL."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Callable
from types import FrameType

from hpcbatch.worker.environment import SlurmTask


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


def requeue(task: SlurmTask) -> Callable[[], None]:
    """A call that asks Slurm once, without waiting, to queue this array task again.

    `requeue incomplete` leaves a cancelled task cancelled (scontrol(1)); plain `requeue` would bring it back to life.
    """
    asked: list[subprocess.Popen[bytes]] = []

    def ask() -> None:
        if asked or not task.requeue_id:
            return
        with contextlib.suppress(OSError):
            asked.append(
                subprocess.Popen(
                    ["timeout", "5", "scontrol", "requeue", "incomplete", task.requeue_id],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                )
            )

    return ask
