"""Read the ledgers of a job back: which attempts exist, what each completed."""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.fs import scan
from hpcbatch.jobdir.layout import LEDGER, SEGMENT, Layout, attempt_stem, parse_attempt, parse_bucket
from hpcbatch.records.ledger import RECORD_BYTES, Kind, Record, Scan, payload_matches

MAX_LEDGER_BYTES = 16 << 30
_KIND_AT = 4
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, order=True)
class AttemptFiles:
    """One attempt's pair as found by listing; ordered as the merge prefers them."""

    round: int
    epoch: int
    nonce: str
    group: int
    folder: Path

    @property
    def segment(self) -> Path:
        """The payloads."""
        return self.folder / f"{self._stem}{SEGMENT}"

    @property
    def ledger(self) -> Path:
        """The records."""
        return self.folder / f"{self._stem}{LEDGER}"

    @property
    def _stem(self) -> str:
        return attempt_stem(self.epoch, self.nonce)

    def scan(self, job: bytes) -> Scan:
        """The accepted records, by a fresh open of the ledger."""
        try:
            data = scan.read_document(self.ledger, MAX_LEDGER_BYTES)
        except FileNotFoundError:  # listed, then removed by its owner's housekeeping
            data = b""
        return Scan(data, job, bytes.fromhex(self.nonce))

    def payload(self, record: Record) -> bytes | None:
        """The bytes that *record* points to; None if the segment does not hold them unharmed."""
        with contextlib.closing(Payloads(self.segment)) as payloads:
            return payloads.read(record)

    def reason(self, record: Record) -> dict[str, Any]:
        """The JSON that a FAIL, ABORT or OPEN record points to; {} if it cannot be read."""
        payload = self.payload(record)
        try:
            found = json.loads(payload) if payload else {}
        except ValueError:
            found = {}
        return found if isinstance(found, dict) else {}


def attempts_in(folder: Path, round_number: int, group: int) -> list[AttemptFiles]:
    """The attempts of one group by listing its folder, in the merge's order of preference."""
    parsed = [found for name in scan.names(folder) if (found := parse_attempt(name))]
    return sorted(AttemptFiles(round_number, epoch, nonce, group, folder) for epoch, nonce in parsed)


def all_attempts(layout: Layout) -> Iterator[AttemptFiles]:
    """Every attempt of the job, group by group; names that are not ours (`.snapshot`, `.DS_Store`) are passed over."""
    for bucket in scan.names(layout.groups):
        round_number = parse_bucket(bucket)
        if round_number is None:
            continue
        for group in scan.names(layout.groups / bucket):
            if group.isdecimal():
                yield from attempts_in(layout.groups / bucket / group, round_number, int(group))


def has_ended(attempt: AttemptFiles) -> bool:
    """Whether the ledger seems to end with END: a cheap look at its tail, for decisions that may be wrong."""
    try:
        with open(attempt.ledger, "rb") as file:
            file.seek(-2 * RECORD_BYTES, os.SEEK_END)
            tail = file.read()
    except OSError:
        return False
    return Kind.END in (tail[_KIND_AT], tail[RECORD_BYTES + _KIND_AT]) if len(tail) == 2 * RECORD_BYTES else False


class Payloads:
    """The payloads of one segment through one open file; a segment that is not there has none."""

    def __init__(self, segment: Path) -> None:
        try:
            self._fd = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            self._fd = -1

    def read(self, record: Record) -> bytes | None:
        """The record's bytes, or None if they are missing or do not match the record's checksum."""
        if self._fd < 0:
            return None
        payload = os.pread(self._fd, record.length, record.offset)
        while len(payload) < record.length:
            more = os.pread(self._fd, record.length - len(payload), record.offset + len(payload))
            if not more:
                return None
            payload += more
        return payload if payload_matches(record, payload) else None

    def intact(self, record: Record) -> bool:
        """Whether the record's bytes, of any size, are there and match its checksum."""
        crc = done = 0
        while self._fd >= 0 and done < record.length:
            block = os.pread(self._fd, min(_BLOCK_BYTES, record.length - done), record.offset + done)
            if not block:
                break
            crc = zlib.crc32(block, crc)
            done += len(block)
        return done == record.length and crc == record.payload_crc

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
