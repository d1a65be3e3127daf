"""Reading attempts back: by listing, by fresh opens, believing checksums only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbatch.jobdir import layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import Payloads, all_attempts, attempts_in, has_ended
from hpcbatch.records.ledger import Kind, Record
from tests.unit.jobdir.sealed import begin, commit, flip, score, seal


def read_payload(segment: Path, record: Record) -> bytes | None:
    """What the segment holds for the record."""
    payloads = Payloads(segment)
    try:
        return payloads.read(record)
    finally:
        payloads.close()


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def last_commit(job: JobDir) -> tuple[Path, Record]:
    (one,) = all_attempts(job.paths)
    return one.segment, [r for r in one.scan(job.record.uuid_bytes) if r.kind == Kind.COMMIT][-1]


def test_attempts_of_all_rounds_and_groups_are_found(job: JobDir) -> None:
    """With the round and the group that their folder says."""
    for round_number, group in [(0, 0), (0, 1), (1, 0), (0, 1999)]:
        score(job, [group], group=group, round_number=round_number)
    assert [(a.round, a.group) for a in all_attempts(job.paths)] == [(0, 0), (0, 1), (0, 1999), (1, 0)]
    assert job.paths.group(0, 1999).parent.name == "r0.1"


@pytest.mark.parametrize(
    "stray", ["g/.snapshot", "g/.DS_Store", "g/notes", "g/rx.1", "g/r0.0/old", "g/r0.0/00000/x.led"]
)
def test_what_others_left_in_the_folders_is_passed_over(job: JobDir, stray: str) -> None:
    """File servers and desktops leave names of their own."""
    score(job, [0])
    (job.root / stray).mkdir()
    assert len(list(all_attempts(job.paths))) == 1


def test_a_ledger_that_went_away_has_no_records(job: JobDir) -> None:
    """Listed, then removed: nothing is believed, nothing fails."""
    score(job, [0])
    (one,) = all_attempts(job.paths)
    one.ledger.unlink()
    assert list(one.scan(job.record.uuid_bytes)) == []


def test_a_payload_is_given_only_if_it_is_what_was_committed(job: JobDir) -> None:
    """Not when a bit turned over, not when it is short, not when the file is gone."""
    score(job, [0, 1])
    segment, record = last_commit(job)
    assert read_payload(segment, record) is not None
    flip(segment, record.offset)
    assert read_payload(segment, record) is None
    flip(segment, record.offset)
    os.truncate(segment, record.offset + 1)
    assert read_payload(segment, record) is None
    segment.unlink()
    assert read_payload(segment, record) is None


def test_a_payload_that_arrives_in_pieces_is_read_to_its_end(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """pread may return less than was asked for."""
    score(job, [0, 1])
    segment, record = last_commit(job)
    whole, real = read_payload(segment, record), os.pread
    monkeypatch.setattr(os, "pread", lambda fd, count, offset: real(fd, min(count, 2), offset))
    assert read_payload(segment, record) == whole


def test_a_payload_is_intact_only_if_all_of_it_is_what_was_committed(job: JobDir) -> None:
    """Asked without reading it into memory: of what is whole, damaged, cut off, or gone."""
    score(job, [0])
    segment, record = last_commit(job)

    def intact() -> bool:
        payloads = Payloads(segment)
        try:
            return payloads.intact(record)
        finally:
            payloads.close()

    assert intact()
    flip(segment, record.offset)
    assert not intact()
    os.truncate(segment, record.offset + record.length - 1)
    assert not intact()
    segment.unlink()
    assert not intact()


@pytest.mark.parametrize("payload", [b"", b"{", b"[1]", b"\xff"])
def test_a_reason_that_is_no_json_object_is_empty(job: JobDir, payload: bytes) -> None:
    """A report is for people: what cannot be read is left out."""
    writer = begin(job)
    commit(writer, 0, payload)
    writer.close()
    (one,) = all_attempts(job.paths)
    assert one.reason(list(one.scan(job.record.uuid_bytes))[-1]) == {}


def test_an_absent_group_has_no_attempts(tmp_path: Path) -> None:
    """Before the first array task began."""
    assert attempts_in(tmp_path / "g" / "r0.0" / "00000", 0, 0) == []


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        (f"e0001-{'a' * 32}.led", (1, "a" * 32)),
        (f"e12345-{'0' * 32}.led", (12345, "0" * 32)),
        (f"e0001-{'0' * 32}-k3.led", None),
        (f"e0001-{'a' * 32}.seg", None),
        (f"e0001-{'A' * 32}.led", None),
        (f"e0001-{'a' * 31}.led", None),
        (f"e0001-{'a' * 32}.led\n", None),
        ("", None),
    ],
)
def test_names_of_ledgers(name: str, parsed: tuple[int, str] | None) -> None:
    """Only the names that attempts have."""
    assert layout.parse_attempt(name) == parsed
    if parsed:
        assert layout.attempt_stem(*parsed) + layout.LEDGER == name


@pytest.mark.parametrize(
    ("name", "number"), [("PLAN.1", 1), ("PLAN.20", 20), ("PLAN.x", 0), ("PLAN", 0), ("x.1", 0), ("PLAN.²", 0)]
)
def test_names_of_merge_plans(name: str, number: int) -> None:
    """Anything else has no number."""
    assert layout.merge_plan_number(name) == number
    if number:
        assert layout.merge_plan_name(number) == name


def test_a_look_at_the_tail_tells_whether_an_attempt_ended(job: JobDir) -> None:
    """For decisions that may be wrong: an attempt in progress, one that is gone and one that ended."""
    score(job, [0, 1, 2])
    (ended,) = all_attempts(job.paths)
    assert has_ended(ended)
    begin(job, epoch=2).close()
    going_on = max(all_attempts(job.paths))
    assert not has_ended(going_on)
    going_on.ledger.write_bytes(b"")
    assert not has_ended(going_on)
    going_on.ledger.unlink()
    assert not has_ended(going_on)
