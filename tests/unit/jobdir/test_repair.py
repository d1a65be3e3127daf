"""Repair rounds: a plan, and what its workers must beware of."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.jobdir import repair
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import pack_plan
from tests.unit.jobdir.sealed import begin, commit, end, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def test_what_ran_when_a_worker_died_is_suspect(job: JobDir) -> None:
    """Over all rounds and groups; what finished, or failed by itself, is not."""
    for round_number, group in [(0, 0), (0, 1), (1, 0)]:
        writer = begin(job, group, round_number=round_number)
        commit(writer, 0)
        writer.start(1)
        writer.fail(1, {"message": "no"}, final=False, failed_items=0)
        writer.start(2 + group)
        writer.close()
    assert repair.crashed_starts(read_coverage(job).tallies) == {2: 2, 3: 1}


@pytest.mark.parametrize("kind", [Kind.RELEASE, Kind.FENCED, Kind.END, Kind.ABORT])
def test_a_worker_that_ended_with_a_word_accuses_nobody(job: JobDir, kind: Kind) -> None:
    """It was preempted, gave way, was done or gave up."""
    writer = begin(job)
    writer.start(1)
    writer.note(kind)
    end(writer)
    assert repair.crashed_starts(read_coverage(job).tallies) == {}


def test_a_round_keeps_the_suspects_that_it_was_planned_with(job: JobDir) -> None:
    """The first writer's stand; a round that was planned without any has none."""
    repair.plan_repair(job, 1, pack_plan(1, [[(2, 4)]]), {3: 2, 2: 1})
    repair.plan_repair(job, 1, pack_plan(1, [[(0, 6)]]), {5: 1})
    assert job.plan(1).group(0) == [(2, 4)]
    assert repair.suspects_of(job, 1) == {2: 1, 3: 2}
    assert repair.suspects_of(job, 0) == {}
