"""From what a driver reports to the segment: whole, in order, or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import Payloads
from hpcbatch.records.files import HEAD, parse_names
from hpcbatch.records.ledger import Kind
from hpcbatch.worker.files import FileKeeper, Torn
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.recovery import read_group
from tests.unit.jobdir.sealed import begin, flip, seal
from tests.unit.worker.test_recovery import attempts


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def report(folder: Path, files: dict[str, bytes], mini_batch: int = 0) -> dict[str, Any]:
    moved = folder / "taken" / str(mini_batch)
    listed = []
    for name, content in files.items():
        (moved / name).parent.mkdir(parents=True, exist_ok=True)
        (moved / name).write_bytes(content)
        native = os.fsencode(moved / name).decode("latin-1")
        listed.append([os.fsencode(name).decode("latin-1"), native, 0, len(content)])
    return {"mini_batch": mini_batch, "files": listed, "notes": [], "moved": str(moved)}


def test_files_are_stored_with_their_names_and_the_copies_removed(job: JobDir, tmp_path: Path) -> None:
    writer = begin(job)
    keeper = FileKeeper(writer, UserLog(2))
    big = os.urandom(3 << 20)
    files = {"a/\udcff\u00e9": b"", "b": big}
    stored = keeper.take(report(tmp_path, files))
    assert stored is not None
    (segment,) = job.root.rglob("*.seg")
    content = segment.read_bytes()[stored.offset : stored.offset + stored.length]
    (length,) = HEAD.unpack_from(content)
    assert parse_names(content[HEAD.size : HEAD.size + length]) == [("a/\udcff\u00e9", 0), ("b", len(big))]
    assert content.endswith(big)
    assert list((tmp_path / "taken").iterdir()) == []
    assert keeper.take({"mini_batch": 1, "files": [], "notes": ["n"], "moved": ""}) is None


def test_a_file_that_became_shorter_or_is_gone_is_torn(job: JobDir, tmp_path: Path) -> None:
    keeper = FileKeeper(begin(job), UserLog(2))
    for change in (lambda path: os.truncate(path, 1), os.unlink):
        told = report(tmp_path, {"a": b"content"})
        change(tmp_path / "taken" / "0" / "a")
        with pytest.raises(Torn):
            keeper.take(told)


def test_a_file_that_the_script_made_unreadable_is_torn_and_the_attempt_goes_on(job: JobDir, tmp_path: Path) -> None:
    """An error of the attempt's own files ends it; this is none, and would end each attempt again."""
    keeper = FileKeeper(begin(job), UserLog(2))
    told = report(tmp_path, {"a": b"content"})
    path = tmp_path / "taken" / "0" / "a"
    path.rename(tmp_path / "b")
    path.symlink_to(tmp_path / "b")
    with pytest.raises(Torn, match="'a' cannot be read after run\\(\\) had returned"):
        keeper.take(told)
    assert keeper.take(report(tmp_path, {"c": b"content"}, 1)) is not None


@pytest.mark.parametrize("of_init", [False, True])
def test_an_unsynced_commit_whose_files_were_lost_is_not_believed(job: JobDir, of_init: bool) -> None:
    writer = begin(job)
    stored = writer.store([b"files"])
    if of_init:
        writer.files_of_init(stored)
    writer.commit(0, b"row\n", rows=1, failed_items=0, run_ms=1, files=None if of_init else stored)
    assert read_group(attempts(job), job.record.uuid_bytes).done == {0}
    (segment,) = job.root.rglob("*.seg")
    flip(segment, stored.offset)
    assert read_group(attempts(job), job.record.uuid_bytes).done == set()
    writer.sync()
    assert read_group(attempts(job), job.record.uuid_bytes).done == {0}, "what was synced is believed unread"


def test_files_that_lost_their_end_or_their_segment_are_not_intact(job: JobDir) -> None:
    writer = begin(job)
    writer.commit(0, b"", rows=0, failed_items=0, run_ms=1, files=writer.store([b"files"]))
    (attempt,) = attempts(job)
    (record,) = [one for one in attempt.scan(job.record.uuid_bytes) if one.kind == Kind.FILES]

    def intact() -> bool:
        with contextlib.closing(Payloads(attempt.segment)) as payloads:
            return payloads.intact(record)

    assert intact()
    os.truncate(attempt.segment, record.offset + 1)
    assert not intact()
    attempt.segment.unlink()
    assert not intact()
