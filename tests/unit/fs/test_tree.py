"""A tree made aside: whole files under their names, nothing overwritten, nothing left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.tree import NameClash, staged_tree


def test_files_get_their_names_once_and_the_same_bytes_are_no_conflict(tmp_path: Path) -> None:
    for _ in range(2):
        with staged_tree(tmp_path, "me", 0o644) as tree:
            tree.append("deep/a", [b"1", b"2"])
            tree.append("deep/a", [b"3"])
            tree.append("empty", [])
            tree.publish(tmp_path, tmp_path)
        assert tree.sizes == {"deep/a": 3, "empty": 0}
    assert (tmp_path / "deep" / "a").read_bytes() == b"123"
    assert sorted(os.listdir(tmp_path)) == ["deep", "empty"]


@pytest.mark.parametrize("theirs", [b"12", b"124", None])
def test_another_file_or_folder_of_that_name_stays(tmp_path: Path, theirs: bytes | None) -> None:
    path = tmp_path / "a"
    path.mkdir() if theirs is None else path.write_bytes(theirs)
    with staged_tree(tmp_path, "me", 0o600) as tree:
        tree.append("a", [b"123"])
        with pytest.raises(FilesystemError, match="nothing was overwritten"):
            tree.publish(tmp_path, tmp_path)
    assert path.is_dir() if theirs is None else path.read_bytes() == theirs


def test_a_file_where_a_folder_is_wanted_is_a_clash_and_other_errors_are_passed_on(tmp_path: Path) -> None:
    with staged_tree(tmp_path, "me", 0o600) as tree:
        tree.append("a", [])
        with pytest.raises(NameClash, match="a/b"):
            tree.append("a/b", [])
        with pytest.raises(OSError, match="too long"):
            tree.append("x" * 300, [])


def test_only_what_the_same_owner_left_is_removed(tmp_path: Path) -> None:
    for name in (".tmp-me-1", ".tmp-you-1", ".tmp-1"):
        (tmp_path / name).mkdir()
    with staged_tree(tmp_path, "me", 0o600):
        assert not (tmp_path / ".tmp-me-1").exists()
    assert sorted(os.listdir(tmp_path)) == [".tmp-1", ".tmp-you-1"]


def test_every_folder_above_a_file_is_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in between holds no file, and its entry is lost in a power cut all the same."""
    synced: set[str] = set()
    real = os.fsync
    with staged_tree(tmp_path, "me", 0o600) as tree:
        tree.append("a/b/c/file", [b"x"])
        monkeypatch.setattr(os, "fsync", lambda fd: synced.add(os.readlink(f"/proc/self/fd/{fd}")) or real(fd))
        tree.publish(tmp_path, tmp_path)
    assert {str(tmp_path / below) for below in (".", "a", "a/b", "a/b/c")} <= synced
