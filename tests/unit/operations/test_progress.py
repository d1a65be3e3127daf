"""How far a job is, read from its ledgers."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.operations.progress import ProgressReader
from tests.unit.jobdir.sealed import Size, score, seal


def test_a_short_last_mini_batch_counts_as_what_it_has(tmp_path: Path) -> None:
    """Of five items in twos the third mini-batch has one, whichever is done first."""
    job = seal(tmp_path / "j", Size(items=5, mini_batch_size=2, groups=1))
    reader = ProgressReader(job)
    assert reader.look("Running").items_done == 0
    score(job, [2])
    assert reader.look("Running").items_done == 1
    score(job, [0], epoch=2)
    assert reader.look("Running").items_done == 3
    score(job, [1], epoch=3)
    assert reader.look("Completed").items_done == 5
