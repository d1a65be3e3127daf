"""Cutting: complete, disjoint, balanced, in order; whatever is left over."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.planning.plan import as_ranges, cut, group_count, mini_batch_count, windows

leftovers = st.sets(st.integers(0, 300), max_size=120).map(lambda numbers: as_ranges(sorted(numbers)))


def numbers(ranges: list[tuple[int, int]]) -> list[int]:
    return [n for start, stop in ranges for n in range(start, stop)]


@pytest.mark.parametrize(("items", "size", "count"), [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2), (7, 1, 7)])
def test_mini_batches_are_cut_strictly_by_count(items: int, size: int, count: int) -> None:
    """Only the last one may be smaller."""
    assert mini_batch_count(items, size) == count


@pytest.mark.parametrize(
    ("mini_batches", "at_once", "wanted", "count"),
    [(100, 4, None, 4), (3, 4, None, 3), (100, 4, 10, 10), (5, 4, 10, 5), (0, 4, None, 1), (7, 0, None, 1)],
)
def test_as_many_groups_as_run_at_once_unless_wanted_otherwise(
    mini_batches: int, at_once: int, wanted: int | None, count: int
) -> None:
    """Never more than there are mini-batches, never none."""
    assert group_count(mini_batches, at_once=at_once, wanted=wanted) == count


@given(leftovers, st.integers(1, 40))
@settings(max_examples=300, deadline=None)
def test_a_cut_is_complete_disjoint_balanced_and_in_order(leftover: list[tuple[int, int]], groups: int) -> None:
    """The groups, one after the other, are exactly what was left over; their sizes differ by at most one."""
    dealt = list(cut(leftover, groups))
    assert len(dealt) == groups
    assert [n for group in dealt for n in numbers(group)] == numbers(leftover)
    sizes = [len(numbers(group)) for group in dealt]
    assert max(sizes) - min(sizes) <= 1
    assert all(start < stop for group in dealt for start, stop in group)


def test_empty_ranges_among_the_leftovers_do_no_harm() -> None:
    """They hold nothing and are passed over."""
    assert list(cut([(0, 0), (3, 5), (7, 7), (9, 10)], 2)) == [[(3, 5)], [(9, 10)]]


@given(st.lists(st.integers(0, 500), unique=True).map(sorted))
@settings(max_examples=200, deadline=None)
def test_ranges_hold_the_same_numbers_and_do_not_touch(found: list[int]) -> None:
    """As few ranges as there can be."""
    ranges = as_ranges(found)
    assert numbers(ranges) == found
    assert all(before[1] < after[0] for before, after in pairwise(ranges))


@given(st.integers(0, 5000), st.integers(1, 1500))
@settings(max_examples=200, deadline=None)
def test_windows_cover_every_group_once_within_the_limit(groups: int, limit: int) -> None:
    """Consecutive, and only the last one may be smaller."""
    found = windows(groups, limit)
    assert numbers(found) == list(range(groups))
    assert all(stop - start == limit for start, stop in found[:-1])
    assert all(0 < stop - start <= limit for start, stop in found)
