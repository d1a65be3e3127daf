"""Cut mini-batches into groups, and leftovers into the groups of a repair round."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence

from hpcbatch.records.plan import Range


def mini_batch_count(items: int, mini_batch_size: int) -> int:
    """How many mini-batches *items* make; Azure ML cuts strictly by count."""
    return -(-items // mini_batch_size)


def counts_by_size(sizes: Iterable[int], most: int) -> list[int]:
    """How many items each mini-batch has where it may hold *most* bytes; an item that is larger is one of its own."""
    counts: list[int] = []
    held = 0
    for size in sizes:
        if counts and held + size <= most:
            counts[-1] += 1
            held += size
        else:
            counts.append(1)
            held = size
    return counts


def by_partition(names: Sequence[bytes], keys: Sequence[str]) -> list[list[int]]:
    """The items of each partition, in the order of their first items: those whose folders `KEY=VALUE` have the same
    values for all *keys*. Raises LookupError with the name of an item that lacks one.
    """
    wanted = [os.fsencode(key) for key in keys]
    found: dict[tuple[bytes, ...], list[int]] = {}
    for number, name in enumerate(names):
        values = dict(part.split(b"=", 1) for part in name.split(b"/")[:-1] if b"=" in part)
        if any(key not in values for key in wanted):
            raise LookupError(os.fsdecode(name))
        found.setdefault(tuple(values[key] for key in wanted), []).append(number)
    return list(found.values())


def group_count(mini_batches: int, *, at_once: int, wanted: int | None = None) -> int:
    """How many groups to cut: *wanted*, or as many as run at once; never more than there are mini-batches.

    Each group pays Slurm's start and the model's `init()`, so more than run at once would cost without helping.
    """
    return max(1, min(mini_batches, at_once if wanted is None else wanted))


def cut(leftover: Sequence[Range], groups: int) -> Iterator[list[Range]]:
    """Deal the mini-batches of *leftover* out to *groups* groups of equal size (to one), each in order."""
    total = sum(stop - start for start, stop in leftover)
    queue = iter(leftover)
    start, stop = next(queue, (0, 0))
    for group in range(groups):
        need = total // groups + (group < total % groups)
        ranges: list[Range] = []
        while need:
            if start == stop:
                start, stop = next(queue)
                continue
            take = min(need, stop - start)
            ranges.append((start, start + take))
            start += take
            need -= take
        yield ranges


def windows(groups: int, limit: int) -> list[Range]:
    """The arrays of one round: consecutive groups, at most *limit* each.

    *limit* is `min(MaxArraySize, max_array_tasks)`; an index must be below MaxArraySize, so a window of exactly that
    many tasks, numbered from 0, is the largest that Slurm takes (slurm.conf(5)).
    """
    return [(start, min(groups, start + limit)) for start in range(0, groups, limit)]
