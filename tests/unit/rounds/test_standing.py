"""What Slurm remembers of a round, and what that means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds import standing
from hpcbatch.scheduler import slurm_commands
from tests.unit.jobdir.sealed import COMPUTE, Size, seal

DONE, ENDED = "COMPLETED", "CANCELLED"


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """Two arrays were submitted, 7 and 8."""
    job = seal(tmp_path / "b1", Size(groups=6), compute=replace(COMPUTE, kind="slurm", slurm={}))
    for first, array in ((0, "7"), (3, "8")):
        jobdir.publish_document(job.paths.round(0) / layout.array_name(first), {"slurm_job_id": array, "groups": 3})
    return job


@pytest.mark.parametrize(
    ("ends", "by_hand"),
    [
        ({"7": [DONE, DONE, ENDED], "8": [DONE, DONE, ENDED]}, False),  # each made room for its merge
        ({"7": [DONE, DONE, ENDED], "8": [DONE, DONE, DONE]}, False),
        ({"7": [DONE, DONE, ENDED]}, False),
        ({"7": [DONE, ENDED, ENDED]}, True),
        ({"7": [DONE, DONE, ENDED], "8": [ENDED, ENDED, ENDED]}, True),
        ({"7": [ENDED]}, True),
        ({"7": [ENDED, "FAILED", ENDED]}, False),
        ({"7": [DONE, DONE, DONE], "9": [ENDED, ENDED]}, False),  # submitted twice, so we ended one
        ({}, False),
    ],
)
def test_an_array_was_cancelled_by_hand_if_more_of_it_is_gone_than_what_made_room(
    job: JobDir, monkeypatch: pytest.MonkeyPatch, ends: dict[str, list[str]], by_hand: bool
) -> None:
    name = f"{job.record.slurm_name}.r0.w0-3"
    lines = [f"{name}|{array}|{state}" for array, states in ends.items() for state in states]
    monkeypatch.setattr(slurm_commands, "call", lambda *_: "\n".join(lines))
    assert standing.cancelled_by_hand(job, 0) is by_hand
