"""What Slurm tells a running step, and what it is answered."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable

from hpcbatch.worker.environment import SlurmTask
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.preemption import Signals
from hpcbatch.worker.timelimit import parse_left

WAIT_FOR_THE_END_S = 120.0
NEAR_S = 5.0  # squeue says 0:00 from the limit on; clocks differ a little


class Attention:
    """Hears signals beside a running command.

    SIGTERM means that somebody else gets the node: the command is told, has until it is killed, and Slurm is asked to
    queue this Slurm job again. At the time limit SIGTERM comes as well; a repetition would only meet it again, so Slurm
    is asked first how much time there was left.
    """

    def __init__(self, slurm: SlurmTask, log: UserLog, canceled: Callable[[], bool]) -> None:
        self._signals = Signals()
        signal.signal(signal.SIGCHLD, lambda *_: None)  # its number on the pipe of the signals is enough
        self._slurm = slurm
        self._log = log
        self._canceled = canceled
        self._asked: subprocess.Popen[bytes] | None = None
        self._time_is_up = False
        self.preempted = False
        self.read_fd = self._signals.read_fd

    def heard(self) -> None:
        """See Wishes."""
        if signal.SIGTERM not in self._signals.take() or self.preempted or self._time_is_up or self._canceled():
            return
        self._time_is_up = self._left_s() <= NEAR_S
        if not self._time_is_up:
            self.preempted = True
            self._log.note("told to make room: if the command does not end well before it is killed, it runs again")
            self._ask()

    def unwanted(self) -> str:
        """See Wishes."""
        return "the job was canceled" if self._canceled() else ""

    def warned(self) -> bool:
        """See Wishes."""
        return self.preempted or self._time_is_up

    def too_late(self) -> str:
        """See Wishes."""
        return "the time limit of its Slurm job is over" if self._time_is_up else ""

    def _left_s(self) -> float:
        """How much of the time limit Slurm says is left; infinite where it says nothing."""
        left = parse_left(self._asked_for("%L"))
        return float("inf") if left is None else left

    def _asked_for(self, what: str) -> str:
        """What squeue says of our Slurm job; empty where it says nothing."""
        if not self._slurm.requeue_id:
            return ""
        command = ["timeout", "5", "squeue", "-h", "-t", "all", "-j", self._slurm.requeue_id, "-o", what]
        words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return words[0] if words else ""

    def is_over(self) -> bool:
        """Whether a command that failed just now may have failed because its Slurm job is being ended: what it started
        elsewhere may notice before we are told.
        """
        self.heard()
        return self.preempted or self._asked_for("%T") not in ("", "RUNNING")

    def wait_for_the_end(self) -> None:
        """Until Slurm has the request and ends this process: a request for one that has ended is refused."""
        if self._asked is not None:
            self._asked.wait()
        end = time.monotonic() + (WAIT_FOR_THE_END_S if self._slurm.requeue_id else 0)
        while time.monotonic() < end:
            time.sleep(1)

    def _ask(self) -> None:
        """`requeue incomplete` leaves a cancelled job cancelled (scontrol(1)); plain `requeue` would bring it back."""
        if not self._slurm.requeue_id:
            return
        quiet = subprocess.DEVNULL
        with contextlib.suppress(OSError):
            command = ["timeout", "5", "scontrol", "requeue", "incomplete", self._slurm.requeue_id]
            self._asked = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
