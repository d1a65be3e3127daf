"""What a new attempt takes over from earlier ones: what is durable, what was tried, what killed whom."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles, attempts_in
from hpcbatch.records.ledger import FLAG_TIME_LIMIT, Kind
from hpcbatch.worker.recovery import MAX_CRASHED_STARTS, GroupState, read_group
from tests.unit.jobdir.sealed import Size, begin, commit, end, flip, score, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def state_of(job: JobDir) -> GroupState:
    return read_group(attempts(job), job.record.uuid_bytes)


def attempts(job: JobDir) -> list[AttemptFiles]:
    return attempts_in(job.paths.group(0, 0), 0, 0)


def killed(writer: AttemptWriter) -> None:
    """The process is gone; what it wrote is there."""
    os.close(writer._segment)
    os.close(writer._ledger)
    writer._segment = writer._ledger = -1


def offset_of(job: JobDir, mini_batch: int) -> int:
    (one,) = attempts(job)
    return next(
        r.offset for r in one.scan(job.record.uuid_bytes) if (r.kind, r.mini_batch) == (Kind.COMMIT, mini_batch)
    )


def test_a_group_that_nobody_began_is_empty(job: JobDir) -> None:
    """The first attempt gets epoch 1."""
    assert state_of(job) == GroupState()


def test_what_any_attempt_finished_is_finished(job: JobDir) -> None:
    """Commits and final failures of all attempts; the epoch is the highest seen."""
    score(job, [0, 1])
    writer = begin(job, epoch=7)
    commit(writer, 2, failed_items=1)
    writer.fail(3, {}, final=True, failed_items=2)
    end(writer)
    found = state_of(job)
    assert (found.done, found.failed_items, found.last_epoch) == ({0, 1, 2, 3}, 3, 7)


def test_failed_items_of_a_mini_batch_count_once(job: JobDir) -> None:
    """Two attempts gave up the same mini-batch: an error threshold is about items, not about attempts."""
    for epoch in (1, 2):
        writer = begin(job, epoch=epoch)
        writer.fail(0, {}, final=True, failed_items=2)
        end(writer)
    assert state_of(job).failed_items == 2


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_worker_and_merge_count_failed_items_by_one_rule(data: st.DataObject) -> None:
    """A COMMIT beats a FAIL, then the first attempt wins, in whatever order zombies and successors wrote them."""
    with tempfile.TemporaryDirectory() as folder:
        job = seal(Path(folder) / "b1", Size(items=6, groups=1))
        for epoch in range(1, data.draw(st.integers(1, 4)) + 1):
            writer = begin(job, epoch=epoch)
            for number in data.draw(st.lists(st.integers(0, 2), unique=True)):
                word, failed = data.draw(st.sampled_from(["commit", "fail", "try"])), data.draw(st.integers(0, 2))
                if word == "commit":
                    commit(writer, number, failed_items=failed)
                else:
                    writer.fail(number, {}, final=word == "fail", failed_items=failed if word == "fail" else 0)
            killed(writer)
        worker, merge = state_of(job), read_coverage(job)
        assert worker.failed_items == merge.items_failed
        assert len(worker.done) == merge.done
        assert sorted(worker.given_up) == [n for n in range(3) if merge.states[n] == 1]


def test_tries_are_counted_over_attempts(job: JobDir) -> None:
    """`max_retries` is a promise about the mini-batch, however often its array task was requeued."""
    for epoch in (1, 2, 3):
        writer = begin(job, epoch=epoch)
        writer.start(0)
        writer.fail(0, {"message": "no"}, final=False, failed_items=0)
        writer.note(Kind.RELEASE)
        killed(writer)
    found = state_of(job)
    assert (found.tries, found.done) == ({0: 3}, set())


@pytest.mark.parametrize("damage", ["lost", "altered", "no file"])
def test_an_unsynced_commit_whose_bytes_were_lost_is_not_believed(job: JobDir, damage: str) -> None:
    """The record reached the disk before the node died, its payload did not; it did not fail either."""
    writer = begin(job)
    commit(writer, 0)
    writer.sync()
    commit(writer, 1)
    killed(writer)
    (one,) = attempts(job)
    if damage == "lost":
        os.truncate(one.segment, offset_of(job, 1) + 1)
    elif damage == "altered":
        flip(one.segment, offset_of(job, 1))
    else:
        one.segment.unlink()
    found = state_of(job)
    assert (found.done, found.crashed_starts, found.tries) == ({0}, {}, {})


def test_an_unsynced_commit_whose_bytes_are_there_is_believed(job: JobDir) -> None:
    """A killed process loses nothing that it wrote."""
    writer = begin(job)
    commit(writer, 0)
    killed(writer)
    assert state_of(job).done == {0}


def test_synced_commits_are_believed_without_reading_their_bytes(job: JobDir) -> None:
    """A restart after hours must not read hours of results; the merge checks every one of them anyway."""
    writer = begin(job)
    commit(writer, 0)
    writer.sync()
    killed(writer)
    flip(attempts(job)[0].segment, offset_of(job, 0))
    assert state_of(job).done == {0}


def test_a_start_without_an_end_is_held_against_the_mini_batch(job: JobDir) -> None:
    """Each worker that died while it ran counts; three are the limit."""
    for epoch in (1, 2, 3):
        writer = begin(job, epoch=epoch)
        commit(writer, epoch + 1)
        writer.start(1)
        killed(writer)
    found = state_of(job)
    assert (found.crashed_starts, found.done) == ({1: MAX_CRASHED_STARTS}, {2, 3, 4})


@pytest.mark.parametrize("kind", [Kind.RELEASE, Kind.END, Kind.FENCED, Kind.ABORT])
def test_a_start_that_somebody_stopped_is_excused(job: JobDir, kind: Kind) -> None:
    """A preemption, or a worker that ended with a word, says nothing about the mini-batch."""
    writer = begin(job)
    writer.start(1)
    writer.note(kind, {"message": "x"})
    writer.sync()
    killed(writer)
    assert state_of(job).crashed_starts == {}


def test_an_excuse_is_for_its_own_attempt_alone(job: JobDir) -> None:
    """The one before died without a word."""
    for epoch, kind in [(1, None), (2, Kind.RELEASE)]:
        writer = begin(job, epoch=epoch)
        writer.start(1)
        if kind:
            writer.note(kind)
        killed(writer)
    assert state_of(job).crashed_starts == {1: 1}


def test_the_start_that_travels_with_a_commit_counts(job: JobDir) -> None:
    """One write holds both records, and a torn one only the first."""
    writer = begin(job)
    writer.start(0)
    writer.commit(0, b"x\n", rows=1, failed_items=0, run_ms=1, then_start=1)
    killed(writer)
    assert state_of(job).crashed_starts == {1: 1}
    (one,) = attempts(job)
    os.truncate(one.ledger, one.ledger.stat().st_size - 1)
    assert (state_of(job).done, state_of(job).crashed_starts) == ({0}, {})


def test_a_ledger_of_another_job_says_nothing(job: JobDir) -> None:
    """Only its name is used: the next epoch is above it."""
    score(job, [0, 1], epoch=4)
    found = read_group(attempts(job), bytes(16))
    assert (found.done, found.last_epoch) == (set(), 4)


def test_reading_is_the_same_at_every_byte_of_a_killed_ledger(job: JobDir) -> None:
    """Whatever byte the kill came after, what is done only grows."""
    writer = begin(job)
    for number in range(3):
        commit(writer, number)
    killed(writer)
    (one,) = attempts(job)
    content = one.ledger.read_bytes()
    before: set[int] = set()
    for length in range(len(content) + 1):
        one.ledger.write_bytes(content[:length])
        found = state_of(job)
        assert before <= found.done
        assert sum(found.crashed_starts.values()) <= 1
        before = found.done
    assert before == {0, 1, 2}


def test_attempts_that_were_preempted_before_they_finished_anything_are_not_barren(job: JobDir) -> None:
    """Any number of them says nothing about the work; those before and after count on."""
    for epoch, preempted in enumerate([False, True, True, False, True], 1):
        writer = begin(job, epoch=epoch)
        if preempted:
            writer.note(Kind.RELEASE)
        killed(writer)
    assert state_of(job).barren == 2


def test_a_time_limit_excuses_what_it_cut_off_and_counts_it(job: JobDir) -> None:
    """So that it can be first in line, and given up in the end; the attempt is not barren."""
    for epoch in (1, 2):
        writer = begin(job, epoch=epoch)
        writer.start(0)
        writer.note(Kind.RELEASE, flags=FLAG_TIME_LIMIT)
        killed(writer)
    found = state_of(job)
    assert (found.cut_short, found.time_limits, found.crashed_starts, found.barren) == ({0: 2}, 2, {}, 0)


def test_kills_for_memory_have_a_budget_of_their_own(job: JobDir) -> None:
    """They are not tries; given up for memory is given up."""
    writer = begin(job)
    writer.fail(0, {}, final=False, failed_items=0, memory=True)
    writer.fail(1, {}, final=True, failed_items=2, memory=True)
    killed(writer)
    found = state_of(job)
    assert (found.memory_kills, found.tries, found.done, found.failed_items) == ({0: 1}, {}, {1}, 2)


def test_the_longest_mini_batch_is_remembered(job: JobDir) -> None:
    writer = begin(job)
    for number, run_ms in enumerate([5, 900, 70]):
        writer.commit(number, b"x", rows=1, failed_items=0, run_ms=run_ms)
    killed(writer)
    assert state_of(job).longest_run_ms == 900
