"""Submitting a round when others do the same at the same time, or Slurm is slow to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds import submission
from hpcbatch.rounds.submission import round_name, submit_round
from hpcbatch.scheduler.base import Entry, Request, State
from tests.unit.jobdir.sealed import COMPUTE, Size, seal


@dataclass
class Cluster:
    """Accepts everything; the first *failures* questions are not answered."""

    entries: list[Entry] = field(default_factory=list)
    failures: int = 0
    canceled: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)

    def submit(self, request: Request) -> str:
        return self.add(request.name, held=request.hold)

    def add(self, name: str, *, held: bool = False) -> str:
        number = str(10 + len(self.entries))
        self.entries.append(Entry(number, number, name, State.HELD if held else State.PENDING, "", "", "0:00"))
        return number

    def queue(self, prefix: str) -> list[Entry]:
        if self.failures:
            self.failures -= 1
            raise SchedulerError("Slurm refused: timed out", hint="later", transient=True)
        return [entry for entry in self.entries if entry.name.startswith(prefix)]

    def release(self, slurm_job_ids: Sequence[str]) -> None:
        self.released += slurm_job_ids

    def cancel(self, slurm_job_ids: Sequence[str]) -> None:
        self.canceled += slurm_job_ids

    def array_limit(self) -> int:
        if self.failures:
            self.failures -= 1
            raise SchedulerError("Slurm refused: timed out", hint="later", transient=True)
        return 1000


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1", Size(groups=2), compute=replace(COMPUTE, kind="slurm", slurm={}))


def test_of_two_arrays_under_one_name_the_noted_one_is_kept_and_only_the_other_is_ended(job: JobDir) -> None:
    """Ending the younger of the two that the queue shows, before the note is looked at, would end both."""
    folder, cluster = job.paths.round(0), Cluster()
    name = f"{round_name(job, 0)}w0"
    cluster.add(name)
    younger = cluster.add(name)
    seen = cluster.queue(name)
    real, noted = jobdir.publish_document, {"slurm_job_id": younger, "name": name}

    def somebody_was_first(path: Path, document: dict[str, str]) -> bool:
        real(path, noted)
        return real(path, document)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobdir, "publish_document", somebody_was_first)
        found = submission._Submission(cluster, seen).once(
            Request(name, ["true"], job.paths.slurm), folder / "array-0.json"
        )
    assert (found, cluster.canceled) == (younger, ["10"])


def test_a_held_submission_that_is_the_noted_one_is_let_go(job: JobDir) -> None:
    jobdir.publish_document(job.paths.round(0) / layout.INTENT, {})
    cluster = Cluster()
    held = cluster.add(f"{round_name(job, 0)}w0", held=True)
    cluster.add(f"{round_name(job, 0)}w0")
    found = submit_round(job, 0, cluster)
    assert (found.arrays, cluster.released, cluster.canceled) == ((held,), [held], ["11"])


def test_a_controller_that_is_slow_is_asked_again(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submission.time, "sleep", lambda _: None)
    cluster = Cluster(failures=2)
    assert submit_round(job, 0, cluster).arrays == ("10",)
    monkeypatch.setattr(submission, "DOUBT_S", -1.0)
    with pytest.raises(SchedulerError, match="timed out"):
        submit_round(job, 0, Cluster(failures=1))
