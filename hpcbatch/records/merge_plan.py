"""The frozen merge plan: for each mini-batch which bytes of which segment stand for it.

    "HBQ1" u32 | header length u32 | header JSON, padded to 8 | one entry for each mini-batch
    entry: segment u32 | crc u32 | offset u64 | length u64

Segment numbers index the header's `files`; `NO_SEGMENT` means that the mini-batch failed and has no rows. The header
has the CRC of the entries: an entry that lost its length would drop rows without a sound.
"""

from __future__ import annotations

import json
import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical

NO_SEGMENT = 0xFFFFFFFF
_HEAD = struct.Struct("<4sI")
_ENTRY = struct.Struct("<IIQQ")
_MAGIC = b"HBQ1"

Entry = tuple[int, int, int, int]  # segment, crc, offset, length


@dataclass(frozen=True)
class MergePlan:
    """A parsed plan."""

    files: Sequence[str]
    entries: memoryview

    def __iter__(self) -> Iterator[Entry]:
        """The entries in input order."""
        return _ENTRY.iter_unpack(self.entries)

    def entry(self, mini_batch: int) -> Entry:
        """The entry of one mini-batch."""
        segment, crc, offset, length = _ENTRY.unpack_from(self.entries, mini_batch * _ENTRY.size)
        return segment, crc, offset, length


def pack_merge_plan(
    files: Sequence[str], segments: array[int], crcs: array[int], offsets: array[int], lengths: array[int]
) -> bytes:
    """The plan's file content; the arrays have one element for each mini-batch."""
    body = bytearray(_ENTRY.size * len(segments))
    for number, entry in enumerate(zip(segments, crcs, offsets, lengths, strict=True)):
        _ENTRY.pack_into(body, number * _ENTRY.size, *entry)
    text = canonical({"files": list(files), "mini_batches": len(segments), "crc32": zlib.crc32(body)})
    text += b" " * (-(len(text) + _HEAD.size) % 8)
    return _HEAD.pack(_MAGIC, len(text)) + text + body


def parse_merge_plan(data: bytes) -> MergePlan:
    """The plan in *data*. Raises FileDamaged."""
    hint = "Remove the job's merge folder, then run: hpcbatch job resume"
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise FileDamaged("A merge plan does not begin as one.", hint=hint)
    length = _HEAD.unpack_from(data)[1]
    entries = memoryview(data)[_HEAD.size + length :]
    try:
        header = json.loads(data[_HEAD.size : _HEAD.size + length])
        files, count, crc = header["files"], header["mini_batches"], header["crc32"]
    except (ValueError, LookupError, TypeError) as error:
        raise FileDamaged(f"The header of a merge plan cannot be read: {error}", hint=hint) from error
    if len(entries) != count * _ENTRY.size or zlib.crc32(entries) != crc:
        raise FileDamaged("The entries of a merge plan are not those that were frozen.", hint=hint)
    return MergePlan(files, entries)
