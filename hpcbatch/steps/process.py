"""Run a command as a group of processes of its own, until it ends, its time is over, or nobody wants it any more."""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KILL_AFTER_S = 10.0
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
CANCEL_CHECK_S = 5.0


@dataclass(frozen=True)
class Launch:
    """What to start: each of *commands* is one process; all of them are one command to the step."""

    commands: Sequence[Sequence[str]]
    environments: Sequence[Mapping[str, str]]
    folder: Path
    log: Path
    is_told: bool = True  # that it has to end: by SIGTERM, as soon as we are


@dataclass(frozen=True)
class Ended:
    """How it ended: the exit code (negative: the signal), and why we ended it ourselves if we did."""

    code: int
    reason: str = ""


class Wishes(Protocol):
    """What the outside may want meanwhile."""

    read_fd: int  # readable when a signal came

    def heard(self) -> None:
        """A signal came."""

    def unwanted(self) -> str:
        """Why the command must end now; empty if it need not."""

    def warned(self) -> bool:
        """Whether the command should know that its time is running out."""

    def too_late(self) -> str:
        """Why a command that did not end in time has failed; empty if it will be run again."""


def run(launch: Launch, wishes: Wishes, *, timeout_s: float | None, log_fd: int) -> Ended:
    """Run to the end. The first process that fails ends the others; the answer is its code.

    The processes are in a session of their own: a signal to us (Slurm's, at a preemption or the time limit) is ours to
    answer. The command is told by SIGTERM to its process group, and how it ends in the time that is left is its end.
    """
    begun = time.monotonic()
    processes = [
        subprocess.Popen(
            list(command), env=dict(environment), cwd=launch.folder, stdin=subprocess.DEVNULL, stdout=log_fd,
            stderr=log_fd, start_new_session=True,
            preexec_fn=_die_with_the_runner,  # noqa: PLW1509  # this process has one thread
        )
        for command, environment in zip(launch.commands, launch.environments, strict=True)
    ]  # fmt: skip
    checked, told = begun, 0.0
    try:
        while True:
            codes = [process.poll() for process in processes]
            failed = [code for code in codes if code]
            if failed or None not in codes:
                return Ended(failed[0] if failed else 0, wishes.too_late() if failed else "")
            now = time.monotonic()
            if wishes.warned() and not told:
                told = now
                _signal(processes if launch.is_told else [], signal.SIGTERM)
            if told and (now - told > KILL_AFTER_S or not launch.is_told) and (reason := wishes.too_late()):
                return Ended(-signal.SIGTERM, reason)
            if timeout_s is not None and now - begun > timeout_s:
                return Ended(-signal.SIGTERM, f"it ran longer than its limit of {timeout_s:g} s")
            if now - checked > CANCEL_CHECK_S:
                checked = now
                if reason := wishes.unwanted():
                    return Ended(-signal.SIGTERM, reason)
            readable, _, _ = select.select([wishes.read_fd], [], [], 1.0)
            if readable:
                wishes.heard()
                if reason := wishes.unwanted():
                    return Ended(-signal.SIGTERM, reason)
    finally:
        _end(processes)


def _die_with_the_runner() -> None:
    """Have the kernel end the command when this process is killed: on a machine without Slurm nobody else would."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """End what is left, politely first: also what a process started and left behind."""
    living = [process for process in processes if process.poll() is None]
    _signal(living, signal.SIGTERM)
    end = time.monotonic() + KILL_AFTER_S
    for process in living:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    _signal(processes, signal.SIGKILL)
    for process in living:
        process.wait()


def _signal(processes: Sequence[subprocess.Popen[bytes]], number: int) -> None:
    for process in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)
