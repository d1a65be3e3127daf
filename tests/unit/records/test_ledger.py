"""The ledger's promise: what is read back is a prefix of what was appended, or visibly damaged; never anything else."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.records.ledger import RECORD_BYTES, Chain, Kind, Record, Scan, payload_matches

JOB, NONCE = bytes(range(16)), bytes(range(100, 116))


def ledger(count: int, *, job: bytes = JOB, nonce: bytes = NONCE) -> bytes:
    """A ledger of *count* records with all that varies from record to record in it."""
    chain = Chain(job, 3, 1, nonce)
    kinds = [Kind.START, Kind.COMMIT, Kind.FAIL, Kind.SYNC]
    return b"".join(
        chain.record(
            kinds[n % 4], mini_batch=n, offset=7 * n, payload=b"%d" % n, rows=n, wall_ms=n, run_ms=n, failed_items=n % 3
        )
        for n in range(count)
    )


def read(data: bytes) -> tuple[list[Record], bool]:
    """The accepted records, and whether the ledger is damaged."""
    scan = Scan(data, JOB, NONCE)
    found = list(scan)
    assert scan.accepted == len(found)
    return found, scan.damaged


@contextmanager
def untraced() -> Iterator[None]:
    """Without a coverage tracer, which would make ten thousands of scans ten times slower and learn nothing new."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def test_a_record_is_128_bytes_and_reads_back_as_it_was_written() -> None:
    """Each field survives; the digest and the checksum are those of the payload."""
    chain = Chain(JOB, 3, 2, NONCE)
    opened = chain.record(Kind.OPEN)
    data = chain.record(
        Kind.COMMIT, mini_batch=2**40, offset=2**41, payload=b"rows", rows=7, wall_ms=8, run_ms=9, failed_items=10,
        flags=1,
    )  # fmt: skip
    assert len(opened) == len(data) == RECORD_BYTES
    (first, found), damaged = read(opened + data)
    assert not damaged
    assert (first.kind, first.seq, first.digest) == (Kind.OPEN, 0, bytes(16))
    assert found[:7] == (Kind.COMMIT, 1, 1, 2**40, 2**41, 4, 7)
    assert found[9:] == (8, 9, 10)
    assert payload_matches(found, b"rows")
    assert payload_matches(found, memoryview(b"rows"))


@pytest.mark.parametrize("payload", [b"", b"row", b"rowS", b"rowss"])
def test_a_payload_that_is_not_what_was_committed_does_not_match(payload: bytes) -> None:
    """Neither a shorter nor a longer nor a changed one."""
    (record,), _ = read(Chain(JOB, 0, 1, NONCE).record(Kind.COMMIT, payload=b"rows"))
    assert not payload_matches(record, payload)


def test_every_truncation_recovers_exactly_the_whole_records() -> None:
    """12,801 cases: cut at each byte, the accepted records are the whole ones, twice in a row the same."""
    data = ledger(100)
    everything, _ = read(data)
    with untraced():
        for length in range(len(data) + 1):
            whole = length // RECORD_BYTES
            found, damaged = read(data[:length])
            assert (found, damaged) == (everything[:whole], False), length
            assert read(data[: whole * RECORD_BYTES]) == (found, False), length


def test_every_truncation_of_the_end_of_a_long_ledger_recovers_exactly_the_whole_records() -> None:
    """385 cases over the last three of 10,000 records."""
    data = ledger(10_000)
    everything, _ = read(data)
    with untraced():
        for length in range(len(data) - 3 * RECORD_BYTES, len(data) + 1):
            scan = Scan(data[:length], JOB, NONCE)
            count = sum(1 for _ in scan)
            assert (count, scan.accepted, scan.damaged) == (length // RECORD_BYTES, count, False), length
    assert [record.seq for record in everything] == list(range(10_000))


def test_no_bit_flip_makes_an_altered_record_pass() -> None:
    """20,480 cases: what comes before the flip is accepted, nothing after it; a hole is told from a torn tail."""
    count = 20
    data = ledger(count)
    everything, _ = read(data)
    with untraced():
        for at in range(len(data)):
            altered = bytearray(data)
            for bit in range(8):
                altered[at] = data[at] ^ (1 << bit)
                found, damaged = read(bytes(altered))
                hit = at // RECORD_BYTES
                assert found == everything[:hit], (at, bit)
                assert damaged == (hit < count - 1), (at, bit)


def test_a_hole_is_found_however_far_the_next_good_record_is() -> None:
    """A block of zeros in the middle is damage, not the end."""
    data = ledger(50)
    for start, stop in [(0, 1), (10, 30), (20, 48)]:
        zeros = bytes(RECORD_BYTES * (stop - start))
        found, damaged = read(data[: start * RECORD_BYTES] + zeros + data[stop * RECORD_BYTES :])
        assert (len(found), damaged) == (start, True)


def test_a_tail_of_zeros_is_a_torn_tail() -> None:
    """A file that grew before its bytes arrived reads as zeros: nothing was lost that had been promised."""
    for extra in (1, 127, 128, 1000):
        found, damaged = read(ledger(5) + bytes(extra))
        assert (len(found), damaged) == (5, False)


@pytest.mark.parametrize(
    "other",
    [ledger(8, job=bytes(16)), ledger(8, nonce=bytes(16)), b"", bytes(1024), b"HBL1" * 256],
    ids=["of another job", "of another attempt", "empty", "zeros", "magic only"],
)
def test_a_ledger_of_somebody_else_has_no_records(other: bytes) -> None:
    """The job's and the attempt's identity are in every record."""
    assert read(other)[0] == []


def test_records_of_another_attempt_at_the_end_are_not_taken_for_own_ones() -> None:
    """Old bytes that a file system hands out again carry another nonce and another chain."""
    assert len(read(ledger(4) + ledger(8, nonce=bytes(16))[4 * RECORD_BYTES :])[0]) == 4
    assert len(read(ledger(4) + ledger(8)[5 * RECORD_BYTES :])[0]) == 4  # one was left out


@given(st.integers(0, 12), st.binary(max_size=400))
@settings(max_examples=300, deadline=None)
def test_bytes_after_the_last_record_add_nothing(count: int, garbage: bytes) -> None:
    """Whatever follows, the accepted records are the ones that were appended."""
    data = ledger(count)
    assert read(data + garbage)[0] == read(data)[0]


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_any_damage_leaves_a_prefix(data: st.DataObject) -> None:
    """Cut, overwritten or swapped: what is accepted is a prefix of what was appended."""
    original = ledger(12)
    everything, _ = read(original)
    altered = bytearray(original)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(altered)))
        noise = data.draw(st.binary(min_size=1, max_size=40))
        altered[at : at + len(noise)] = noise
    found, _ = read(bytes(altered))
    assert found == everything[: len(found)]


def test_a_scan_can_be_read_again() -> None:
    """The second reading says what the first one said."""
    scan = Scan(ledger(5) + secrets.token_bytes(64), JOB, NONCE)
    assert list(scan) == list(scan)
    assert scan.accepted == 5
