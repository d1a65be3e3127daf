"""What a job has cost, by ledgers whose clocks are set by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir import attempt as attempt_module
from hpcbatch.jobdir.accounting import Accounting
from hpcbatch.jobdir.attempt import HEARTBEAT_S, AttemptWriter
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.records.ledger import FLAG_TIME_LIMIT, Kind
from tests.unit.jobdir.sealed import seal

NOTHING = Accounting(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


class Clock:
    """The wall clock of every node, in seconds."""

    now = 1000.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(attempt_module.time, "time_ns", lambda: int(found.now * 1e9))
    return found


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


@pytest.fixture
def begin(job: JobDir, clock: Clock) -> Callable[..., AttemptWriter]:
    """An attempt that begins now."""

    def one(group: int = 0, *, epoch: int = 1, **about: Any) -> AttemptWriter:
        folder = job.paths.group(0, group)
        make_directory(folder)
        said = {"began": clock.now, "cores": 1, "gpus": 0} | about
        return AttemptWriter(folder, job=job.record.uuid_bytes, group=group, epoch=epoch, about=said)

    return one


def cost(job: JobDir, *, over: bool = True) -> Accounting:
    return read_coverage(job).accounting(over=over)


def commit(writer: AttemptWriter, mini_batch: int, run_s: float, payload: bytes = b"x\n") -> None:
    writer.commit(mini_batch, payload, rows=1, failed_items=0, run_ms=int(1000 * run_s))


def killed(writer: AttemptWriter) -> None:
    os.close(writer._segment)
    os.close(writer._ledger)
    writer._segment = writer._ledger = -1


def finish(writer: AttemptWriter) -> None:
    writer.note(Kind.END)
    writer.close()


def test_a_job_that_never_began_has_cost_nothing(job: JobDir) -> None:
    assert cost(job) == NOTHING


def test_a_quiet_attempt(job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]) -> None:
    """Its array task began 3 s before its ledger was there; 5 s for init(), 10 s for one mini-batch."""
    writer = begin(cores=4, gpus=2, began=clock.now - 3)
    clock.now += 5
    writer.init_ended(5000)
    writer.start(0)
    clock.now += 10
    commit(writer, 0, 9.5)
    finish(writer)
    found = cost(job)
    assert found == replace(
        NOTHING, useful_s=9.5, start_up_s=5, array_task_s=18, core_h=round(4 * 18 / 3600, 4), gpu_h=0.01
    )


def test_a_failed_try_is_neither_useful_nor_lost(
    job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]
) -> None:
    """One was killed for memory; a mini-batch that was given up without a start has cost nothing more."""
    writer = begin()
    for memory in (False, True):
        writer.start(0)
        clock.now += 2
        writer.fail(0, {}, final=False, failed_items=0, memory=memory)
    writer.fail(1, {}, final=True, failed_items=2)
    finish(writer)
    assert cost(job) == replace(NOTHING, failed_s=4, array_task_s=4, core_h=0.0011, memory_kills=1)


@pytest.mark.parametrize("told", ["preempted", "time limit", "nothing"])
def test_what_was_cut_off_is_lost(job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter], told: str) -> None:
    """The attempt died 7 s after its last START and 4 s after its last record; the next one ran that again."""
    first = begin()
    first.start(0)
    clock.now += 3
    if told != "nothing":
        first.note(Kind.RELEASE, flags=FLAG_TIME_LIMIT * (told == "time limit"))
    else:
        first.sync()
    killed(first)
    clock.now += 4
    second = begin(epoch=2)
    second.start(0)
    commit(second, 0, 1)
    finish(second)
    count = {"preempted": "preemptions", "time limit": "time_limits", "nothing": "deaths"}[told]
    more: dict[str, Any] = {count: 1}
    assert cost(job) == replace(
        NOTHING, useful_s=1, lost_s=3, array_task_s=3, uncertain_s=4, core_h=0.0008, recomputed_mini_batches=1, **more
    )


def test_nobody_knows_how_long_the_last_attempt_lived(
    job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]
) -> None:
    """At most until the next sign of life would have come; what it began was not run again."""
    writer = begin()
    writer.start(0)
    clock.now += 3
    writer.sync()
    killed(writer)
    assert cost(job) == replace(NOTHING, lost_s=3, array_task_s=3, uncertain_s=HEARTBEAT_S, core_h=0.0008, deaths=1)


def test_what_runs_now_is_not_lost(job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]) -> None:
    """Of a job that goes on, the latest attempt of each group may be alive; the ones before are not."""
    for epoch in (1, 2):
        writer = begin(epoch=epoch)
        writer.start(0)
        clock.now += 3
        writer.sync()
        killed(writer)
    found = cost(job, over=False)
    assert (found.lost_s, found.deaths, found.uncertain_s, found.recomputed_mini_batches) == (3, 1, 0, 0)
    found = cost(job)
    assert (found.lost_s, found.deaths, found.recomputed_mini_batches) == (6, 2, 1), "begun again, at least"


def test_what_was_finished_twice_is_lost_once(job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]) -> None:
    """A zombie and its successor: the result of one is used."""
    writers = [begin(epoch=1), begin(epoch=2)]
    for seconds, writer in enumerate(writers, 5):
        writer.start(0)
        commit(writer, 0, seconds)
        finish(writer)
    found = cost(job)
    assert (found.useful_s, found.lost_s, found.recomputed_mini_batches, found.deaths) == (5, 6, 1, 0)


def test_an_attempt_whose_description_is_gone_counts_by_its_records(
    job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]
) -> None:
    """The segment was lost with the node; its ledger was not. And one of which nothing at all was written."""
    writer = begin(cores=64)
    clock.now += 6
    finish(writer)
    next(job.paths.group(0, 0).glob("*.seg")).unlink()
    killed(empty := begin(1))
    next(job.paths.group(0, 1).glob("*.led")).write_bytes(b"")
    assert empty.epoch == 1
    assert cost(job) == replace(NOTHING, array_task_s=6, core_h=0.0017, uncertain_s=HEARTBEAT_S, deaths=1)


def test_an_attempt_that_gave_up_or_made_way_did_not_die(
    job: JobDir, clock: Clock, begin: Callable[..., AttemptWriter]
) -> None:
    """It said so; what it was working on is lost all the same."""
    for epoch, word in enumerate((Kind.ABORT, Kind.FENCED), 1):
        writer = begin(epoch=epoch)
        writer.init_ended(2000, failed=True)
        writer.start(4)
        clock.now += 1
        writer.note(word, {"kind": "init"} if word == Kind.ABORT else None)
        writer.close()
    found = cost(job)
    assert (found.deaths, found.lost_s, found.uncertain_s, found.start_up_s) == (0, 2, 0, 4)
    assert [t.inits for t in read_coverage(job).tallies] == [0, 0]
    assert [t.aborted is not None for t in read_coverage(job).tallies] == [True, False]
