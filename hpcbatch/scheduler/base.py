"""The scheduler seam: what a job needs from whatever runs its processes. It knows a command, a count and a
dependency.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


class State(enum.Enum):
    """What is known of one Slurm job or array task. Absence from a queue is UNKNOWN, never success."""

    PENDING = "pending"
    HELD = "held"
    RUNNING = "running"
    COMPLETING = "completing"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Entry:
    """One line of the queue."""

    slurm_job_id: str  # as scancel and scontrol take it: 12, 12_3 or 12_[4-9]
    array_job_id: str
    name: str
    state: State
    reason: str
    node: str
    elapsed: str


@dataclass(frozen=True)
class Request:
    """One submission. `count` None means one plain job, else an array of that many tasks, `throttle` at once."""

    name: str
    command: Sequence[str]
    folder: Path
    slurm: Mapping[str, Any] = field(default_factory=dict)
    count: int | None = None
    throttle: int = 1
    after: Sequence[str] = ()
    hold: bool = False
    srun: bool = True
    nodes: int = 1
    tasks_per_node: int = 1  # what the command may start on each node; the command itself is one process on the first
    dependency: str = ""  # as sbatch(1) has it; beside `after`
    travelling: Sequence[str] = ()  # names of environment variables that go with it, beside the list of harmless ones


@dataclass(frozen=True)
class Preemption:
    """How a site takes the nodes back from the array tasks of one partition."""

    early_word: bool = True  # a process under srun may hear of it before the batch script does: a GraceTime begins
    back_after_s: int = 0  # how long after SIGTERM an array task may begin again; 0: when Slurm lets it


class Scheduler(Protocol):
    """What submission and status need."""

    def submit(self, request: Request) -> str:
        """Submit once. Returns the Slurm job id; raises SchedulerError, `transient` if it may have been accepted all
        the same.
        """

    def queue(self, prefix: str) -> list[Entry]:
        """The user's entries whose job name begins with *prefix*, in one query. Raises SchedulerError."""

    def release(self, slurm_job_ids: Sequence[str]) -> None:
        """Let held jobs run."""

    def cancel(self, slurm_job_ids: Sequence[str]) -> None:
        """End jobs; ones that are gone already are fine."""

    def array_limit(self) -> int:
        """How many tasks one array may have."""

    def preemption(self, partition: str) -> Preemption:
        """How *partition* is preempted. Raises SchedulerError."""
