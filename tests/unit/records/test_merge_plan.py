"""The frozen merge plan: what it names is what is copied; one wrong bit in it and nothing is."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.errors import FileDamaged
from hpcbatch.records.merge_plan import NO_SEGMENT, pack_merge_plan, parse_merge_plan

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
entries = st.lists(st.tuples(u32, u32, u64, u64), max_size=40)


def pack(files: list[str], rows: list[tuple[int, int, int, int]]) -> bytes:
    columns = [array(code, [row[n] for row in rows]) for n, code in enumerate("IIQQ")]
    return pack_merge_plan(files, *columns)


PLAN = pack(["g/r0.0/00000/a.seg", "g/r0.0/00001/b.seg"], [(0, 7, 0, 64), (NO_SEGMENT, 0, 0, 0), (1, 9, 64, 1)])


@given(st.lists(st.text(max_size=30), max_size=5), entries)
@settings(max_examples=200, deadline=None)
def test_a_plan_gives_back_every_entry(files: list[str], rows: list[tuple[int, int, int, int]]) -> None:
    """In input order, and one by one."""
    plan = parse_merge_plan(pack(files, rows))
    assert (list(plan.files), list(plan)) == (files, rows)
    assert [plan.entry(n) for n in range(len(rows))] == rows


def test_every_truncation_is_damage() -> None:
    """A plan that is short would publish a short output."""
    for length in range(len(PLAN)):
        with pytest.raises(FileDamaged, match="job resume"):
            parse_merge_plan(PLAN[:length])


def test_no_bit_flip_changes_what_is_copied() -> None:
    """Every bit of a whole plan: refused, or (in the padding) the same files and entries; never an entry less."""
    whole = parse_merge_plan(PLAN)
    for at in range(len(PLAN)):
        for bit in range(8):
            altered = bytearray(PLAN)
            altered[at] ^= 1 << bit
            try:
                plan = parse_merge_plan(bytes(altered))
            except FileDamaged:
                continue
            assert list(plan) == list(whole), (at, bit)
            assert len(plan.files) == 2, (at, bit)  # a wrong name is no file: the merge looks for another result


@pytest.mark.parametrize("data", [b"", b"HBQ1", b"HBQ1\xff\xff\xff\xff", b"HBP1" + bytes(20)])
def test_what_is_no_plan_is_refused(data: bytes) -> None:
    """Too short, another kind, or a header that ends beyond the file."""
    with pytest.raises(FileDamaged):
        parse_merge_plan(data)
