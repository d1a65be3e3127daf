"""Manifest and plan: packed and parsed they say the same; damaged they say so."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.errors import FileDamaged
from hpcbatch.planning.plan import cut
from hpcbatch.records.plan import pack_manifest, pack_plan, parse_manifest, parse_plan

names = st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name), min_size=1, max_size=60)
roots = st.binary(max_size=20).filter(lambda name: b"\0" not in name).map(os.fsdecode)
ranges = st.tuples(st.integers(0, 2**63), st.integers(0, 2**63))
MANIFEST = pack_manifest([b"a", b"b", b"c"], root="/in/", mini_batch_size=2)
PLAN = pack_plan(3, [[(0, 4), (7, 9)], [(4, 7)]])

BUDGET = """
import json, time
from hpcbatch.planning.plan import cut, mini_batch_count
from hpcbatch.records.plan import pack_manifest, pack_plan, parse_manifest, parse_plan
begin = time.monotonic()
names = [b"folder-%04d/item-%07d.csv" % (n % 1000, n) for n in range(1_000_000)]
manifest = parse_manifest(pack_manifest(names, root="/data/", mini_batch_size=1))
plan = parse_plan(pack_plan(0, cut([(0, manifest.mini_batches)], 1000)))
counts = (manifest.mini_batches, sum(1 for g in range(plan.groups) for _ in plan.mini_batches(g)))
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"counts": counts, "last": manifest.paths(999_999), "s": time.monotonic() - begin, "peak_kb": peak}))
"""


@given(names, roots, st.integers(1, 70))
@settings(max_examples=300, deadline=None)
def test_a_manifest_gives_back_every_item_in_order(items: list[bytes], root: str, size: int) -> None:
    """Names and roots are bytes to us: they need not be UTF-8."""
    manifest = parse_manifest(pack_manifest(items, root=root, mini_batch_size=size))
    assert (manifest.root, manifest.items, manifest.mini_batch_size) == (root, len(items), size)
    parts = [manifest.payload(n).split(b"\0") for n in range(manifest.mini_batches)]
    assert [name for part in parts for name in part] == items
    assert [len(part) for part in parts] == [manifest.item_count(n) for n in range(manifest.mini_batches)]
    assert all(len(part) == size for part in parts[:-1])
    assert [path for n in range(manifest.mini_batches) for path in manifest.paths(n)] == [
        root + os.fsdecode(name) for name in items
    ]


def test_mini_batches_may_have_different_numbers_of_items() -> None:
    """Their stamps are cut alike."""
    items, stamps = [b"a", b"", b"c", b"d"], [b"1 x", b"2 y", b"3 z", b"4 "]
    raw = pack_manifest(items, root="/in/", mini_batch_size=0, stamps=stamps, counts=[1, 2, 1])
    manifest = parse_manifest(raw)
    assert [manifest.item_count(n) for n in range(manifest.mini_batches)] == [1, 2, 1]
    assert [manifest.paths(n) for n in range(3)] == [["/in/a"], ["/in/", "/in/c"], ["/in/d"]]
    assert [manifest.size_bytes(n) for n in range(3)] == [1, 5, 4]
    assert parse_manifest(pack_manifest([], root="", mini_batch_size=0)).mini_batches == 0


def test_a_manifest_of_nothing_has_no_mini_batch() -> None:
    """An empty list is packed like any other."""
    manifest = parse_manifest(pack_manifest([], root="/in/", mini_batch_size=3))
    assert (manifest.items, manifest.mini_batches) == (0, 0)


@given(st.lists(st.lists(ranges, max_size=5), max_size=20), st.integers(0, 1000))
@settings(max_examples=200, deadline=None)
def test_a_plan_gives_back_every_group(groups: list[list[tuple[int, int]]], round_number: int) -> None:
    """Groups of any number of ranges, empty ones too."""
    plan = parse_plan(pack_plan(round_number, groups))
    assert (plan.round, plan.groups) == (round_number, len(groups))
    assert [plan.group(n) for n in range(plan.groups)] == groups


def test_the_mini_batches_of_a_group_come_in_order() -> None:
    """Range after range."""
    plan = parse_plan(PLAN)
    assert [list(plan.mini_batches(n)) for n in range(2)] == [[0, 1, 2, 3, 7, 8], [4, 5, 6]]


@pytest.mark.parametrize(("parse", "packed"), [(parse_manifest, MANIFEST), (parse_plan, PLAN)])
def test_every_truncation_of_header_and_index_is_damage(parse: Any, packed: bytes) -> None:
    """Never a shorter plan; the manifest's own digest tells whether the names at its end are whole."""
    indexed = len(packed) - (len(b"a\0b" + b"c") if packed is MANIFEST else 0)
    for length in range(indexed):
        with pytest.raises(FileDamaged, match="job directory is damaged"):
            parse(packed[:length])


@pytest.mark.parametrize("parse", [parse_manifest, parse_plan])
@pytest.mark.parametrize(
    "header", [b"{}", b"[]", b"null", b"{\xff", b'{"round":"x","groups":"y","ranges":-1}',
               b'{"round":0,"groups":-5,"ranges":1}', b'{"root":1,"items":0,"mini_batch_size":1,"mini_batches":0}',
               b'{"root":"\xe2\x82\xac","items":0,"mini_batch_size":1,"mini_batches":0}'],
)  # fmt: skip
def test_a_header_that_makes_no_sense_is_damage(parse: Any, header: bytes) -> None:
    """Whatever is written there, the reader is told in one sentence."""
    magic = MANIFEST[:4] if parse is parse_manifest else PLAN[:4]
    with pytest.raises(FileDamaged):
        parse(magic + struct.pack("<I", len(header)) + header + bytes(64))


def test_one_kind_of_file_is_not_read_as_the_other() -> None:
    """The first four bytes tell."""
    with pytest.raises(FileDamaged, match="HBP1"):
        parse_plan(MANIFEST)


def test_a_mapped_part_is_served_without_copying_the_whole() -> None:
    """The blob is a view of what was given."""
    manifest = parse_manifest(memoryview(MANIFEST))
    assert manifest.blob.obj is MANIFEST


def test_a_million_items_are_planned_within_ten_seconds_and_500_mb() -> None:
    """In a process of its own, from the list of names to every group's mini-batches."""
    done = subprocess.run([sys.executable, "-c", BUDGET], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["counts"] == [1_000_000, 1_000_000]
    assert found["last"] == ["/data/folder-0999/item-0999999.csv"]
    assert found["s"] < 10
    assert found["peak_kb"] < 500_000


def test_packing_the_same_plan_twice_gives_the_same_bytes() -> None:
    """Two merges that plan the same repair round write the same file."""
    assert pack_plan(1, cut([(0, 9), (12, 20)], 3)) == pack_plan(1, cut([(0, 9), (12, 20)], 3))
