"""Scratch folders: those of the dead are removed, those of the living stay, wherever they live."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest

from hpcbatch.worker import scratch


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """TMPDIR on a filesystem that several nodes have in common."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def renamed(folder: Path, pid: int, node: str = "") -> Path:
    """*folder* as another process, of another *node*, would have called it."""
    uid, here, _, tail = folder.name.removeprefix("hpcbatch-").rsplit("-", 3)
    return folder.rename(folder.with_name(f"hpcbatch-{uid}-{node or here}-{pid}-{tail}"))


def gone() -> int:
    """The number that a process had."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def test_what_a_dead_process_of_this_node_left_is_removed(shared: Path) -> None:
    left = renamed(scratch.open_scratch(), gone())
    (left / "code").mkdir()
    mine = scratch.open_scratch()
    assert sorted(shared.iterdir()) == [mine]
    assert mine.stat().st_mode & 0o777 == 0o700


def test_the_folder_of_a_process_on_another_node_stays(shared: Path) -> None:
    """Its number says nothing here: no process of this node has it, and it is at work."""
    theirs = renamed(scratch.open_scratch(), gone(), node="n2.4026531836")
    mine = scratch.open_scratch()
    assert sorted(shared.iterdir()) == sorted([mine, theirs])
