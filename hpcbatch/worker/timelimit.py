"""The time limit of an array task: when it ends, and whether another mini-batch can end before."""

from __future__ import annotations

import os
import re
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

RESERVE_S = 5.0  # for the last sync and for scontrol
LAST_CALL_S = 10.0
MARGIN = 1.25  # the next mini-batch may take this much longer than the longest until now
MOST_OF_IT = 0.9  # what had less is the first to run in the next attempt, which may be all it needs
MAX_CUT_SHORT = 3  # a mini-batch that the limit cuts off as often as this is given up
MAX_REQUEUES = 10  # of one group, for its limit; what is left then is for the next round
NEAR_S = 150.0  # `--signal=USR2@60` may come 60 seconds early (sbatch(1))
ASK_AFTER_S = 60.0
SHORT_S = 600.0
_ASKED = re.compile(r"(?:\d+(?::\d+){0,2}|\d+-\d+(?::\d+){0,2})\Z", re.ASCII)
_LEFT = re.compile(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)\Z", re.ASCII)


@dataclass
class TimeLimit:
    """*end* by the monotonic clock, infinite if there is none or it is not known."""

    end: float = float("inf")
    longest_s: float = 0.0  # of the mini-batches that were finished, in earlier attempts too
    cut_short: dict[int, int] = field(default_factory=dict)  # how often the limit came while a mini-batch ran
    began: float = field(default_factory=time.monotonic)

    def took(self, seconds: float) -> None:
        """A mini-batch was finished."""
        self.longest_s = max(self.longest_s, seconds)

    def fits(self, before: int = 0) -> bool:
        """Whether a mini-batch that begins now, or when *before* others have ended, is likely to end in time."""
        if self.end == float("inf"):
            return True
        needed_s = (1 + before) * MARGIN * self.longest_s + RESERVE_S
        return time.monotonic() + needed_s <= self.end

    @property
    def last_call(self) -> float:
        """When what still runs is not likely to end in time."""
        return self.end - LAST_CALL_S

    @property
    def near(self) -> bool:
        """Whether a warning that comes now is about this limit."""
        return self.end - time.monotonic() <= NEAR_S

    def had_most_of_it(self, began: float, first: float) -> bool:
        """Whether what runs since *began* had nearly all the time that an attempt can give it, which began with the
        *first* of its kind.
        """
        now = time.monotonic()
        return now - began >= MOST_OF_IT * (now - first)

    def too_often(self, mini_batch: int) -> bool:
        """Whether the limit, which is here again, has cut *mini_batch* off often enough."""
        return self.cut_short.get(mini_batch, 0) + 1 >= MAX_CUT_SHORT


def is_short(asked: Any) -> bool:
    """Whether a compute's `time` is at most ten minutes."""
    return (parse_asked(str(asked or "")) or float("inf")) <= SHORT_S


def parse_asked(text: str) -> float | None:
    """Seconds in the words of sbatch(1), --time: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S; None for anything else."""
    if not _ASKED.match(text):
        return None
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if not dash and len(parts) < 3:  # without days a single number is minutes, and two are minutes and seconds
        parts.insert(0, 0)
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return float(((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def parse_left(text: str) -> float | None:
    """Seconds in the words of `squeue -o %L`: `[D-][HH:]MM:SS`, infinite for UNLIMITED; None for anything else."""
    match = _LEFT.match(text.strip())
    if not match:
        return float("inf") if text.strip() == "UNLIMITED" else None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


class Question:
    """Asks Slurm once when the array task ends, without waiting for the answer, which comes to `fileno`."""

    def __init__(self, limit: TimeLimit, slurm_job_id: str, *, at_once: bool) -> None:
        self._limit = limit
        self._id = slurm_job_id
        self._due_s = 0.0 if at_once else ASK_AFTER_S
        self._asked_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._answer = b""

    def ask(self) -> int:
        """Ask, if it is time to: after a minute, so that a thousand short tasks ask nothing. The file descriptor to
        call `listen` for; -1 if there is nothing to wait for.
        """
        now = time.monotonic()
        if now - self._limit.began < self._due_s:
            return -1
        self._due_s = float("inf")
        self._asked_at = now
        command = ["timeout", "20", "squeue", "-h", "-j", self._id, "-o", "%L"]
        quiet = subprocess.DEVNULL
        try:
            self._process = subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet)
        except OSError:  # no Slurm commands on the node: the signal before the limit is what is left
            return -1
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def listen(self) -> bool:
        """Take what has come; True when that was all, and the limit is set if Slurm knows one."""
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if data := os.read(process.stdout.fileno(), 4096):
            self._answer += data
            return False
        process.stdout.close()
        process.wait()
        left_s = parse_left(self._answer.decode("ascii", "replace"))
        if left_s is not None:
            self._limit.end = self._asked_at + left_s
        return True
