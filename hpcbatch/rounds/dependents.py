"""Slurm jobs of the user that wait for a merge: handed over to the next merge when one could not publish yet."""

from __future__ import annotations

import re

from hpcbatch.jobdir import layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds.standing import merges_noted
from hpcbatch.scheduler import slurm_commands

_STATE = re.compile(r"\([a-z]+\)")


def merge_id(job: JobDir) -> str:
    """The Slurm job id of the merge that waits for the newest round: what other jobs may depend on. Empty if Slurm has
    none.
    """
    latest = job.rounds()[-1]
    numbers = merges_noted(job, latest)
    note = job.document(job.paths.round(latest) / layout.merge_name(numbers[-1])) if numbers else None
    return str((note or {}).get("slurm_job_id", ""))


def hand_over(before: str, after: str) -> list[str]:
    """Let the caller's pending jobs that wait for Slurm job *before* wait for *after*; their ids.

    A merge that has to go on ends well, and `afterok` would be satisfied by that without an output. Raises
    SchedulerError.
    """
    text = slurm_commands.call(["squeue", "--me", "-h", "-t", "PD", "-o", "%i|%E"])
    moved = []
    for line in text.splitlines():
        waiting, _, wanted = line.partition("|")
        changed = moved_dependency(wanted, before, after)
        if changed:
            slurm_commands.call(["scontrol", "update", f"JobId={waiting}", f"Dependency={changed}"])
            moved.append(waiting)
    return moved


def moved_dependency(wanted: str, before: str, after: str) -> str:
    """The `%E` of squeue with *before* replaced by *after*, as scontrol takes it; empty if *before* is not in it."""
    plain = _STATE.sub("", wanted)
    changed = re.sub(rf"(?<=:){re.escape(before)}(?=[:,?+]|\Z)", after, plain)
    return changed if changed != plain else ""
