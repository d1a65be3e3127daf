"""Which steps a submission holds, and whether this process belongs to the one that counts.

`UNITS.json` is how the round was cut first. Where a unit turned out to be too large for a submit limit,
`UNITS-<n>.json` has that unit in two parts and all others as before; the one with the largest number counts. What was
submitted before keeps its number.
"""

from __future__ import annotations

import re

from hpcbatch.fs import scan
from hpcbatch.steps.pipelinedir import PipelineDir, publish_document
from hpcbatch.worker.environment import SlurmTask

_UNITS = re.compile(r"UNITS(?:-(\d+))?\.json\Z", re.ASCII)
_NOTE = re.compile(r"unit-(\d+)\.json\Z", re.ASCII)


def note_name(unit: int) -> str:
    """The file name of the note of unit *unit*: which Slurm job it is."""
    return f"unit-{unit}.json"


def partial_name(count: int) -> str:
    """The file name of the note of the job that goes on after the first *count* units."""
    return f"finish-{count}.json"


def held_name(count: int) -> str:
    """The file name that says: after the first *count* units there was no room for any job; whoever ends goes on."""
    return f"held-{count}.json"


def is_held(job: PipelineDir, round_number: int) -> bool:
    """Whether there was no room for a job behind a part of the round."""
    return any(name.startswith("held-") for name in scan.names(job.round(round_number)))


def members_of(job: PipelineDir, round_number: int) -> list[list[str]] | None:
    """The steps of each unit of the round; None before it was cut."""
    newest = _newest(job, round_number)
    document = job.document(job.round(round_number) / newest) if newest else None
    return [list(map(str, members)) for members in document["units"]] if document else None


def publish_units(job: PipelineDir, round_number: int, cut: list[list[str]]) -> None:
    """Keep *cut* as the newest; if somebody else was faster, theirs stands."""
    newest = _newest(job, round_number)
    name = "UNITS.json" if newest is None else f"UNITS-{_number(newest) + 1}.json"
    publish_document(job.round(round_number) / name, {"units": cut})


def noted(job: PipelineDir, round_number: int) -> int:
    """How many units, from the first on, have been submitted."""
    there = {int(m[1]) for name in scan.names(job.round(round_number)) if (m := _NOTE.match(name))}
    return next(number for number in range(len(there) + 1) if number not in there)


def submitted_steps(job: PipelineDir, round_number: int) -> tuple[str, ...]:
    """The steps that Slurm was given so far."""
    members = members_of(job, round_number) or []
    return tuple(name for unit in members[: noted(job, round_number)] for name in unit)


def step_of(job: PipelineDir, round_number: int, unit: int, index: int) -> str | None:
    """The step that array task *index* of *unit* runs; None for one that another unit has by now."""
    members = (members_of(job, round_number) or [])[unit]
    return members[index] if index < len(members) else None


def owns(job: PipelineDir, round_number: int, unit: int, slurm: SlurmTask) -> bool:
    """Whether this is the submission that runs the unit: of two under one name the noted one.

    Where its submitter has not noted it yet, or died before it could, this does, and the submitter goes by that.
    """
    mine = slurm.array_job_id or slurm.job_id
    note = job.round(round_number) / note_name(unit)
    noted = job.document(note)
    if noted is None:
        publish_document(note, {"slurm_job_id": mine})
        noted = job.document(note) or {}
    return noted.get("slurm_job_id") == mine


def _newest(job: PipelineDir, round_number: int) -> str | None:
    there = [name for name in scan.names(job.round(round_number)) if _UNITS.match(name)]
    return max(there, key=_number) if there else None


def _number(name: str) -> int:
    match = _UNITS.match(name)
    return int(match[1] or 0) if match else 0
