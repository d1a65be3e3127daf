"""Which steps a submission holds, and whether this process belongs to the one that counts."""

from __future__ import annotations

from hpcbatch.steps.pipelinedir import PipelineDir, publish_document
from hpcbatch.worker.environment import SlurmTask

UNITS = "UNITS.json"


def note_name(unit: int) -> str:
    """The file name of the note of unit *unit*: which Slurm job it is."""
    return f"unit-{unit}.json"


def steps_of(job: PipelineDir, round_number: int, unit: int) -> list[str]:
    """The steps of a unit; its array task *i* runs the one at *i*."""
    document = job.document(job.round(round_number) / UNITS) or {}
    return [str(name) for name in document["units"][unit]]


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
