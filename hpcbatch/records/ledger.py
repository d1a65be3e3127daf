"""The completion ledger's record: 128 bytes, little endian, each chained to the one before it.

    0 magic "HBL1" | 4 kind u8 | 5 flags u8 | 6 size u16 = 128 | 8 seq u64, dense from 0 | 16 job uuid | 32 group u32
    36 epoch u32 | 40 mini-batch u64 | 48 segment offset u64 | 56 length u64 | 64 rows u32 | 68 payload crc32 u32
    72 payload blake2b-128 | 88 wall_ms u64 | 96 run_ms u64 | 104 failed items u32 | 108 nonce | 124 crc32

The last field is the CRC of bytes 0 to 123 seeded with the CRC of the record before. Together with the dense sequence
and the nonce of the attempt it makes a prefix of the file either exactly what was appended or visibly not.
"""

from __future__ import annotations

import enum
import hashlib
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

RECORD_BYTES = 128
MAGIC = b"HBL1"
FLAG_FINAL = 1  # of FAIL: no more tries will be made
FLAG_TIME_LIMIT = 2  # of RELEASE: the array task's time limit is near; nobody wants the node
FLAG_MEMORY = 4  # of FAIL: killed for memory, which is not one of `max_retries`
FLAG_FAILED = 8  # of INIT
OF_INIT = (1 << 64) - 1  # the mini-batch of FILES that init() wrote
_BODY = struct.Struct("<4sBBHQ16sIIQQQII16sQQI16s")
_CRC = struct.Struct("<I")
_crc32 = zlib.crc32
_blake2b = hashlib.blake2b


class Kind(enum.IntEnum):
    """What a record says."""

    OPEN = 1  # the attempt began; its description is at the start of the segment
    START = 2  # a mini-batch is about to be run
    COMMIT = 3  # a mini-batch is done; its payload is in the segment
    FAIL = 4  # one try failed (`FLAG_FINAL`: and no more will be made); the reason is in the segment
    SYNC = 5  # everything before this record is durable
    RELEASE = 6  # a preemption or a time limit was noticed: what is unfinished does not count as a failed start
    FENCED = 7  # a later attempt exists, or the job was canceled; this one gives way
    END = 8  # the attempt finished its group
    ABORT = 9  # the attempt gave up; the reason is in the segment
    INIT = 10  # init() of one driver ended; `run_ms` from the start of its process
    FILES = 11  # files that the script wrote are in the segment: those of the COMMIT that follows, or of init()


class Record(NamedTuple):
    """One record as read back. `length` and `offset` are bytes in the attempt's segment."""

    kind: int
    flags: int
    seq: int
    mini_batch: int
    offset: int
    length: int
    rows: int
    payload_crc: int
    digest: bytes
    wall_ms: int
    run_ms: int
    failed_items: int


class Chain:
    """Makes the records of one attempt, in order."""

    def __init__(self, job: bytes, group: int, epoch: int, nonce: bytes) -> None:
        self._identity = (job, group, epoch)
        self._nonce = nonce
        self._seq = 0
        self._crc = 0

    def record(
        self,
        kind: int,
        *,
        mini_batch: int = 0,
        offset: int = 0,
        payload: bytes | memoryview = b"",
        rows: int = 0,
        wall_ms: int = 0,
        run_ms: int = 0,
        failed_items: int = 0,
        flags: int = 0,
        stored: tuple[int, int] | None = None,
    ) -> bytes:
        """The next record; its bytes must be appended before another is made. *stored* is the length and the CRC of a
        payload too large to be handed over; it has no digest.
        """
        job, group, epoch = self._identity
        digest = _blake2b(payload, digest_size=16).digest() if payload else bytes(16)
        length, payload_crc = stored or (len(payload), _crc32(payload))
        body = _BODY.pack(
            MAGIC, kind, flags, RECORD_BYTES, self._seq, job, group, epoch, mini_batch, offset, length, rows,
            payload_crc, digest, wall_ms, run_ms, failed_items, self._nonce,
        )  # fmt: skip
        self._crc = _crc32(body, self._crc)
        self._seq += 1
        return body + _CRC.pack(self._crc)


class Scan:
    """Reads a ledger's bytes: iterate for the accepted records, then look at `accepted` and `damaged`.

    Reading stops at the first record that is short, has a wrong checksum, identity or sequence; what follows is never
    believed. `damaged` is True if a good record follows the bad one: a hole, not a torn tail.
    """

    def __init__(self, data: bytes, job: bytes, nonce: bytes) -> None:
        self._data = data
        self._job = job
        self._nonce = nonce
        self.accepted = 0
        self.damaged = False

    def __iter__(self) -> Iterator[Record]:
        data, job, nonce, view = self._data, self._job, self._nonce, memoryview(self._data)
        crc = 0
        unpack, crc_of, size = _BODY.unpack_from, _CRC.unpack_from, RECORD_BYTES
        for seq, at in enumerate(range(0, len(data) - size + 1, size)):
            (magic, kind, flags, length, number, uuid, _, _, mini_batch, offset, payload, rows, payload_crc, digest,
             wall_ms, run_ms, failed, own) = unpack(data, at)  # fmt: skip
            crc = _crc32(view[at : at + 124], crc)
            good = magic == MAGIC and length == size and number == seq and uuid == job and own == nonce
            if not good or crc_of(data, at + 124)[0] != crc:
                self.damaged = self._hole_at(at, crc)
                return
            self.accepted = seq + 1
            yield Record(
                kind, flags, number, mini_batch, offset, payload, rows, payload_crc, digest, wall_ms, run_ms, failed
            )

    def _hole_at(self, at: int, computed: int) -> bool:
        """Whether a record after the bad one at *at* is whole: its CRC fits the CRC stored just before it, or
        *computed*, the one that the bad record should have had if only its checksum is wrong.
        """
        for later in range(at + RECORD_BYTES, len(self._data) - RECORD_BYTES + 1, RECORD_BYTES):
            seeds = {_CRC.unpack_from(self._data, later - 4)[0], computed}
            body, stored = self._data[later : later + 124], _CRC.unpack_from(self._data, later + 124)[0]
            if body[:4] == MAGIC and any(_crc32(body, seed) == stored for seed in seeds):
                return True
        return False


def payload_matches(record: Record, payload: bytes | memoryview) -> bool:
    """Whether *payload* is what was committed."""
    return len(payload) == record.length and _crc32(payload) == record.payload_crc
