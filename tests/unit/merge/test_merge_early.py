"""The early merge, by the last array task that ended: it publishes what is complete and small, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.merge import entry
from hpcbatch.merge.entry import EXIT_PUBLISHED, main, merge_job
from tests.unit.jobdir.sealed import expected, output, score, score_all, seal


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def merge_early(job: JobDir) -> None:
    """As an array task becomes it; whatever comes of it, the task has done its work."""
    assert main([str(job.root), job.sha256, "early"]) == EXIT_PUBLISHED


def test_a_complete_job_is_published_and_the_dependent_merge_finds_it(
    job: JobDir, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same bytes as ever; the merge that Slurm starts later changes nothing."""
    score_all(job)
    merge_early(job)
    assert capfd.readouterr().out == f"-- published {output(job)}\n"
    assert output(job).read_bytes() == expected(job)
    inode = output(job).stat().st_ino
    assert merge_job(job) == (EXIT_PUBLISHED, "the job has its verdict already")
    merge_early(job)
    assert output(job).stat().st_ino == inode


def test_what_is_missing_is_left_to_the_dependent_merge(job: JobDir) -> None:
    """No verdict, no plan of a repair round: tasks may still be running."""
    score(job, [0, 1])
    merge_early(job)
    assert job.verdict() is None
    assert job.rounds() == [0]


def test_a_large_output_is_left_to_the_dependent_merge(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array task may hold a GPU; copying does not need one."""
    monkeypatch.setattr(entry, "EARLY_BYTES", 1)
    score_all(job)
    merge_early(job)
    assert job.verdict() is None


def test_a_canceled_job_gets_nothing_published(job: JobDir) -> None:
    """The dependent merge, if it still runs, says that it was canceled."""
    score_all(job)
    jobdir.publish_document(job.paths.canceled, {"by": "me"})
    merge_early(job)
    assert job.verdict() is None
