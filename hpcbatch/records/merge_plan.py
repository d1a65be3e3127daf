"""The frozen merge plan: for each mini-batch which bytes of which segment stand for it.

    "HBQ1" u32 | header length u32 | header JSON, padded to 8 | mini-batches x (segment u32, crc u32, offset u64, length u64)

Segment numbers index the header's `files`; `NO_SEGMENT` means that the mini-batch failed and has no rows.
"""

from __future__ import annotations

import json
import struct
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


def pack_merge_plan(
    files: Sequence[str], segments: array[int], crcs: array[int], offsets: array[int], lengths: array[int]
) -> bytes:
    """The plan's file content; the arrays have one element for each mini-batch."""
    text = canonical({"files": list(files), "mini_batches": len(segments)})
    text += b" " * (-(len(text) + _HEAD.size) % 8)
    body = bytearray(_ENTRY.size * len(segments))
    for number, entry in enumerate(zip(segments, crcs, offsets, lengths, strict=True)):
        _ENTRY.pack_into(body, number * _ENTRY.size, *entry)
    return _HEAD.pack(_MAGIC, len(text)) + text + body


def parse_merge_plan(data: bytes) -> MergePlan:
    """The plan in *data*. Raises FileDamaged."""
    hint = "Remove the job's merge folder, then run: hpcbatch job resume"
    if len(data) < _HEAD.size or data[:4] != _MAGIC:
        raise FileDamaged("A merge plan does not begin as one.", hint=hint)
    length = _HEAD.unpack_from(data)[1]
    header = json.loads(data[_HEAD.size : _HEAD.size + length])
    entries = memoryview(data)[_HEAD.size + length :]
    if len(entries) != header["mini_batches"] * _ENTRY.size:
        raise FileDamaged("A merge plan is shorter than its header says.", hint=hint)
    return MergePlan(header["files"], entries)
