"""Real obstacles: a disk that is full, a folder that is not ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.fs.nobody import as_nobody, reachable_folder


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 64 KiB."""
    if os.getuid() != 0:
        pytest.skip("only root may mount")
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"mount is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def foreign() -> Iterator[Path]:
    """A folder that this user may enter and not write; root is nobody meanwhile."""
    with reachable_folder() as folder:
        foreign = folder / "foreign"
        foreign.mkdir()
        foreign.chmod(0o555)
        with as_nobody():
            yield foreign
        foreign.chmod(0o755)
