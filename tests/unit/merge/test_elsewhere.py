"""Outputs for another place: here first, there next, and Completed only then. The place is a folder behind fsspec."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, FilesystemError
from hpcbatch.jobdir.jobdir import JobDir, publish_document
from hpcbatch.merge.elsewhere import send
from hpcbatch.merge.entry import EXIT_PUBLISHED, merge_early, merge_job
from hpcbatch.merge.files import Published
from hpcbatch.records.job import RemotePart
from tests.unit.jobdir.sealed import expected, output, score_all, seal


@pytest.fixture
def there(tmp_path: Path) -> Path:
    return tmp_path / "there" / "deep"


@pytest.fixture
def job(tmp_path: Path, there: Path) -> JobDir:
    job = seal(tmp_path / "b1", remote_output=RemotePart("file", f"{there}/"))
    score_all(job)
    return job


def test_the_rows_are_there_and_here(job: JobDir, there: Path) -> None:
    assert merge_job(job) == (EXIT_PUBLISHED, f"published {output(job)}, and sent to file://{there}/")
    assert os.listdir(there) == ["predictions.csv"]
    assert (there / "predictions.csv").read_bytes() == output(job).read_bytes() == expected(job)
    assert (job.verdict() or {})["sent_to"] == f"file://{there}/"


def test_another_s_file_is_left_alone_and_the_job_has_no_verdict(job: JobDir, there: Path) -> None:
    """The cause is noted each time; once the file is gone, the next merge sends."""
    there.mkdir(parents=True)
    theirs = there / "predictions.csv"
    for content in (b"other", b"x" * len(expected(job))):
        theirs.write_bytes(content)
        with pytest.raises(Conflict, match="exists and holds something else"):
            merge_job(job)
        assert (theirs.read_bytes(), job.verdict(), os.listdir(there)) == (content, None, ["predictions.csv"])
    notes = sorted(name for name in os.listdir(job.paths.merge) if name.startswith("UNSENT"))
    assert notes == ["UNSENT.1", "UNSENT.2"]
    assert "nothing was overwritten" in json.loads((job.paths.merge / "UNSENT.2").read_bytes())["message"]
    theirs.unlink()
    assert merge_job(job)[0] == EXIT_PUBLISHED


def test_a_merge_that_runs_again_finds_its_own_bytes_there(job: JobDir, there: Path) -> None:
    merge_job(job)
    (job.paths.out / "_SUCCESS.json").unlink()
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert os.listdir(there) == ["predictions.csv"]


def test_a_place_that_refuses_leaves_no_half_of_it(job: JobDir, there: Path) -> None:
    there.parent.write_text("a file where a folder is needed")
    with pytest.raises(FilesystemError, match="Cannot use 'file://"):
        merge_job(job)
    assert job.verdict() is None
    assert output(job).read_bytes() == expected(job)


def test_the_last_array_task_sends_nothing(job: JobDir, there: Path) -> None:
    """Sending may take long: that is for the job behind the array."""
    assert merge_early(job) == EXIT_PUBLISHED
    assert (job.verdict(), there.exists()) == (None, False)


def test_files_are_sent_before_the_rows_and_alone_without_rows(job: JobDir, there: Path, tmp_path: Path) -> None:
    """What there are of files is in the job's list of them."""
    (tmp_path / "made" / "x").mkdir(parents=True)
    (tmp_path / "made" / "x" / "y.txt").write_text("y")
    publish_document(job.paths.out / "_FILES.json", {"folder": str(tmp_path / "made"), "files": [["x/y.txt", 1]]})
    assert send(job, Published(None, {"count": 1})) == f"file://{there}/"
    assert (there / "x" / "y.txt").read_text() == "y"
    assert os.listdir(there) == ["x"]


def test_without_another_place_nothing_is_sent(tmp_path: Path) -> None:
    assert send(seal(tmp_path / "b2"), Published(None, None)) == ""
