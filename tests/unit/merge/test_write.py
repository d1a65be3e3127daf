"""The copy: input order, every checksum, one name given once."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import zlib
from array import array
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.publish import is_temp
from hpcbatch.merge import write
from hpcbatch.merge.write import BLOCK_BYTES, DamagedPayload, write_output
from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan, pack_merge_plan, parse_merge_plan
from tests.unit.jobdir.sealed import flip

Piece = tuple[str, bytes] | None  # the segment that holds a payload; None: the mini-batch has no rows


def lay_out(root: Path, pieces: list[Piece]) -> MergePlan:
    """Segments that hold *pieces* in that order, and the plan that names them."""
    files = sorted({piece[0] for piece in pieces if piece})
    contents = {name: bytearray() for name in files}
    columns = [array(code) for code in "IIQQ"]
    for piece in pieces:
        if piece is None:
            entry = (NO_SEGMENT, 0, 0, 0)
        else:
            name, payload = piece
            entry = (files.index(name), zlib.crc32(payload), len(contents[name]), len(payload))
            contents[name] += payload
        for column, value in zip(columns, entry, strict=True):
            column.append(value)
    for name, content in contents.items():
        (root / name).write_bytes(content)
    return parse_merge_plan(pack_merge_plan(files, *columns))


def joined(pieces: list[Piece]) -> bytes:
    return b"".join(piece[1] for piece in pieces if piece)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "predictions.csv"


SHAPES: dict[str, list[Piece]] = {
    "nothing": [],
    "only failures": [None, None],
    "one": [("a", b"row\n")],
    "empty payloads": [("a", b""), ("a", b"x"), ("b", b""), ("a", b"y"), ("b", b"z")],
    "alternating segments": [("ab"[n % 2], b"%d\n" % n) for n in range(99)],
    "failures in between": [None if n % 3 else ("a", b"%d\n" % n) for n in range(99)],
    "larger than a block": [("a", b"s" * 10), ("a", b"L" * (BLOCK_BYTES + 5)), ("a", b"t" * 10), ("b", b"u")],
    "many blocks": [("a", bytes([n]) * (BLOCK_BYTES // 3)) for n in range(10)],
}


@pytest.mark.parametrize("pieces", SHAPES.values(), ids=SHAPES.keys())
def test_the_output_is_the_payloads_in_input_order(tmp_path: Path, target: Path, pieces: list[Piece]) -> None:
    """Whatever their sizes and wherever they lie."""
    written = write_output(tmp_path, lay_out(tmp_path, pieces), target)
    content = target.read_bytes()
    assert content == joined(pieces)
    assert (written.sha256, written.size_bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(target.parent) == [target.name]


def test_a_long_output_is_handed_to_the_disk_as_it_grows(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telling the kernel to begin with its writing changes no byte."""
    monkeypatch.setattr(write, "_FLUSH_BYTES", 2 * BLOCK_BYTES)
    pieces: list[Piece] = [("a", bytes([n]) * BLOCK_BYTES) for n in range(7)]
    write_output(tmp_path, lay_out(tmp_path, pieces), target)
    assert target.read_bytes() == joined(pieces)


def test_a_large_output_is_not_hashed_as_a_whole(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every payload's own checksum is checked all the same."""
    monkeypatch.setattr(write, "HASH_UP_TO_BYTES", 10)
    pieces: list[Piece] = [("a", b"0123456789"), ("b", b"x")]
    assert write_output(tmp_path, lay_out(tmp_path, pieces), target).sha256 is None
    assert target.read_bytes() == joined(pieces)


def test_no_bit_of_a_segment_can_turn_over_unnoticed(tmp_path: Path, target: Path) -> None:
    """1,000 random flips: nothing is published, and the error names the payload that was hit."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    pieces: list[Piece] = [("ab"[n % 3 == 0], dice.randbytes(dice.randrange(1, 60))) for n in range(40)]
    plan = lay_out(tmp_path, pieces)
    for number in range(1000):
        name = dice.choice("ab")
        at, bit = dice.randrange((tmp_path / name).stat().st_size), dice.randrange(8)
        flip(tmp_path / name, at, bit)
        with pytest.raises(DamagedPayload) as caught:
            _ = write_output(tmp_path, plan, target) if number % 10 == 0 else list(write._blocks(tmp_path, plan))
        entry = next(e for e in plan if plan.files[e[0]] == name and e[2] <= at < e[2] + e[3])
        assert (caught.value.segment, caught.value.offset) == (name, entry[2]), seed
        flip(tmp_path / name, at, bit)
    assert os.listdir(target.parent) == []
    write_output(tmp_path, plan, target)


@pytest.mark.parametrize("sizes", [[10, 20, 30], [BLOCK_BYTES + 9], [10, BLOCK_BYTES + 9, 10]])
def test_a_segment_that_is_short_is_damage(tmp_path: Path, target: Path, sizes: list[int]) -> None:
    """Cut anywhere: at its end, inside a large payload, at nothing."""
    plan = lay_out(tmp_path, [("a", bytes([n]) * size) for n, size in enumerate(sizes)])
    for length in (sum(sizes) - 1, sum(sizes) // 2, 5, 0):
        os.truncate(tmp_path / "a", length)
        with pytest.raises(DamagedPayload):
            write_output(tmp_path, plan, target)
    assert os.listdir(target.parent) == []


def test_a_segment_that_is_gone_is_damage(tmp_path: Path, target: Path) -> None:
    """Somebody cleaned up, or its folder was lost: another result may be there."""
    plan = lay_out(tmp_path, [("a", b"1"), ("b", b""), ("b", b"2"), ("b", b"3")])
    (tmp_path / "b").unlink()
    with pytest.raises(DamagedPayload) as caught:
        write_output(tmp_path, plan, target)
    assert (caught.value.segment, caught.value.offset) == ("b", 0)


def test_damage_in_the_middle_of_a_long_copy_ends_it(tmp_path: Path, target: Path) -> None:
    """Blocks are in flight between three threads; none of them is left waiting."""
    pieces: list[Piece] = [("a", bytes([n]) * BLOCK_BYTES) for n in range(8)]
    plan = lay_out(tmp_path, pieces)
    with open(tmp_path / "a", "r+b") as file:
        file.seek(2 * BLOCK_BYTES)
        file.write(b"!")
    with pytest.raises(DamagedPayload):
        write_output(tmp_path, plan, target)
    assert os.listdir(target.parent) == []


def test_an_error_of_the_disk_ends_a_long_copy(tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader is far ahead when the disk is full; nothing is published, nothing hangs."""
    plan = lay_out(tmp_path, [("a", bytes([n]) * BLOCK_BYTES) for n in range(9)])
    real, reads, far_ahead = os.pread, [], threading.Event()

    def read(fd: int, count: int, offset: int) -> bytes:
        reads.append(offset)
        if len(reads) == 5:  # the first block is being written, and three more wait for it
            far_ahead.set()
        return real(fd, count, offset)

    def full(fd: int, data: bytes) -> int:
        assert far_ahead.wait(60)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pread", read)
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(FilesystemError, match="No space left"):
        write_output(tmp_path, plan, target)
    assert os.listdir(target.parent) == []


def test_the_same_output_published_twice_is_one(tmp_path: Path, target: Path) -> None:
    """The second merge finds the file, compares it and leaves it alone."""
    plan = lay_out(tmp_path, SHAPES["alternating segments"])
    first = write_output(tmp_path, plan, target)
    inode = target.stat().st_ino
    assert write_output(tmp_path, plan, target) == first
    assert target.stat().st_ino == inode


@pytest.mark.parametrize("content", [b"", b"somebody's", b"0\n"])
def test_a_file_with_other_content_is_never_overwritten(tmp_path: Path, target: Path, content: bytes) -> None:
    """The error names it and says what to do."""
    plan = lay_out(tmp_path, [("a", b"1\n")])
    target.write_bytes(content)
    with pytest.raises(FilesystemError, match=r"predictions\.csv.*nothing was overwritten(.|\n)*hpcbatch job resume"):
        write_output(tmp_path, plan, target)
    assert target.read_bytes() == content
    assert [name for name in os.listdir(target.parent) if is_temp(name)] == []


def test_a_folder_under_the_name_of_the_output_is_left_alone(tmp_path: Path, target: Path) -> None:
    """It is somebody's; the error names it."""
    target.mkdir()
    with pytest.raises(FilesystemError, match=r"predictions\.csv"):
        write_output(tmp_path, lay_out(tmp_path, [("a", b"1\n")]), target)
    assert target.is_dir()


def test_an_output_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    """Not the temporary file in it, of which nobody has heard."""
    with pytest.raises(FilesystemError, match=r"absent/predictions\.csv.*\n.*not exist"):
        write_output(tmp_path, lay_out(tmp_path, [("a", b"1\n")]), tmp_path / "absent" / "predictions.csv")


def test_a_large_payload_is_streamed_and_never_joined_to_its_neighbours(tmp_path: Path) -> None:
    """One read takes at most 2 GiB, and memory must not grow with the size of a payload."""
    pieces: list[Piece] = [("a", b"s"), ("a", b"L" * BLOCK_BYTES), ("a", b"t"), ("a", b"u")]
    runs = list(write._runs(lay_out(tmp_path, pieces)))
    assert [len(run.parts) for run in runs] == [1, 1, 2]
    assert all(run.length < 2 * BLOCK_BYTES for run in runs if len(run.parts) > 1)
