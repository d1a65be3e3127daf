"""One merge: everything is there and is published once, or what is missing is planned, or the reason is recorded."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FileDamaged, FilesystemError
from hpcbatch.fs.publish import is_temp
from hpcbatch.jobdir import jobdir, layout, repair
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles, all_attempts
from hpcbatch.merge.entry import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_PUBLISHED, MAX_BARREN_ROUNDS, MAX_ROUNDS, merge_job
from hpcbatch.records.ledger import Kind
from tests.unit.jobdir.sealed import (
    Size,
    begin,
    commit,
    end,
    expected,
    flip,
    output,
    rows,
    score,
    score_all,
    seal,
)


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def damage(job: JobDir, attempt: AttemptFiles, mini_batch: int) -> None:
    """A bit of the bytes that *attempt* committed for *mini_batch* turns over."""
    (record,) = [r for r in attempt.scan(job.record.uuid_bytes) if (r.kind, r.mini_batch) == (Kind.COMMIT, mini_batch)]
    flip(attempt.segment, record.offset + record.length // 2, 3)


def verdict(job: JobDir) -> dict[str, Any]:
    found = job.verdict()
    assert found is not None
    return found


def fail(job: JobDir, mini_batches: list[int], items: int = 2) -> None:
    """An attempt of group 0 that gives *mini_batches* up and commits the others of the job."""
    writer = begin(job)
    for number in range(job.record.mini_batches):
        if number in mini_batches:
            report = {"kind": "error", "type": "ValueError", "message": f"bad row {number}"}
            writer.fail(number, report, final=True, failed_items=items)
        else:
            commit(writer, number)
    end(writer)


def published(job: JobDir) -> list[str]:
    return sorted(name for name in os.listdir(job.paths.out) if not is_temp(name))


def test_a_complete_job_is_published_with_its_digest(job: JobDir) -> None:
    """Output in input order; the summary says what it holds."""
    score_all(job)
    code, text = merge_job(job)
    assert (code, text) == (EXIT_PUBLISHED, f"published {output(job)}")
    assert output(job).read_bytes() == expected(job)
    found = verdict(job)
    assert (found["status"], found["completed"], found["job"]) == ("Completed", True, "b1")
    assert found["output"] == {
        "path": str(output(job)),
        "sha256": hashlib.sha256(expected(job)).hexdigest(),
        "size_bytes": len(expected(job)),
    }
    counts = ("items", "items_succeeded", "items_failed", "mini_batches", "mini_batches_done", "rows", "attempts")
    assert [found[key] for key in counts] == [12, 12, 0, 6, 6, 6, 2]


def test_the_bytes_do_not_depend_on_the_groups(tmp_path: Path) -> None:
    """One group or six, one attempt each or one for each mini-batch."""
    one, many = seal(tmp_path / "one", Size(groups=1)), seal(tmp_path / "many", Size(groups=6))
    score_all(one)
    for number in reversed(range(6)):
        score(many, [number], group=number)
    assert merge_job(one)[0] == merge_job(many)[0] == EXIT_PUBLISHED
    assert output(one).read_bytes() == output(many).read_bytes() == expected(one)


def test_a_second_merge_is_a_no_op(job: JobDir) -> None:
    """Nothing is written again."""
    score_all(job)
    merge_job(job)

    def files() -> dict[Path, tuple[int, int, int]]:
        """Not their access times: this looks at them, too."""
        found = {path: path.stat() for path in job.root.rglob("*")}
        return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}

    before = files()
    assert merge_job(job) == (EXIT_PUBLISHED, "the job has its verdict already")
    assert files() == before


def test_a_merge_that_died_before_its_verdict_is_repeated_with_the_same_digest(job: JobDir) -> None:
    """The output has its name, the summary does not yet."""
    score_all(job)
    merge_job(job)
    first = verdict(job)
    (job.paths.out / layout.SUCCESS).unlink()
    inode = output(job).stat().st_ino
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert verdict(job) | {"ended": ""} == first | {"ended": ""}
    assert output(job).stat().st_ino == inode


def test_a_zombie_that_commits_after_the_plan_was_frozen_changes_nothing(job: JobDir) -> None:
    """Neither the bytes nor what the summary says of them, although its results would have been preferred."""
    fail(job, [4])
    merge_job(job)
    first = verdict(job)
    for path in (output(job), job.paths.out / layout.SUCCESS):
        path.unlink()
    zombie = begin(job, epoch=0)
    for number in range(6):
        commit(zombie, number, rows(number, "zombie"))
    end(zombie)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    found = verdict(job)
    assert output(job).read_bytes() == b"".join(rows(n) for n in range(6) if n != 4)
    assert found["output"] == first["output"]
    same = ("items_succeeded", "items_failed", "mini_batches_done", "mini_batches_failed", "rows", "failures")
    assert [found[key] for key in same] == [first[key] for key in same]
    assert (found["duplicates"], found["nondeterministic_duplicates"], found["attempts"]) == (6, 6, 2)


def test_a_damaged_payload_is_replaced_by_another_attempts(job: JobDir) -> None:
    """The second copy of the same result is as good."""
    score(job, range(6))
    score(job, range(6), epoch=2)
    first, _ = sorted(all_attempts(job.paths))
    for number in (1, 2, 5):
        damage(job, first, number)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == expected(job)
    assert sorted(os.listdir(job.paths.merge)) == [f"PLAN.{n}" for n in range(1, 5)]  # one for each damage found


def test_a_damaged_payload_without_another_is_never_published_but_run_again(job: JobDir) -> None:
    """The mini-batch is missing: the next round has it and nothing else."""
    score_all(job)
    (attempt,) = [found for found in all_attempts(job.paths) if found.group == 1]
    damage(job, attempt, 4)
    code, text = merge_job(job)
    assert code == EXIT_INCOMPLETE
    assert text == "1 mini-batch has no result yet; round 1 will run them"
    assert published(job) == []
    plan = job.plan(1)
    assert [list(plan.mini_batches(n)) for n in range(plan.groups)] == [[4]]
    found = job.document(job.paths.merge / "INCOMPLETE.0.json")
    assert found is not None
    assert (found["round"], found["missing"], found["mini_batches_missing"]) == (0, [[4, 5]], 1)
    score_all(job, 1)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == expected(job)


def test_a_segment_that_a_frozen_plan_needs_and_that_is_gone_is_run_again(job: JobDir) -> None:
    """Lost between two merges: the plan that names it is left behind."""
    score_all(job)
    merge_job(job)
    for path in (output(job), job.paths.out / layout.SUCCESS):
        path.unlink()
    min(all_attempts(job.paths)).segment.unlink()
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    score_all(job, 1)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == expected(job)


def test_a_damaged_merge_plan_publishes_nothing(job: JobDir) -> None:
    """It is refused with what to do, and goes on once that was done."""
    score_all(job)
    merge_job(job)
    for path in (output(job), job.paths.out / layout.SUCCESS):
        path.unlink()
    flip(job.paths.merge / "PLAN.1", (job.paths.merge / "PLAN.1").stat().st_size - 3)
    with pytest.raises(FileDamaged, match=r"merge folder(.|\n)*job resume"):
        merge_job(job)
    assert published(job) == []
    (job.paths.merge / "PLAN.1").unlink()
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == expected(job)


def test_an_output_that_is_somebody_elses_is_kept(job: JobDir) -> None:
    """The job has no verdict: once the file was moved away, the merge succeeds."""
    score_all(job)
    output(job).write_bytes(b"mine")
    with pytest.raises(FilesystemError, match="nothing was overwritten"):
        merge_job(job)
    assert (output(job).read_bytes(), job.verdict()) == (b"mine", None)
    output(job).unlink()
    assert merge_job(job)[0] == EXIT_PUBLISHED


def test_rows_nobody_asked_for_are_not_written(tmp_path: Path) -> None:
    """`summary_only`: the summary, and no file beside it."""
    job = seal(tmp_path / "b1", scoring={"output_action": "summary_only"})
    writer = begin(job)
    for number in range(6):
        commit(writer, number, b"")
    end(writer)
    assert merge_job(job) == (EXIT_PUBLISHED, "published the summary")
    assert published(job) == [layout.SUCCESS]
    assert "output" not in verdict(job)


def test_failed_items_within_the_threshold_are_left_out(tmp_path: Path) -> None:
    """The job completes; the summary says what failed and why."""
    job = seal(tmp_path / "b1", scoring={"error_threshold": 4})
    fail(job, [1, 3])
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == b"".join(rows(n) for n in (0, 2, 4, 5))
    found = verdict(job)
    counts = [found[key] for key in ("items_succeeded", "items_failed", "mini_batches_done", "mini_batches_failed")]
    assert counts == [8, 4, 6, 2]
    assert found["failures_by_cause"] == {"error": 2}
    assert [report["mini_batch"] for report in found["failures"]] == [1, 3]


@pytest.mark.parametrize(
    ("threshold", "failed", "completed"), [(-1, 10, True), (3, 4, False), (4, 4, True), (0, 2, False)]
)
def test_the_error_threshold_counts_items_as_azure_does(
    tmp_path: Path, threshold: int, failed: int, completed: bool
) -> None:
    """Strictly more than the threshold fails the job; -1 never does."""
    job = seal(tmp_path / "b1", scoring={"error_threshold": threshold})
    fail(job, list(range(failed // 2)))
    code, text = merge_job(job)
    assert (code == EXIT_PUBLISHED) == completed
    if not completed:
        assert published(job) == ["_FAILED.0.json"]
        assert f"The number of failed items is {failed}, which exceeds error threshold {threshold}." in text
        assert "First failure: mini-batch 0: ValueError: bad row 0" in verdict(job)["reason"]
        assert merge_job(job) == (EXIT_FAILED, "the job has its verdict already")


@pytest.mark.parametrize("output_action", ["append_row", "summary_only"])
def test_a_job_of_which_nothing_succeeded(tmp_path: Path, output_action: str) -> None:
    """Fails if rows were wanted: there is none."""
    job = seal(tmp_path / "b1", scoring={"output_action": output_action})
    fail(job, list(range(6)))
    code, text = merge_job(job)
    assert code == (EXIT_FAILED if output_action == "append_row" else EXIT_PUBLISHED)
    assert ("every item failed" in text) == (output_action == "append_row")


def test_a_canceled_job_ends_canceled(job: JobDir) -> None:
    """With whatever it had; nothing is published."""
    fail(job, [0])
    jobdir.publish_document(job.paths.canceled, {"by": "alice"})
    assert merge_job(job) == (EXIT_FAILED, "ERROR: The job was canceled.")
    assert (verdict(job)["status"], verdict(job)["items_succeeded"]) == ("Canceled", 10)
    assert published(job) == ["_FAILED.0.json"]


@pytest.mark.parametrize(
    ("report", "reason"),
    [
        ({"kind": "init", "type": "OSError", "message": "no model"}, "init() failed: OSError: no model"),
        ({"kind": "init", "message": "no model"}, "init() failed: no model"),
        ({"kind": "time-limit", "type": "TimeLimit", "message": "Raise `time`"}, "Raise `time`"),
        ({"kind": "error_threshold", "message": "too many failed"}, "too many failed"),
        ({}, "an array task gave up"),
    ],
)
def test_an_array_task_that_gave_up_ends_the_job(job: JobDir, report: dict[str, str], reason: str) -> None:
    """Another round would end the same way."""
    writer = begin(job)
    commit(writer, 0)
    writer.note(Kind.ABORT, report)
    writer.sync()
    writer.close()
    code, text = merge_job(job)
    assert (code, text) == (EXIT_FAILED, f"ERROR: {reason}"), "once, not again as the first failure"
    assert job.rounds() == [0]


def test_giving_up_in_an_earlier_round_does_not_count_after_a_resume(job: JobDir) -> None:
    """The user repaired the model and resumed; that the new round was interrupted is another matter."""
    writer = begin(job)
    writer.note(Kind.ABORT, {"kind": "init", "message": "no model"})
    writer.close()
    assert merge_job(job)[0] == EXIT_FAILED
    jobdir.add_plan(job, 1, (job.paths.round(0) / layout.PLAN).read_bytes())
    score(job, [0, 1, 2], round_number=1)
    assert merge_job(job) == (EXIT_INCOMPLETE, "3 mini-batches have no result yet; round 2 will run them")


def test_rounds_that_finish_nothing_end_the_job(job: JobDir) -> None:
    """What has no result after four of them in a row is named; nothing is published."""
    score(job, [0, 3])
    for number in range(MAX_BARREN_ROUNDS):
        assert merge_job(job)[0] == EXIT_INCOMPLETE
        score(job, [0], round_number=number + 1)
    code, text = merge_job(job)
    assert (code, text) == (EXIT_FAILED, "ERROR: 4 mini-batches have no result after 5 rounds: 1-2, 4-5")
    assert published(job) == [f"_FAILED.{MAX_BARREN_ROUNDS}.json"]


def test_a_job_that_never_got_anywhere_ends_a_round_earlier(job: JobDir) -> None:
    """Its first round was barren too."""
    for _ in range(MAX_BARREN_ROUNDS - 1):
        assert merge_job(job)[0] == EXIT_INCOMPLETE
    assert merge_job(job)[0] == EXIT_FAILED
    assert job.rounds() == [0, 1, 2, 3]


def test_rounds_that_get_on_go_on_to_a_limit(tmp_path: Path) -> None:
    """On a cluster that preempts every few minutes each round finishes a little."""
    job = seal(tmp_path / "b1", Size(items=30, mini_batch_size=1))
    for number in range(MAX_ROUNDS - 1):
        score(job, [number], round_number=number)
        assert merge_job(job)[0] == EXIT_INCOMPLETE
    code, text = merge_job(job)
    assert (code, text) == (EXIT_FAILED, "ERROR: 11 mini-batches have no result after 20 rounds: 19-29")


def test_rounds_that_were_preempted_and_got_on_are_not_counted(tmp_path: Path) -> None:
    """Where PreemptMode is CANCEL each preemption costs a round: a long job may have any number of them."""
    job = seal(tmp_path / "b1", Size(items=2 * MAX_ROUNDS + 1, mini_batch_size=1))
    for number in range(2 * MAX_ROUNDS):
        writer = begin(job, round_number=number)
        commit(writer, number)
        writer.note(Kind.RELEASE)
        writer.close()
        assert merge_job(job)[0] == EXIT_INCOMPLETE
    score(job, [2 * MAX_ROUNDS], round_number=2 * MAX_ROUNDS)
    assert merge_job(job)[0] == EXIT_PUBLISHED


def test_rounds_that_were_preempted_before_they_finished_anything_go_on_to_the_limit(job: JobDir) -> None:
    """Not to the shorter one of rounds that nothing disturbed; but a time limit below init() looks the same."""
    for number in range(MAX_ROUNDS - 1):
        writer = begin(job, round_number=number)
        writer.note(Kind.RELEASE)
        writer.close()
        assert merge_job(job)[0] == EXIT_INCOMPLETE
    code, text = merge_job(job)
    assert (code, text) == (EXIT_FAILED, "ERROR: 6 mini-batches have no result after 20 rounds: 0-5")


def test_a_round_in_which_a_worker_died_is_not_barren(job: JobDir) -> None:
    """It has told which mini-batch to beware of, and the plan of the next round passes that on."""
    for number in range(MAX_BARREN_ROUNDS + 2):
        writer = begin(job, round_number=number)
        writer.start(2)
        writer.close()
        assert merge_job(job)[0] == EXIT_INCOMPLETE
        assert repair.suspects_of(job, number + 1) == {2: number + 1}


def test_the_summary_is_json_that_others_can_read(job: JobDir) -> None:
    """One document, its schema named."""
    score_all(job)
    merge_job(job)
    document = json.loads((job.paths.out / layout.SUCCESS).read_bytes())
    assert document["schema"] == "hpcbatch.summary/1"
    assert "completed" not in document


@pytest.mark.parametrize(
    ("created", "known"), [("2026-11-23T10:00:00Z", True), ("2999-01-01T00:00:00Z", True), ("", False)]
)
def test_the_verdict_tells_how_long_it_took_and_never_fails_over_it(tmp_path: Path, created: str, known: bool) -> None:
    """A clock that was wrong when the job was made costs the number, not the output."""
    job = seal(tmp_path / "b1", created=created)
    score_all(job)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    verdict = job.verdict()
    assert verdict is not None
    assert (verdict["elapsed_s"] is not None) == known
    assert not known or verdict["elapsed_s"] >= 0
