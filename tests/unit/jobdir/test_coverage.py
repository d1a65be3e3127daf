"""What is done, from ledgers alone: one result for each mini-batch, whoever else committed it too."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.coverage import Coverage, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.records.ledger import RECORD_BYTES, Kind
from hpcbatch.records.merge_plan import NO_SEGMENT, parse_merge_plan
from hpcbatch.records.plan import pack_manifest
from tests.unit.jobdir.sealed import Size, begin, commit, draft, end, flip, rows, score, score_all, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def chosen(job: JobDir, coverage: Coverage) -> list[bytes | None]:
    """The bytes that the coverage chose for each mini-batch."""
    plan = parse_merge_plan(coverage.pack())
    return [
        None if segment == NO_SEGMENT else (job.root / plan.files[segment]).read_bytes()[offset : offset + length]
        for segment, _, offset, length in plan
    ]


def test_nothing_is_done_before_the_first_attempt(job: JobDir) -> None:
    """All mini-batches are missing, as one range."""
    found = read_coverage(job)
    assert (found.done, found.complete, found.missing(), found.items_done(job)) == (0, False, [(0, 6)], 0)
    assert chosen(job, found) == [None] * 6


def test_every_mini_batch_has_its_result_when_all_groups_are_done(job: JobDir) -> None:
    """And the counts are those of the records."""
    score_all(job)
    found = read_coverage(job)
    assert found.complete
    assert chosen(job, found) == [rows(n) for n in range(6)]
    assert (found.done, found.rows, found.run_ms, found.attempts) == (6, 6, 18, 2)
    assert (found.duplicates, found.items_failed, found.items_done(job)) == (0, 0, 12)
    assert found.ended_groups == {(0, 0), (0, 1)}
    assert found.last_wall_ms > 0


def test_what_is_missing_is_told_as_ranges(job: JobDir) -> None:
    """At the start, in the middle and at the end."""
    score(job, [1, 4])
    found = read_coverage(job)
    assert found.missing() == [(0, 1), (2, 4), (5, 6)]
    assert found.items_done(job) == 4


@pytest.mark.parametrize(("done", "items"), [([0], 2), ([5], 1), ([0, 5], 3)])
def test_the_last_mini_batch_may_be_smaller(tmp_path: Path, done: list[int], items: int) -> None:
    """Items that are done are counted, not estimated."""
    job = seal(tmp_path / "b1", Size(items=11))
    score(job, done)
    assert read_coverage(job).items_done(job) == items


def test_items_of_mini_batches_of_different_sizes_are_counted_by_what_was_planned(tmp_path: Path) -> None:
    """There is no size to multiply with."""
    plan = draft(tmp_path / "b1", Size(items=6, mini_batch_size=2))
    names = [f"item-{n}".encode() for n in range(6)]
    manifest = pack_manifest(names, root="/data/", mini_batch_size=0, counts=[1, 3, 2])
    record = replace(plan.record, scoring=replace(plan.record.scoring, mini_batch_size=0))
    jobdir.create(tmp_path / "b1", replace(plan, record=record, manifest=manifest))
    job = jobdir.open_job(tmp_path / "b1")
    assert read_coverage(job).items_done(job) == 0
    score(job, [1, 2])
    assert read_coverage(job).items_done(job) == 5


def test_a_duplicate_is_counted_and_changes_nothing(job: JobDir) -> None:
    """A zombie and its successor both finished mini-batch 1; only a different result is called nondeterministic."""
    score(job, [0, 1, 2])
    before = chosen(job, read_coverage(job))
    writer = begin(job, epoch=2)
    commit(writer, 1)
    commit(writer, 2, rows(2, "another"))
    end(writer)
    found = read_coverage(job)
    assert chosen(job, found) == before
    assert (found.duplicates, found.nondeterministic_duplicates, found.rows) == (2, 1, 3)
    assert len(found.files) == 1


@pytest.mark.parametrize("order", ["commit first", "fail first"])
def test_a_commit_beats_a_fail(job: JobDir, order: str) -> None:
    """One attempt gave the mini-batch up, another one finished it: its items have not failed."""
    first, second = (begin(job, epoch=n) for n in ((1, 2) if order == "commit first" else (2, 1)))
    commit(first, 3)
    second.fail(3, {"kind": "error", "message": "no"}, final=True, failed_items=2)
    end(first)
    end(second)
    found = read_coverage(job)
    assert chosen(job, found)[3] == rows(3)
    assert (found.items_failed, found.failures_by_cause(), found.reports()) == (0, {}, [])


def test_a_final_failure_is_a_result_and_a_failed_try_is_none(job: JobDir) -> None:
    """The first final one counts, once."""
    writer = begin(job)
    writer.fail(0, {"kind": "error", "message": "try"}, final=False, failed_items=0)
    writer.fail(1, {"kind": "error", "message": "first"}, final=True, failed_items=2)
    writer.fail(1, {"kind": "timeout", "message": "second"}, final=True, failed_items=1)
    writer.fail(2, {"message": "no kind"}, final=True, failed_items=1)
    end(writer)
    found = read_coverage(job)
    assert (found.done, found.items_failed, found.missing()) == (2, 3, [(0, 1), (3, 6)])
    assert found.failures_by_cause() == {"error": 1, "unknown": 1}
    assert [report["message"] for report in found.reports()] == ["first", "no kind"]
    assert found.reports(1)[0]["mini_batch"] == 1


def test_aborts_are_reported_before_failures(job: JobDir) -> None:
    """Why an array task gave up explains what is missing."""
    writer = begin(job, 1)
    writer.fail(3, {"kind": "error", "message": "one"}, final=True, failed_items=2)
    writer.note(Kind.RELEASE)
    writer.note(Kind.ABORT, {"kind": "init", "message": "no model"})
    writer.sync()
    writer.close()
    found = read_coverage(job)
    assert [(r.get("group"), r["message"]) for r in found.reports()] == [(1, "no model"), (None, "one")]
    assert [r["message"] for r in found.reports(1)] == ["no model"]
    assert (found.released, len(found.aborts), found.ended_groups) == (1, 1, set())


def test_fewer_rows_than_items_are_a_cause_of_their_own_after_the_failures(job: JobDir) -> None:
    """run() returned, so nothing was raised; without a word nobody would know why items failed."""
    writer = begin(job)
    commit(writer, 0, failed_items=1)
    commit(writer, 2, failed_items=2)
    writer.fail(3, {"kind": "error", "message": "one"}, final=True, failed_items=2)
    end(writer)
    found = read_coverage(job)
    assert found.failures_by_cause() == {"error": 1, "fewer-rows": 2}
    assert [each["mini_batch"] for each in found.reports()] == [3, 0, 2]
    assert found.reports()[1]["message"] == "run() returned fewer rows than it got files; failed items: 1"
    assert [each["mini_batch"] for each in found.reports(2)] == [3, 0]


def test_more_failures_than_are_read_are_counted(tmp_path: Path) -> None:
    """The causes of a thousand are read; a million failures must not keep a merge busy."""
    job = seal(tmp_path / "b1", Size(items=1100, mini_batch_size=1))
    writer = begin(job)
    for number in range(1100):
        writer.fail(number, {"kind": "error"}, final=True, failed_items=1)
    writer.close()
    assert read_coverage(job).failures_by_cause() == {"error": 1000, "not read": 100}


def test_records_of_mini_batches_that_do_not_exist_are_passed_over(job: JobDir) -> None:
    """A ledger of a larger job under the same identity cannot reach beyond this one."""
    writer = begin(job)
    commit(writer, 6)
    writer.fail(7, {}, final=True, failed_items=1)
    end(writer)
    found = read_coverage(job)
    assert (found.done, found.failures) == (0, [])


def test_a_commit_whose_bytes_are_not_in_the_segment_does_not_count(job: JobDir) -> None:
    """The node died before they reached the disk, and their record did."""
    score(job, [0, 1, 2])
    (one,) = all_attempts(job.paths)
    record = [r for r in one.scan(job.record.uuid_bytes) if r.kind == Kind.COMMIT][-1]
    os.truncate(one.segment, record.offset + record.length - 1)
    assert read_coverage(job).missing() == [(2, 6)]
    one.segment.unlink()
    assert read_coverage(job).done == 0


def test_rejected_bytes_are_not_chosen_again(job: JobDir) -> None:
    """Another attempt's commit stands in; an empty payload at the same place is not meant."""
    writer = begin(job)
    commit(writer, 0, b"")
    commit(writer, 1)
    end(writer)
    score(job, [1], epoch=2)
    first, second = sorted(all_attempts(job.paths))
    name = str(first.segment.relative_to(job.root))
    offset = next(r.offset for r in first.scan(job.record.uuid_bytes) if r.mini_batch == 1 and r.kind == Kind.COMMIT)
    found = read_coverage(job, frozenset({(name, offset)}))
    assert found.files[found.segments[1]] == str(second.segment.relative_to(job.root))
    assert found.missing() == [(2, 6)]


def test_a_damaged_ledger_is_named_and_believed_up_to_the_damage(job: JobDir) -> None:
    """A hole is no torn tail: somebody should look at that disk."""
    score(job, [0, 1, 2])
    (one,) = all_attempts(job.paths)
    flip(one.ledger, 4 * RECORD_BYTES + 50)
    found = read_coverage(job)
    assert found.damaged_ledgers == [str(one.ledger)]
    assert found.missing() == [(1, 6)]


def test_the_choice_does_not_depend_on_the_order_of_the_listing(job: JobDir) -> None:
    """The smallest round, epoch and nonce win: every merge on every node chooses the same."""
    for round_number, epoch in [(1, 1), (0, 2), (0, 1)]:
        writer = begin(job, epoch=epoch, round_number=round_number)
        commit(writer, 0, rows(0, f"{round_number}.{epoch}"))
        end(writer)
    assert chosen(job, read_coverage(job))[0] == rows(0, "0.1")


def test_a_frozen_plan_decides_against_whatever_came_later(job: JobDir) -> None:
    """A late commit is a duplicate, even of a mini-batch that failed, even if it would have been preferred."""
    writer = begin(job, epoch=2)
    for number in (0, 1):
        commit(writer, number)
    writer.fail(2, {"kind": "error"}, final=True, failed_items=2)
    end(writer)
    before = read_coverage(job)
    frozen = parse_merge_plan(before.pack())
    zombie = begin(job, epoch=1)
    for number, version in itertools.product((0, 1, 2), ("", "late")):
        commit(zombie, number, rows(number, version))
    end(zombie)
    found = read_coverage(job, frozen=frozen)
    assert chosen(job, found) == chosen(job, before) == [rows(0), rows(1), None, None, None, None]
    assert (found.states, found.items_failed, found.rows) == (before.states, 2, 2)
    assert (found.duplicates, found.nondeterministic_duplicates) == (6, 4)
