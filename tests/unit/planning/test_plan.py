"""Cutting: complete, disjoint, balanced, in order; whatever is left over."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcbatch.planning.plan import by_partition, counts_by_size, cut, group_count, mini_batch_count, windows
from hpcbatch.records.plan import Range


def as_ranges(numbers: Iterable[int]) -> list[Range]:
    """Ascending *numbers* as ranges [start, stop)."""
    ranges: list[Range] = []
    for number in numbers:
        if ranges and ranges[-1][1] == number:
            ranges[-1] = (ranges[-1][0], number + 1)
        else:
            ranges.append((number, number + 1))
    return ranges


leftovers = st.sets(st.integers(0, 300), max_size=120).map(lambda numbers: as_ranges(sorted(numbers)))


def numbers(ranges: list[tuple[int, int]]) -> list[int]:
    return [n for start, stop in ranges for n in range(start, stop)]


@pytest.mark.parametrize(("items", "size", "count"), [(0, 3, 0), (1, 3, 1), (3, 3, 1), (4, 3, 2), (7, 1, 7)])
def test_mini_batches_are_cut_strictly_by_count(items: int, size: int, count: int) -> None:
    """Only the last one may be smaller."""
    assert mini_batch_count(items, size) == count


@given(st.lists(st.integers(0, 50), max_size=60), st.integers(1, 100))
def test_mini_batches_by_size_hold_as_much_as_they_may_and_never_nothing(sizes: list[int], most: int) -> None:
    """An item that is too large is alone; two that follow each other would not have fitted into one."""
    counts = counts_by_size(sizes, most)
    assert sum(counts) == len(sizes)
    assert all(count >= 1 for count in counts)
    ends = [sum(counts[: number + 1]) for number in range(len(counts))]
    parts = [sizes[end - count : end] for end, count in zip(ends, counts, strict=True)]
    assert all(sum(part) <= most or len(part) == 1 for part in parts)
    assert all(sum(part) + after[0] > most for part, after in pairwise(parts))


def test_items_of_one_partition_are_one_mini_batch_wherever_they_stand() -> None:
    """The keys may be fewer than the folders have, and in another order."""
    names = [b"y=1/m=1/a", b"y=1/m=2/a", b"y=1/m=2/b", b"y=2/m=1/a", b"other/y=1/m=1/c=d"]
    assert by_partition(names, ["m", "y"]) == [[0, 4], [1, 2], [3]]
    assert by_partition(names, ["m"]) == [[0, 3, 4], [1, 2]]
    with pytest.raises(LookupError, match="y=2/x=1/a"):
        by_partition([*names, b"y=2/x=1/a"], ["y", "m"])
    assert by_partition([], ["m"]) == []


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
