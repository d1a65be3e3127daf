"""A round of a pipeline where Slurm takes only so many jobs at once: what is submitted, in parts, what goes on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler.base import Request, State
from hpcbatch.steps import units
from hpcbatch.steps.pipelinedir import PipelineDir, create, open_pipeline
from hpcbatch.steps.submission import Submitted, end_id, is_end, is_whole, requests_of, submit_round
from tests.pipelines import Pipelines, made, short_folder, step
from tests.unit.rounds.test_submission import Cluster


@dataclass
class Narrow(Cluster):
    """Takes as many array tasks as it has *room* for, and nothing more until some have ended."""

    room: int = 4
    taken: list[Request] = field(default_factory=list)

    def submit(self, request: Request) -> str:
        count = request.count or 1
        if count > self.room:
            raise SchedulerError(
                "Slurm has as many jobs as it takes.", hint="later", transient=False, limit="MaxSubmit"
            )
        self.room -= count
        self.taken.append(request)
        return super().submit(request)

    def end_all(self, room: int) -> None:
        self.room = room
        self.entries = [replace(entry, state=State.ENDED) for entry in self.entries]

    @property
    def names(self) -> list[str]:
        return [f"{request.name.rpartition('.')[2]}x{request.count or 1}" for request in self.taken]


@pytest.fixture
def job() -> Iterator[PipelineDir]:
    """`first`, seven steps that read from it, and `last`, which reads from those."""
    with short_folder() as folder:
        fan = [step(f"s{n}", "true", inputs={"a": made("first.o")}, outputs=["o"]) for n in range(7)]
        last = step("last", "true", inputs={one.name: made(f"{one.name}.o") for one in fan})
        record = Pipelines(folder).record(step("first", "true", outputs=["o"]), *fan, last, dependency="afterok:7")
        assert create(folder / "job", record, {})
        yield open_pipeline(folder / "job")


def complete(job: PipelineDir, *names: str) -> None:
    for name in names:
        job.publish_result(name, 0, {"status": "Completed", "outputs": {}})


def test_all_of_it_is_four_submissions_where_there_is_room(job: PipelineDir) -> None:
    cluster = Narrow(room=100)
    done = submit_round(job, 0, cluster)
    assert cluster.names == ["u0x1", "u1x7", "u2x1", "mx1"]
    assert (done, end_id(job)) == (Submitted(("10", "11", "12"), "13"), "13")
    assert is_whole(job, 0)
    assert [request.dependency for request in cluster.taken] == ["afterok:7", "", "", ""]
    assert [list(request.after) for request in cluster.taken] == [[], ["10"], ["11"], ["12"]]
    assert [(r.name, r.count) for r, _ in requests_of(job, 1000)] == [(r.name, r.count) for r in cluster.taken]


def test_what_is_held_back_follows_in_parts_that_fit(job: PipelineDir) -> None:
    cluster = Narrow(room=4)
    assert submit_round(job, 0, cluster) == Submitted(("10",), "11", held_back=2)
    assert cluster.names == ["u0x1", "m1x1"]
    assert is_end(cluster.taken[1].name)
    assert (end_id(job), is_whole(job, 0), units.submitted_steps(job, 0)) == ("11", False, ("first",))

    complete(job, "first")
    cluster.end_all(room=4)
    done = submit_round(job, 0, cluster)
    assert cluster.names[2:] == ["u1x3", "m2x1"]
    assert (len(done.units), done.held_back) == (2, 2)
    assert units.submitted_steps(job, 0) == ("first", "s0", "s1", "s2")
    assert list(cluster.taken[2].after) == []  # `first` has ended: Slurm may have forgotten it
    assert units.step_of(job, 0, 1, 2) == "s2"
    assert units.step_of(job, 0, 1, 3) is None

    complete(job, "s0", "s1", "s2")
    cluster.end_all(room=100)
    done = submit_round(job, 0, cluster)
    assert cluster.names[4:] == ["u2x4", "u3x1", "mx1"]
    assert (done.held_back, is_whole(job, 0)) == (0, True)


def test_where_no_job_fits_behind_the_part_a_note_says_that_its_last_step_goes_on(job: PipelineDir) -> None:
    cluster = Narrow(room=1)
    assert submit_round(job, 0, cluster) == Submitted(("10",), "", held_back=2)
    assert units.is_held(job, 0)
    assert (job.round(0) / units.held_name(1)).exists()
    assert end_id(job) == ""


def test_where_nothing_fits_it_is_an_error_and_later_it_goes_on(job: PipelineDir) -> None:
    cluster = Narrow(room=0)
    with pytest.raises(SchedulerError, match="as many jobs as it takes"):
        submit_round(job, 0, cluster)
    assert units.noted(job, 0) == 0
    cluster.room = 100
    assert submit_round(job, 0, cluster).held_back == 0
    assert cluster.taken[0].dependency == "afterok:7"  # nothing has run yet
