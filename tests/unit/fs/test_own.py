"""A person's own copies may be replaced."""

from __future__ import annotations

import os
from pathlib import Path

from hpcbatch.fs.own import replace_private


def test_a_download_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    """Whole, in one step; nothing is left beside it."""
    (tmp_path / "x").write_bytes(b"old")
    (tmp_path / "temp").write_bytes(b"new")
    replace_private(tmp_path / "temp", tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]
