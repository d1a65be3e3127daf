"""The pipeline that a job ran, as a component that a deployment can have."""

from __future__ import annotations

from typing import Any

from hpcbatch.errors import NotFound
from hpcbatch.operations import pipeline_jobs
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.pipeline import LITERAL_TYPES, PipelineRecord


def pipeline_record(ws: Workspace, name: str) -> PipelineRecord:
    """The record of the pipeline job *name*: this user's own, else that of anybody whose jobs may be read. Raises
    NotFound.
    """
    found = pipeline_jobs.find(ws, name)
    if found is not None and found.step is None:
        return found.job.record
    raise NotFound(
        f"There is no pipeline job named {name!r} in {str(ws.root)!r}.",
        hint="List the jobs: hpcbatch job list",
        name=name,
    )


def definition_of(record: PipelineRecord) -> dict[str, Any]:
    """The pipeline component that a job ran: the literals that the job was given are its defaults."""
    body = dict(record.properties["definition"])
    inputs = {}
    for name, port in body["inputs"].items():
        value = record.inputs.get(name)
        is_literal = value is not None and value.type in LITERAL_TYPES
        inputs[name] = {**port, "default": value.value} if is_literal and value is not None else port
    return {**body, "inputs": inputs}
