"""Whose queue is asked for a pipeline job."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.operations.pipeline_status import status_of
from hpcbatch.records.job import ComputePart
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, State
from hpcbatch.steps.pipelinedir import INTENT
from tests.pipelines import Pipelines, step
from tests.unit.steps.test_pipelinedir import sealed


@pytest.mark.parametrize("mine", [True, False])
def test_the_queue_of_whoever_started_the_job_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mine: bool
) -> None:
    """Another's job is in another's queue; in one's own it is not, and would look dead."""
    job = sealed(Pipelines(tmp_path, ComputePart("c", "slurm", "dedicated", 1, {})), step("a", "true"))
    (job.round(0) / INTENT).write_text("{}")
    owner = job.root.stat().st_uid

    def queue(prefix: str, user: str = "") -> list[Any]:
        there = user == ("" if mine else str(owner))
        return [Entry("7", "7", f"{prefix}.r0.u0", State.RUNNING, "None", "n1", "0:01")] if there else []

    monkeypatch.setattr(os, "geteuid", lambda: owner if mine else owner + 1)
    assert status_of(job, queue).word == "Running"


def test_a_pipeline_whose_dependency_can_never_be_met_says_so_and_what_to_do(tmp_path: Path) -> None:
    """What it waited for failed: Slurm keeps it, by default, and will never begin it."""
    compute = ComputePart("c", "slurm", "dedicated", 1, {})
    job = sealed(Pipelines(tmp_path, compute), step("a", "true"), step("b", "true"), dependency="afterok:5")
    (job.round(0) / INTENT).write_text("{}")

    def queue(prefix: str, user: str = "") -> list[Entry]:
        lines = [(7, "u0", "DependencyNeverSatisfied"), (8, "u1", "Dependency"), (9, "end", "Dependency")]
        printed = (f"{n}|{n}|{prefix}.r0.{unit}|PENDING|{reason}||0:00\n" for n, unit, reason in reversed(lines))
        return slurm_commands.parse_queue("".join(printed), prefix)

    found = status_of(job, queue)
    assert found.word == "Queued"
    assert "DependencyNeverSatisfied: what it waits for never comes." in found.detail
    assert f"hpcbatch job cancel --name {job.record.name}" in found.detail
