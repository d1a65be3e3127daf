"""job.json: sealed once, read back the same, refused when it is not what we wrote."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import FileDamaged
from hpcbatch.records.job import CodePart, JobRecord, ModelPart, parse_job
from tests.unit.jobdir.sealed import draft

MODEL = ModelPart("m", "1", "custom_model", "/ws/m/content", "0" * 64, "m.pkl", 10, 1)
CODE = CodePart("code.zip", "1" * 64, "score.py")


@pytest.fixture
def record(tmp_path: Path) -> JobRecord:
    return draft(tmp_path / "b1").record


def test_a_record_reads_back_as_it_was_written(record: JobRecord) -> None:
    """With and without model and code."""
    full = replace(record, model=MODEL, code=CODE, warnings=("careful",), properties={"a": 1})
    for one in (record, full):
        assert parse_job(one.to_bytes(), "job.json") == one
        assert parse_job(one.to_bytes(), "job.json").to_bytes() == one.to_bytes()


def test_names_are_derived_from_the_uuid(record: JobRecord) -> None:
    """What ledgers carry and what Slurm's queue shows."""
    assert record.uuid_bytes.hex() == record.uuid
    assert record.slurm_name == "hb-0123456789ab"


def test_keys_of_a_later_version_are_passed_over(record: JobRecord) -> None:
    """An additive change does not stop an older reader."""
    document = json.loads(record.to_bytes())
    document["news"] = 1
    document["scoring"]["news"] = {"x": []}
    assert parse_job(json.dumps(document).encode(), "job.json") == record


def test_another_schema_is_refused_by_name(record: JobRecord) -> None:
    """A newer version may mean something else by the same key."""
    document = {**json.loads(record.to_bytes()), "schema": "hpcbatch.job/2"}
    with pytest.raises(FileDamaged, match=r"hpcbatch\.job/2"):
        parse_job(json.dumps(document).encode(), "job.json")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"7", b"\xff\xfe", b'{"schema":"hpcbatch.job/1"}', b'{"schema":"hpcbatch.job/1","scoring":7}'],
)
def test_what_is_no_record_is_refused_with_its_path(data: bytes) -> None:
    """The error names the file and says what to do."""
    with pytest.raises(FileDamaged, match=r"/jobs/b1/job\.json.*\n?.*invoke"):
        parse_job(data, "/jobs/b1/job.json")


def test_every_truncation_of_a_record_is_refused(record: JobRecord) -> None:
    """A prefix of the document is never a document."""
    data = record.to_bytes()
    for length in range(len(data)):
        with pytest.raises(FileDamaged):
            parse_job(data[:length], "job.json")


def test_paths_need_not_be_utf_8(record: JobRecord) -> None:
    """An input folder may have any bytes in its name."""
    odd = replace(record, input_path="/data/caf\udce9")
    assert parse_job(odd.to_bytes(), "job.json") == odd
