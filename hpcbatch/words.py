"""Numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str = "") -> str:
    """`1 group`, `2 groups`, `0 groups`. *many* where it is not *one* with an `s`."""
    return f"{count} {one if count == 1 else many or f'{one}s'}"


def mini_batches(count: int, has: str = "", have: str = "") -> str:
    """`1 mini-batch`, `2 mini-batches`, followed by the verb that fits."""
    return counted(count, f"mini-batch {has}".rstrip(), f"mini-batches {have}".rstrip())
