"""Submitting a round when others do the same at the same time, or Slurm is slow to answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds import once
from hpcbatch.rounds.standing import groups_noted, round_name
from hpcbatch.rounds.submission import RoundIds, submit_merge, submit_round
from hpcbatch.scheduler.base import Entry, Preemption, Request, State
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

    def preemption(self, partition: str) -> Preemption:
        raise SchedulerError(f"Slurm knows no {partition}.", transient=False)


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1", Size(groups=2), compute=replace(COMPUTE, kind="slurm", slurm={}))


def test_of_two_arrays_under_one_name_the_noted_one_is_kept_and_only_the_other_is_ended(job: JobDir) -> None:
    """Ending the younger of the two that the queue shows, before the note is looked at, would end both."""
    folder, cluster = job.paths.round(0), Cluster()
    name = f"{round_name(job, 0)}w0-2"
    cluster.add(name)
    younger = cluster.add(name)
    seen = cluster.queue(name)
    real, noted = jobdir.publish_document, {"slurm_job_id": younger, "name": name}

    def somebody_was_first(path: Path, document: dict[str, str]) -> bool:
        real(path, noted)
        return real(path, document)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobdir, "publish_document", somebody_was_first)
        found = once.Submission(cluster, seen).once(Request(name, ["true"], job.paths.slurm), folder / "array-0.json")
    assert (found, cluster.canceled) == (younger, ["10"])


def test_a_held_submission_that_is_the_noted_one_is_let_go(job: JobDir) -> None:
    jobdir.publish_document(job.paths.round(0) / layout.INTENT, {})
    cluster = Cluster()
    held = cluster.add(f"{round_name(job, 0)}w0-2", held=True)
    cluster.add(f"{round_name(job, 0)}w0-2")
    found = submit_round(job, 0, cluster)
    assert (found.arrays, cluster.released, cluster.canceled) == ((held,), [held], ["11"])


def test_a_controller_that_is_slow_is_asked_again(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once.time, "sleep", lambda _: None)
    cluster = Cluster(failures=2)
    assert submit_round(job, 0, cluster).arrays == ("10",)
    monkeypatch.setattr(once, "DOUBT_S", -1.0)
    with pytest.raises(SchedulerError, match="timed out"):
        submit_round(job, 0, Cluster(failures=1))


@dataclass
class Preempting(Cluster):
    """Its partition "spot" gives no grace."""

    requests: list[Request] = field(default_factory=list)

    def submit(self, request: Request) -> str:
        self.requests.append(request)
        return super().submit(request)

    def preemption(self, partition: str) -> Preemption:
        return Preemption(early_word=False, back_after_s=8) if partition == "spot" else super().preemption(partition)


@pytest.mark.parametrize(
    ("tier", "slurm", "srun", "back_after_s"),
    [
        ("low_priority", {"partition": "normal", "low_priority_partition": "spot"}, False, "8"),
        ("low_priority", {"partition": "spot"}, False, "8"),
        ("low_priority", {"partition": "unknown"}, True, "0"),
        ("low_priority", {"partition": "spot,other"}, True, "0"),
        ("low_priority", {}, True, "0"),
        ("dedicated", {"partition": "spot"}, False, "0"),
    ],
)
def test_array_tasks_are_steps_where_a_step_may_hear_of_a_preemption_early(
    tmp_path: Path, tier: str, slurm: dict[str, str], srun: bool, back_after_s: str
) -> None:
    """And are told when they may be back. Where Slurm does not say, all is as if nothing was known."""
    compute = replace(COMPUTE, kind="slurm", tier=tier, slurm=slurm)
    cluster = Preempting()
    submit_round(seal(tmp_path / "b1", Size(groups=2), compute=compute), 0, cluster)
    array, merge = cluster.requests
    assert (array.srun, array.command[-1], merge.srun) == (srun, back_after_s, False)


@dataclass
class Narrow(Cluster):
    """Takes *room* array tasks and merges at once, and refuses what does not fit whole."""

    room: int = 5
    asked: list[str] = field(default_factory=list)

    def submit(self, request: Request) -> str:
        self.asked.append(request.name.rpartition(".")[2])
        size = 1 if request.count is None else request.count
        if size > self.room:
            raise SchedulerError("Slurm has as many jobs as it takes at once (X).", transient=False, limit="X")
        self.room -= size
        return super().submit(request)

    def cancel(self, slurm_job_ids: Sequence[str]) -> None:
        super().cancel(slurm_job_ids)
        self.room += len(slurm_job_ids)


@pytest.fixture
def wide(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b2", Size(items=20, groups=10), compute=replace(COMPUTE, kind="slurm", slurm={}))


def test_what_does_not_fit_is_tried_by_halves_and_the_rest_is_held_back(wide: JobDir) -> None:
    cluster = Narrow(room=6)
    assert submit_round(wide, 0, cluster) == RoundIds(("10",), "11", 5)
    assert cluster.asked == ["w0-10", "w0-5", "w5-10", "m"]
    assert groups_noted(wide, 0) == 5


def test_the_merge_goes_on_where_the_round_stopped_with_another_merge_behind(wide: JobDir) -> None:
    submit_round(wide, 0, Narrow(room=6))
    cluster = Narrow(room=4)
    found = submit_round(wide, 0, cluster, merge=1)
    assert (found.merge, found.held_back, cluster.asked) == ("11", 3, ["w5-10", "w5-7", "w7-10", "m1"])


def test_an_array_that_takes_the_last_place_makes_room_for_the_merge(wide: JobDir) -> None:
    cluster = Narrow(room=5)
    assert submit_round(wide, 0, cluster).merge == "11"
    assert cluster.canceled == ["10_4"]


def test_one_array_task_makes_no_room(wide: JobDir) -> None:
    cluster = Narrow(room=1)
    assert submit_round(wide, 0, cluster) == RoundIds(("10",), "", 9)
    assert cluster.canceled == []


def test_where_nothing_fits_it_is_an_error_that_names_the_limit(wide: JobDir) -> None:
    """Also for a merge that goes on: it has itself queued again."""
    with pytest.raises(SchedulerError, match="as many jobs") as caught:
        submit_round(wide, 0, Narrow(room=0))
    assert caught.value.fields["limit"] == "X"
    submit_round(wide, 0, Narrow(room=6))
    with pytest.raises(SchedulerError, match="as many jobs"):
        submit_round(wide, 0, Narrow(room=0), merge=1)
    with pytest.raises(SchedulerError, match="as many jobs"):
        submit_merge(wide, 0, 1, ["10"], Narrow(room=0))


def test_a_round_that_is_submitted_is_not_submitted_again(wide: JobDir) -> None:
    """A resumed one gets no other merge while its own waits, and another one when that is gone."""
    cluster = Narrow(room=6)
    first = submit_round(wide, 0, cluster)
    assert submit_round(wide, 0, cluster) == first
    cluster.room = 5
    again = submit_round(wide, 0, cluster)
    assert (again.merge, again.held_back) == (first.merge, 0), "the merge that waits finds what was added alive"
    assert cluster.asked[-1] == "w5-10"


def test_more_groups_than_an_array_may_have_are_chained(wide: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each array waits for the one before: the throttle is Slurm's for one array."""
    cluster = Narrow(room=100)
    monkeypatch.setattr(cluster, "array_limit", lambda: 4)
    assert submit_round(wide, 0, cluster) == RoundIds(("10", "11", "12"), "13", 0)
    assert cluster.asked == ["w0-4", "w4-8", "w8-10", "m"]
