"""Numbers in sentences: one is one."""

from __future__ import annotations

from hpcbatch.words import counted, mini_batches


def test_one_is_singular_and_every_other_number_plural() -> None:
    assert [counted(n, "group") for n in (0, 1, 2)] == ["0 groups", "1 group", "2 groups"]
    assert [counted(n, "step is", "steps are") for n in (1, 2)] == ["1 step is", "2 steps are"]
    assert [mini_batches(n) for n in (1, 2)] == ["1 mini-batch", "2 mini-batches"]
    assert [mini_batches(n, "has", "have") for n in (1, 2)] == ["1 mini-batch has", "2 mini-batches have"]
