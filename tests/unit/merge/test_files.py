"""Files that scripts wrote: unpacked in input order, each chosen mini-batch's once, or nothing is published."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.publish import create_once, is_temp
from hpcbatch.jobdir import coverage, layout
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.coverage import Coverage, Rejected, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.merge import entry
from hpcbatch.merge import files as merging
from hpcbatch.merge.entry import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_PUBLISHED, merge_early, merge_job
from hpcbatch.merge.files import Published
from hpcbatch.merge.payloads import DamagedPayload
from hpcbatch.merge.write import Written as Rows
from hpcbatch.records.files import HEAD, pack_names
from hpcbatch.records.ledger import OF_INIT, Kind
from hpcbatch.records.merge_plan import MergePlan
from tests.unit.jobdir.sealed import Size, begin, end, expected, flip, output, rows, seal
from tests.unit.merge.test_merge_crashes import merge_that_dies, undo

Written = Sequence[tuple[str, bytes]]


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1", Size(items=6, groups=1))


def blocks(written: Written) -> list[bytes]:
    return [pack_names([(name, len(content)) for name, content in written]), *(content for _, content in written)]


def init(writer: AttemptWriter, written: Written) -> None:
    writer.files_of_init(writer.store(blocks(written)))


def commit(writer: AttemptWriter, mini_batch: int, written: Written) -> None:
    writer.start(mini_batch)
    stored = writer.store(blocks(written)) if written else None
    writer.commit(mini_batch, rows(mini_batch), rows=1, failed_items=0, run_ms=1, files=stored)


def usual(number: int) -> Written:
    return [("log.txt", b"%d\n" % number), (f"deep/er/{number}.bin", bytes([number]) * 3)]


def score(job: JobDir, *, epoch: int = 1, first: Written = (("log.txt", b"head\n"),)) -> None:
    writer = begin(job, epoch=epoch)
    init(writer, first)
    for number in (2, 0, 1):
        commit(writer, number, usual(number))
    end(writer)


def found(job: JobDir, folder: Path | None = None) -> dict[str, bytes]:
    base = folder or job.paths.score
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()}


EXPECTED = {
    "log.txt": b"head\n0\n1\n2\n",
    **{f"deep/er/{number}.bin": bytes([number]) * 3 for number in range(3)},
}


def files_records(job: JobDir, mini_batch: int) -> list[tuple[Path, int, int]]:
    """(segment, offset, length) of the FILES records of one mini-batch, attempt by attempt."""
    return [
        (attempt.segment, record.offset, record.length)
        for attempt in all_attempts(job.paths)
        for record in attempt.scan(job.record.uuid_bytes)
        if (record.kind, record.mini_batch) == (Kind.FILES, mini_batch)
    ]


def test_files_are_joined_in_input_order_whatever_ran_first(job: JobDir) -> None:
    score(job)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == EXPECTED
    assert output(job).read_bytes() == expected(job)
    summary = (job.verdict() or {})["files"]
    assert summary == {"folder": str(job.paths.score), "count": 4, "size_bytes": 20}
    listed = json.loads((job.paths.out / "_FILES.json").read_bytes())
    assert dict(listed["files"]) == {name: len(content) for name, content in EXPECTED.items()}
    assert {path.stat().st_mode & 0o777 for path in job.paths.score.rglob("*.*")} == {0o600}


def test_what_ran_twice_is_there_once(job: JobDir) -> None:
    """Of two attempts each mini-batch has one result, with the files that go with it."""
    score(job)
    score(job, epoch=2, first=[("log.txt", b"other\n"), ("only", b"second")])
    merge_early(job)
    assert found(job) == EXPECTED, "the second attempt has no chosen result, so its init() does not count"


def test_a_mini_batch_may_have_no_files(job: JobDir) -> None:
    writer = begin(job)
    for number in range(3):
        commit(writer, number, usual(number) if number == 1 else [])
    end(writer)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == {"log.txt": b"1\n", "deep/er/1.bin": b"\1\1\1"}


def test_a_merge_killed_before_any_step_is_finished_by_the_next(job: JobDir) -> None:
    score(job)
    step = 0
    while merge_that_dies(job, step):
        assert merge_job(job)[0] == EXIT_PUBLISHED, step
        assert found(job) == EXPECTED, step
        assert output(job).read_bytes() == expected(job), step
        shutil.rmtree(job.paths.score)
        job.paths.score.mkdir()
        undo(job)
        step += 11
    assert step > 50
    assert found(job) == EXPECTED


def test_a_plan_of_another_merge_that_names_damaged_files_is_not_published_without_them(
    job: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It found damage elsewhere, and froze its next plan between our look at the bytes and ours."""
    score(job)
    score(job, epoch=2)
    segment, offset, length = files_records(job, 2)[0]
    flip(segment, offset + length - 1)
    real = entry.publish_files

    def publish(job: JobDir, chosen: Coverage, rows: Callable[[], Rows | None]) -> Published:
        number = len(os.listdir(job.paths.merge))
        try:
            return real(job, chosen, rows)
        except DamagedPayload:
            if number == 1:  # the other merge's choice: the damaged files are in it, one other result is not
                name = chosen.files[0]
                (commit,) = [o for s, o, _ in files_records(job, 0) if str(s).endswith(name)]
                theirs = read_coverage(job, frozenset({(name, commit)}))
                create_once(job.paths.merge / layout.merge_plan_name(2), theirs.pack())
            raise

    monkeypatch.setattr(entry, "publish_files", publish)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == EXPECTED
    assert (job.verdict() or {})["mini_batches_done"] == 3
    assert sorted(os.listdir(job.paths.merge)) == ["PLAN.1", "PLAN.2", "PLAN.3"]


def test_attempts_that_only_another_merge_sees_yet_are_waited_for(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its plan names them; published without them, files would be missing."""
    score(job)
    create_once(job.paths.merge / layout.merge_plan_name(1), read_coverage(job).pack())
    score(job, epoch=2)
    looks: list[bool] = []

    def read(job: JobDir, rejected: Rejected = frozenset(), frozen: MergePlan | None = None) -> Coverage:
        looks.append(frozen is not None)
        hidden = len([look for look in looks if look]) < 3
        with monkeypatch.context() as patch:
            if hidden:
                patch.setattr(coverage, "all_attempts", lambda paths: sorted(all_attempts(paths))[1:])
            return read_coverage(job, rejected, frozen)

    pauses: list[float] = []
    monkeypatch.setattr(entry, "read_coverage", read)
    monkeypatch.setattr(entry.probe, "visibility_timeout_s", lambda _: 60.0)
    monkeypatch.setattr(entry.time, "sleep", pauses.append)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert len(pauses) == 2
    assert found(job) == EXPECTED
    assert os.listdir(job.paths.merge) == ["PLAN.1"]


def test_of_several_init_the_first_file_of_a_name_counts(job: JobDir) -> None:
    writer = begin(job)
    init(writer, [("a", b"1"), ("b", b"1")])
    init(writer, [("c", b"2"), ("a", b"2")])
    commit(writer, 0, [])
    end(writer)
    writer = begin(job, epoch=2)
    init(writer, [("a", b"3")])
    for number in (1, 2):
        commit(writer, number, [])
    end(writer)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == {"a": b"1", "b": b"1", "c": b"2"}


def test_the_invokers_folder_is_readable_and_nothing_in_it_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "mine"
    target.mkdir()
    job = seal(tmp_path / "b2", Size(items=6, groups=1), output_folder=str(target))
    score(job)
    (target / "log.txt").write_text("mine")
    with pytest.raises(FilesystemError, match="holds something else"):
        merge_job(job)
    assert (target / "log.txt").read_text() == "mine"
    (target / "log.txt").unlink()
    os.rename(output(job), tmp_path / "rows")
    assert merge_job(job)[0] == EXIT_PUBLISHED
    files = found(job, target)
    assert files.pop("predictions.csv") == expected(job)
    assert files == EXPECTED
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*.bin")} == {0o644}
    assert (target / "deep").stat().st_mode & 0o777 == 0o755
    assert not [path for path in target.iterdir() if is_temp(path.name)]


@pytest.mark.parametrize("at", [0, 2, 30, -1])
@pytest.mark.parametrize("mini_batch", [1, OF_INIT])
def test_damaged_files_are_taken_from_another_attempt(job: JobDir, mini_batch: int, at: int) -> None:
    """Wherever the bit turned over: in the length, in the names, in the bytes."""
    score(job)
    score(job, epoch=2)
    segment, offset, length = files_records(job, mini_batch)[0]
    flip(segment, offset + at % length, 1)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == EXPECTED


def test_damaged_files_without_another_attempt_are_scored_again(job: JobDir) -> None:
    score(job)
    segment, offset, length = files_records(job, 1)[0]
    flip(segment, offset + length - 1)
    code, text = merge_job(job)
    assert (code, found(job)) == (EXIT_INCOMPLETE, {})
    assert "1 mini-batch has no result" in text
    assert not output(job).exists()


def test_without_the_files_of_init_no_result_of_the_attempt_counts(job: JobDir) -> None:
    score(job)
    segment, offset, _ = files_records(job, OF_INIT)[0]
    flip(segment, offset)
    code, text = merge_job(job)
    assert (code, found(job)) == (EXIT_INCOMPLETE, {})
    assert "3 mini-batches have no result" in text


def test_a_segment_that_is_too_short_or_gone_counts_as_damaged(job: JobDir) -> None:
    score(job)
    segment, offset, length = files_records(job, 1)[0]
    coverage = read_coverage(job)
    os.truncate(segment, offset + length - 1)
    assert not read_coverage(job).complete
    for action in (lambda: os.truncate(segment, offset + 2), segment.unlink):
        action()
        with pytest.raises(merging.DamagedPayload):
            merging.publish_files(job, coverage, lambda: None)
    assert found(job) == {}


def test_names_that_leave_the_folder_or_do_not_fit_are_damage(job: JobDir) -> None:
    """Whoever wrote them: the checksum fits."""
    bad = [
        [HEAD.pack(2), b"[]"],
        [pack_names([("../escape", 1)]), b"x"],
        [pack_names([("a", 5)]), b"x"],
        [HEAD.pack(1 << 30), b"{}"],
        [b"x"],
    ]
    for number, wrong in enumerate(bad):
        writer = begin(job, epoch=number + 1)
        writer.commit(0, b"", rows=0, failed_items=0, run_ms=1, files=writer.store(wrong))
        end(writer)
    score(job, epoch=9)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert found(job) == EXPECTED


@pytest.mark.parametrize("names", [("a", "a/b"), ("c/d", "c")])
def test_a_name_that_is_a_file_and_a_folder_is_a_verdict(job: JobDir, names: tuple[str, str]) -> None:
    writer = begin(job)
    for number, name in enumerate(names):
        commit(writer, number, [(name, b"1")])
    commit(writer, 2, [])
    end(writer)
    code, text = merge_job(job)
    assert code == EXIT_FAILED
    assert "the name of a file and of a folder" in text
    assert not output(job).exists()


def test_a_merge_whose_unfinished_tree_is_swept_begins_again(job: JobDir) -> None:
    score(job)
    coverage, calls = read_coverage(job), []

    def sweep() -> None:
        calls.append("")
        if len(calls) < 3:
            for path in job.paths.score.iterdir():
                os.rename(path, job.root / f"swept-{len(calls)}")

    merging.publish_files(job, coverage, sweep)  # type: ignore[arg-type]  # returns None as for `summary_only`
    assert (len(calls), found(job)) == (3, EXPECTED)


def test_a_merge_whose_tree_is_always_swept_says_so(job: JobDir) -> None:
    score(job)

    def sweep() -> None:
        for path in job.paths.score.iterdir():
            os.rename(path, job.root / path.name)

    with pytest.raises(FilesystemError, match="removed again and again"):
        merging.publish_files(job, read_coverage(job), sweep)  # type: ignore[arg-type]  # returns None


def test_what_a_killed_merge_left_is_removed(job: JobDir) -> None:
    score(job)
    left = job.paths.score / f".tmp-files-{job.record.uuid}-{'0' * 32}"
    (left / "deep").mkdir(parents=True)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert not left.exists()
