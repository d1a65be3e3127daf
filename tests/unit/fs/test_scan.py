"""Reading what others publish: listings first, plain files only."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbatch.errors import FileDamaged
from hpcbatch.fs.publish import temp_name
from hpcbatch.fs.scan import names, read_document


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_names_are_sorted_and_without_temporary_ones(tmp_path: Path) -> None:
    """What a killed writer left is not there for readers."""
    for name in ("b", "a", temp_name(), ".hidden"):
        (tmp_path / name).touch()
    assert names(tmp_path) == [".hidden", "a", "b"]


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    """It may be a moment later."""
    assert names(tmp_path / "absent") == []


@pytest.mark.parametrize("size", [0, 1, (1 << 20) + 1, 5 << 20])
def test_a_document_is_read_whole(tmp_path: Path, size: int) -> None:
    """Up to the limit, to the byte."""
    (tmp_path / "x").write_bytes(b"a" * size)
    assert read_document(tmp_path / "x", size) == b"a" * size


def test_a_document_that_is_too_large_is_refused(tmp_path: Path) -> None:
    """A sparse file of 1 TiB does not fill the memory."""
    with open(tmp_path / "x", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(FileDamaged, match="larger than 1048576 bytes"):
        read_document(tmp_path / "x", 1 << 20)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # the name of a socket is at most 107 bytes long
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a fifo": os.mkfifo,
    "a folder": os.mkdir,
    "a link to a file": lambda path: path.symlink_to("/etc/hostname"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a socket": _socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE.keys())
def test_only_plain_files_are_documents(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Nobody waits for a fifo, follows a link out of the folder or keeps a file open."""
    make(tmp_path / "x")
    before = open_files()
    with pytest.raises(FileDamaged, match="not a plain file"):
        read_document(tmp_path / "x")
    assert open_files() == before


def test_a_document_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    """Callers look for FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        read_document(tmp_path / "x")
