"""A copy for the user: whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.operations.downloads import copy_out

MIB = 1 << 20


def test_a_download_that_the_disk_cuts_short_is_none(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    """The older copy stays; the last write of a copy may take less than it was given."""
    source, target = tmp_path / "source", tmp_path / "here" / "target"
    source.write_bytes(b"x" * (MIB + MIB // 2))
    target.parent.mkdir()
    target.write_bytes(b"old")
    file_limit(MIB + MIB // 4)
    with pytest.raises(FilesystemError, match="too large"):
        copy_out(source, target)
    assert target.read_bytes() == b"old"
    assert os.listdir(target.parent) == ["target"]
    file_limit(2 * MIB)
    assert copy_out(source, target) == str(target)
    assert target.read_bytes() == source.read_bytes()
