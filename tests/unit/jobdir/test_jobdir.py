"""A job directory: sealed whole or not at all; what is read is what was submitted."""

from __future__ import annotations

import json
import os
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FileDamaged, NotFound
from hpcbatch.fs.publish import is_temp
from hpcbatch.ids import sha256
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.records.plan import pack_plan
from tests.unit.jobdir.sealed import Size, draft, flip, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "jobs" / "alice" / "b1")


def test_a_sealed_job_reads_back_what_was_drafted(job: JobDir) -> None:
    """Record, manifest, plan, code; for its owner alone."""
    wanted = draft(job.root)
    assert job.record == wanted.record
    assert job.paths.manifest.read_bytes() == wanted.manifest
    assert job.paths.code.read_bytes() == b"zip"
    assert (job.rounds(), job.plan(0).groups) == ([0], 2)
    assert job.manifest(check=True).paths(0) == ["/data/item-0000.txt", "/data/item-0001.txt"]
    assert job.root.stat().st_mode & 0o777 == 0o700
    assert not job.canceled()
    assert job.verdict() is None


def test_a_job_without_code_has_no_archive(tmp_path: Path) -> None:
    """An MLflow model brings its own scoring."""
    wanted = draft(tmp_path / "b1")
    assert jobdir.create(tmp_path / "b1", Draft(wanted.record, wanted.manifest, wanted.plan, None))
    assert not (tmp_path / "b1" / layout.CODE).exists()


def test_a_name_that_is_taken_stays_as_it_is(job: JobDir) -> None:
    """The second of two invocations under one name is told, and changes nothing."""
    before = {path: path.read_bytes() for path in job.root.rglob("*") if path.is_file()}
    assert not jobdir.create(job.root, draft(job.root, Size(items=3)))
    assert {path: path.read_bytes() for path in job.root.rglob("*") if path.is_file()} == before
    assert [name for name in os.listdir(job.root.parent) if is_temp(name)] == []


def _create(folder: str, items: int, barrier: Any) -> None:
    wanted = draft(Path(folder), Size(items=items))
    barrier.wait()
    raise SystemExit(0 if jobdir.create(Path(folder), wanted) else 3)


def test_of_many_invocations_under_one_name_exactly_one_seals_it(tmp_path: Path) -> None:
    """Eight processes at once, each with another request: one whole job, seven that are told."""
    context = get_context("fork")
    barrier = context.Barrier(8)
    folder = tmp_path / "b1"
    processes = [context.Process(target=_create, args=(str(folder), 10 + n, barrier)) for n in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert sorted(process.exitcode or 0 for process in processes) == [0] + [3] * 7
    job = jobdir.open_job(folder)
    assert job.manifest(check=True).items == job.record.items
    assert job.plan(0).groups == job.record.groups
    assert os.listdir(tmp_path) == ["b1"]


@pytest.mark.parametrize("folder", ["absent", "absent/deeper", "file/deeper"])
def test_a_job_that_is_not_there_is_not_found(tmp_path: Path, folder: str) -> None:
    """The error says how to list those that are."""
    (tmp_path / "file").touch()
    with pytest.raises(NotFound, match="hpcbatch job list"):
        jobdir.open_job(tmp_path / folder)


def test_a_record_that_was_changed_after_submission_is_refused(job: JobDir) -> None:
    """Every process checks what it reads against the digest that it was given."""
    assert jobdir.open_job(job.root, job.sha256).record == job.record
    document = json.loads(job.paths.job.read_bytes())
    job.paths.job.write_bytes(json.dumps(document | {"user": "mallory"}).encode())
    with pytest.raises(FileDamaged, match="not the record that was submitted"):
        jobdir.open_job(job.root, job.sha256)


def test_a_manifest_that_was_changed_is_refused(job: JobDir) -> None:
    """A bit in the middle of a name."""
    flip(job.paths.manifest, job.paths.manifest.stat().st_size - 5)
    assert job.manifest().items == 12
    with pytest.raises(FileDamaged, match="not the manifest"):
        job.manifest(check=True)


def test_an_empty_plan_file_is_damage(job: JobDir) -> None:
    """An empty file cannot even be mapped."""
    (job.paths.round(0) / layout.PLAN).write_bytes(b"")
    with pytest.raises(FileDamaged):
        job.plan(0)


def test_the_first_plan_of_a_round_stands(job: JobDir) -> None:
    """Whoever comes second works on the plan that is there."""
    first = pack_plan(1, [[(0, 2)]])
    jobdir.add_plan(job, 1, first)
    jobdir.add_plan(job, 1, pack_plan(1, [[(0, 6)]]))
    assert job.rounds() == [0, 1]
    assert list(job.plan(1).mini_batches(0)) == [0, 1]


def test_a_round_without_a_plan_is_none_yet(job: JobDir) -> None:
    """A writer died before its plan had its name; names that are not ours are passed over."""
    for name in ("r1", "x3", "r²", "local-1-2.json", "rounds"):
        (job.paths.rounds / name).mkdir()
    (job.paths.rounds / "r1" / ".tmp-0").touch()
    assert job.rounds() == [0]


def test_a_document_is_published_once(job: JobDir) -> None:
    """The first content stays."""
    path = job.paths.round(0) / layout.INTENT
    assert job.document(path) is None
    assert jobdir.publish_document(path, {"a": 1})
    assert not jobdir.publish_document(path, {"a": 2})
    assert job.document(path) == {"a": 1}


def test_a_document_that_is_no_object_is_none(job: JobDir) -> None:
    """Readers get a mapping or nothing."""
    (job.root / "x.json").write_bytes(b"[1]")
    assert job.document(job.root / "x.json") is None


def test_a_later_round_supersedes_the_failure_of_an_earlier_one(job: JobDir) -> None:
    """`job resume` went on; success is final whatever failed before."""
    jobdir.publish_document(job.paths.out / layout.failed_name(0), {"reason": "x"})
    assert job.verdict() == {"reason": "x", "completed": False}
    jobdir.add_plan(job, 1, pack_plan(1, [[(0, 6)]]))
    assert job.verdict() is None
    jobdir.publish_document(job.paths.out / layout.failed_name(1), {"reason": "y"})
    assert job.verdict() == {"reason": "y", "completed": False}
    jobdir.publish_document(job.paths.out / layout.SUCCESS, {"items": 12})
    assert job.verdict() == {"items": 12, "completed": True}


def test_a_failure_is_seen_even_when_no_round_is(job: JobDir) -> None:
    """A plan that was removed does not bring a failed job back to life."""
    (job.paths.round(0) / layout.PLAN).unlink()
    jobdir.publish_document(job.paths.out / layout.failed_name(0), {"reason": "x"})
    assert job.verdict() == {"reason": "x", "completed": False}


def test_a_cancellation_is_seen_by_every_reader(job: JobDir) -> None:
    """By listing, as everything that another node may have written."""
    jobdir.publish_document(job.paths.canceled, {"by": "alice"})
    assert job.canceled()


def test_a_verdict_may_quote_any_text_that_user_code_raised(job: JobDir) -> None:
    """Messages hold names that are not UTF-8, and half of an emoji."""
    for number, text in enumerate(["no file caf\udce9", "cut off: \ud83d"]):
        path = job.root / f"{number}.json"
        jobdir.publish_document(path, {"reason": text})
        assert job.document(path) == {"reason": text}


def test_the_digest_is_that_of_the_file(job: JobDir) -> None:
    """What travels with the submission can be checked with sha256sum."""
    assert job.sha256 == sha256(job.paths.job.read_bytes())
