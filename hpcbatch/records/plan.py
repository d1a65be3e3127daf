"""What a job works on: the manifest (items cut into mini-batches) and the plan of a round (mini-batches cut into
groups).

Both are flat binary so that a worker maps the file and touches only its own part: memory does not grow with the job.

    manifest: "HBM1" u32 | header length u32 | header JSON, padded to 8 | offsets (mini-batches + 1) u64 | blob
    plan:     "HBP1" u32 | header length u32 | header JSON, padded to 8 | first range of each group (groups + 1) u64
              | ranges (start u64, stop u64)

The blob holds each item's path below the input folder; items of one mini-batch are separated by NUL, which no path has.
A `mini_batch_size` of 0 in the header says that mini-batches have different numbers of items.
Where the items are fetched from another place, the header has `names_bytes`, the length of that blob, and a second
table of offsets and a second blob follow: for each item its stamp, `SIZE TAG`, each part empty where listing did not
tell it.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, repeat
from typing import Any

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical

_HEAD = struct.Struct("<4sI")
_MANIFEST, _PLAN = b"HBM1", b"HBP1"
_HINT = "The job directory is damaged; invoke the endpoint again."

Range = tuple[int, int]


@dataclass(frozen=True)
class Manifest:
    """The frozen list of items of a job. Slices of *blob* are served without copying the rest."""

    root: str  # what every item's path is joined to, with its final separator; "" if the items are whole
    items: int
    mini_batch_size: int
    offsets: Sequence[int]
    blob: memoryview
    stamp_offsets: Sequence[int] = ()
    stamp_blob: memoryview | None = None

    @property
    def mini_batches(self) -> int:
        """How many mini-batches there are."""
        return len(self.offsets) - 1

    def payload(self, mini_batch: int) -> bytes:
        """The paths of one mini-batch as the driver takes them: NUL-separated, below `root`."""
        return bytes(self.blob[self.offsets[mini_batch] : self.offsets[mini_batch + 1]])

    def paths(self, mini_batch: int) -> list[str]:
        """The absolute paths of one mini-batch."""
        return [self.root + name for name in os.fsdecode(self.payload(mini_batch)).split("\0")]

    def stamps(self, mini_batch: int) -> list[str]:
        """`SIZE TAG` of each item of one mini-batch as it was when the job was planned; [] for items that are read in
        place.
        """
        if self.stamp_blob is None:
            return []
        part = self.stamp_blob[self.stamp_offsets[mini_batch] : self.stamp_offsets[mini_batch + 1]]
        return str(part, "utf-8").split("\0")

    def size_bytes(self, mini_batch: int) -> int:
        """How much is to be fetched for one mini-batch, as far as it is known."""
        return sum(int(stamp.partition(" ")[0] or 0) for stamp in self.stamps(mini_batch))

    def item_count(self, mini_batch: int) -> int:
        """How many items the mini-batch has: `mini_batch_size`, fewer in the last one; or what was planned for it."""
        if not self.mini_batch_size:
            return self.payload(mini_batch).count(b"\0") + 1
        return min(self.mini_batch_size, self.items - mini_batch * self.mini_batch_size)


@dataclass(frozen=True)
class Plan:
    """The mini-batches of each group of one round, as ranges [start, stop)."""

    round: int
    firsts: Sequence[int]
    ranges: Sequence[int]

    @property
    def groups(self) -> int:
        """How many groups, that is array tasks, the round has."""
        return len(self.firsts) - 1

    def group(self, number: int) -> list[Range]:
        """The ranges of mini-batches of one group, in order."""
        return [
            (self.ranges[2 * i], self.ranges[2 * i + 1]) for i in range(self.firsts[number], self.firsts[number + 1])
        ]

    def mini_batches(self, number: int) -> Iterator[int]:
        """The mini-batches of one group, in order."""
        for start, stop in self.group(number):
            yield from range(start, stop)


def pack_manifest(
    names: Sequence[bytes],
    *,
    root: str,
    mini_batch_size: int,
    stamps: Sequence[bytes] | None = None,
    counts: Sequence[int] = (),
) -> bytes:
    """The manifest file for *names* (paths below *root*, in input order), with a stamp for each where they are
    fetched. With a *mini_batch_size* of 0, *counts* says how many items each mini-batch has, at least one.
    """
    offsets, parts = _joined(names, mini_batch_size, counts)
    header = {"root": os.fsencode(root).decode("latin-1"), "items": len(names), "mini_batch_size": mini_batch_size,
              "mini_batches": len(offsets) - 1}  # fmt: skip
    if stamps is None:
        return b"".join([_head(_MANIFEST, header), _little(offsets), *parts])
    stamp_offsets, stamp_parts = _joined(stamps, mini_batch_size, counts)
    header["names_bytes"] = offsets[-1]
    return b"".join(
        [_head(_MANIFEST, header), _little(offsets), *parts, _little(stamp_offsets), *stamp_parts]
    )  # fmt: skip


def _joined(values: Sequence[bytes], mini_batch_size: int, counts: Sequence[int]) -> tuple[array[int], list[bytes]]:
    offsets, parts, at = array("Q", [0]), [], 0
    firsts = range(0, len(values), mini_batch_size) if mini_batch_size else accumulate(counts, initial=0)
    for first, count in zip(firsts, repeat(mini_batch_size) if mini_batch_size else counts, strict=False):
        part = b"\0".join(values[first : first + count])
        at += len(part)
        offsets.append(at)
        parts.append(part)
    return offsets, parts


def parse_manifest(data: bytes | memoryview) -> Manifest:
    """The manifest in *data*, which may be a mapped file. Raises FileDamaged."""
    view = memoryview(data)
    with _readable():
        header, at = _parse_head(_MANIFEST, data)
        count = header["mini_batches"] + 1
        blob = view[at + 8 * count :]
        stamp_offsets: Sequence[int] = ()
        stamp_blob = None
        if "names_bytes" in header:
            end = at + 8 * count + header["names_bytes"]
            stamp_offsets, stamp_blob = _u64(view, end, count), view[end + 8 * count :]
            blob = blob[: header["names_bytes"]]
        return Manifest(
            root=os.fsdecode(header["root"].encode("latin-1")),
            items=header["items"],
            mini_batch_size=header["mini_batch_size"],
            offsets=_u64(view, at, count),
            blob=blob,
            stamp_offsets=stamp_offsets,
            stamp_blob=stamp_blob,
        )


def pack_plan(round_number: int, groups: Iterable[Sequence[Range]]) -> bytes:
    """The plan file of one round."""
    firsts, ranges = array("Q", [0]), array("Q")
    for group in groups:
        for start, stop in group:
            ranges.append(start)
            ranges.append(stop)
        firsts.append(len(ranges) // 2)
    header = {"round": round_number, "groups": len(firsts) - 1, "ranges": len(ranges) // 2}
    return _head(_PLAN, header) + _little(firsts) + _little(ranges)


def parse_plan(data: bytes | memoryview) -> Plan:
    """The plan in *data*. Raises FileDamaged."""
    view = memoryview(data)
    with _readable():
        header, at = _parse_head(_PLAN, data)
        firsts = _u64(view, at, header["groups"] + 1)
        return Plan(header["round"], firsts, _u64(view, at + 8 * len(firsts), 2 * header["ranges"]))


def _head(magic: bytes, header: dict[str, Any]) -> bytes:
    text = canonical(header)
    text += b" " * (-(len(text) + _HEAD.size) % 8)
    return _HEAD.pack(magic, len(text)) + text


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FileDamaged(f"The file's header cannot be read: {error}", hint=_HINT) from error


def _parse_head(magic: bytes, data: bytes | memoryview) -> tuple[dict[str, Any], int]:
    if len(data) < _HEAD.size or bytes(data[:4]) != magic:
        raise FileDamaged(f"Expected a file that begins with {magic!r}.", hint=_HINT)
    length = _HEAD.unpack_from(data)[1]
    return json.loads(bytes(data[_HEAD.size : _HEAD.size + length])), _HEAD.size + length


def _little(values: array[int]) -> bytes:
    if sys.byteorder == "big":  # pragma: no cover
        values = array("Q", values)
        values.byteswap()
    return values.tobytes()


def _u64(view: memoryview, at: int, count: int) -> Sequence[int]:
    part = view[at : at + 8 * count]
    if count < 0 or len(part) != 8 * count:
        raise FileDamaged("The file is shorter than its header says.", hint=_HINT)
    if sys.byteorder == "little":
        return part.cast("Q")
    values = array("Q", bytes(part))  # pragma: no cover
    values.byteswap()  # pragma: no cover
    return values  # pragma: no cover
