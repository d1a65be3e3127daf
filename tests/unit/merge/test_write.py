"""The copy: input order, every checksum, one name given once."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import zlib
from array import array
from functools import partial
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.publish import is_temp, temp_name
from hpcbatch.merge import write
from hpcbatch.merge.payloads import BLOCK_BYTES, DamagedPayload
from hpcbatch.merge.write import Written, copy_checked
from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan, pack_merge_plan, parse_merge_plan
from tests.unit.jobdir.sealed import flip

Piece = tuple[str, bytes] | None  # the segment that holds a payload; None: the mini-batch has no rows
OWNER = "0123456789abcdef0123456789abcdef"
NO_KERNEL_COPY = [errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM]


def write_output(root: Path, plan: MergePlan, target: Path) -> Written:
    return write.write_output(target, partial(copy_checked, root, plan), owner=OWNER)


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
    "one block to the byte": [("a", b"x" * (BLOCK_BYTES - 1)), ("b", b"y"), None],
    "several blocks, some small": [("abc"[n % 3], b"%03d" % n * (BLOCK_BYTES // (n % 5 * 27 + 3))) for n in range(30)],
    "more segments than stay open": [(f"s{n % 40:02d}", b"%d\n" % n) for n in range(130)],
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


@pytest.mark.parametrize("number", NO_KERNEL_COPY)
def test_where_the_kernel_does_not_copy_between_two_files_memory_does(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Another filesystem, an old one, a container that forbids it: the same bytes, and the kernel is asked once."""
    asked = []

    def refuse(*arguments: int) -> int:
        asked.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "copy_file_range", refuse)
    pieces = SHAPES["several blocks, some small"]
    write_output(tmp_path, lay_out(tmp_path, pieces), target)
    assert target.read_bytes() == joined(pieces)
    assert len(asked) == 1


def test_a_kernel_that_copies_a_little_or_nothing_at_a_time_loses_nothing(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some filesystems answer 0 for bytes that are there; reading them tells the truth."""
    real, answers = os.copy_file_range, iter([10, 0, 1 << 30] * 1000)

    def copy(source: int, out: int, count: int, offset: int) -> int:
        allowed = min(count, next(answers))
        return real(source, out, allowed, offset) if allowed else 0

    monkeypatch.setattr(os, "copy_file_range", copy)
    pieces = SHAPES["several blocks, some small"]
    write_output(tmp_path, lay_out(tmp_path, pieces), target)
    assert target.read_bytes() == joined(pieces)


def test_many_small_payloads_cost_the_kernel_one_call_for_each_block(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neighbours are joined; those that lie apart are gathered in memory and written at once."""
    calls = []
    for name in ("copy_file_range", "write", "preadv"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *a, real=real, name=name: calls.append(name) or real(*a))
    neighbours: list[Piece] = [("a", b"%09d\n" % n) for n in range(1000)]
    write_output(tmp_path, lay_out(tmp_path, neighbours), target)
    assert calls == ["copy_file_range", "preadv"] or calls == ["write", "preadv"]
    calls.clear()
    target.unlink()
    write_output(tmp_path, lay_out(tmp_path, [("ab"[n % 2], b"%09d\n" % n) for n in range(1000)]), target)
    assert calls == ["write", "preadv"]


def test_a_long_output_is_handed_to_the_disk_as_it_grows(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Telling the kernel to begin with its writing changes no byte."""
    monkeypatch.setattr(write, "FLUSH_BYTES", 2 * BLOCK_BYTES)
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
        with pytest.raises(DamagedPayload) as caught, open(tmp_path / "copy", "w+b") as file:
            _ = write_output(tmp_path, plan, target) if number % 10 else copy_checked(tmp_path, plan, file.fileno())
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


@pytest.mark.parametrize("call", ["copy_file_range", "preadv", "fsync"])
def test_an_error_of_the_disk_ends_a_long_copy(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Whichever thread hears of it: nothing is published, nothing hangs, the error names the output."""
    pieces: list[Piece] = [("a", bytes([n]) * BLOCK_BYTES) for n in range(9)]
    monkeypatch.setattr(write, "_AHEAD_BLOCKS", 2)

    def full(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    plan = lay_out(tmp_path, pieces)
    monkeypatch.setattr(os, call, full)
    with pytest.raises(FilesystemError, match=r"predictions\.csv.*No space left"):
        write_output(tmp_path, plan, target)
    assert os.listdir(target.parent) == []


def test_a_copy_that_does_not_read_back_is_not_the_fault_of_its_segment(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another result would not help; the filesystem lost or changed what was written."""
    plan = lay_out(tmp_path, [("a", b"0123456789")])
    real = os.preadv

    def read(fd: int, buffers: list[memoryview], offset: int) -> int:
        count = real(fd, buffers, offset)
        buffers[0][3] ^= 1
        return count

    monkeypatch.setattr(os, "preadv", read)
    with pytest.raises(FilesystemError, match=r"does not read back(.|\n)*hpcbatch job resume"):
        write_output(tmp_path, plan, target)
    monkeypatch.setattr(os, "preadv", lambda fd, buffers, offset: 0)
    with pytest.raises(FilesystemError, match="does not read back"):
        write_output(tmp_path, plan, target)
    assert os.listdir(target.parent) == []


def test_a_segment_that_vanishes_before_it_is_blamed_is_damage(tmp_path: Path, target: Path) -> None:
    """It was damaged when it was copied; that it is gone now does not make it better."""
    plan = lay_out(tmp_path, [("a", b"0123456789")])
    flip(tmp_path / "a", 3)
    (tmp_path / "copy").write_bytes((tmp_path / "a").read_bytes())
    with open(tmp_path / "copy", "rb") as copy:
        (tmp_path / "a").unlink()
        check = write._Check(tmp_path, plan, copy.fileno(), hashed=False)
        with pytest.raises(DamagedPayload):
            check._check(next(write._blocks(plan)))


def test_what_a_killed_merge_of_the_job_left_is_removed(tmp_path: Path, target: Path) -> None:
    """A file as large as the output; what belongs to other jobs and to nobody stays."""
    (target.parent / temp_name(OWNER)).write_bytes(b"half")
    others = [temp_name("f" * 32), temp_name(), "theirs"]
    for name in others:
        (target.parent / name).write_bytes(b"x")
    write_output(tmp_path, lay_out(tmp_path, [("a", b"1\n")]), target)
    assert sorted(os.listdir(target.parent)) == sorted([*others, target.name])


@pytest.mark.parametrize("published", [True, False])
def test_a_merge_whose_file_another_one_removed_begins_again(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, published: bool
) -> None:
    """Its twin took it for dead. It copies once more, and publishes or finds what the twin published."""
    plan = lay_out(tmp_path, [("a", b"1\n")])
    real, twins = os.fsync, []

    def fsync(fd: int) -> None:
        real(fd)
        if not twins:
            twins.append(1)
            for name in os.listdir(target.parent):
                (target.parent / name).unlink()
            if published:
                target.write_bytes(b"1\n")

    monkeypatch.setattr(os, "fsync", fsync)
    write_output(tmp_path, plan, target)
    assert target.read_bytes() == b"1\n"
    assert os.listdir(target.parent) == [target.name]


def test_a_merge_that_always_loses_its_file_gives_up(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's cleaning job is at work there; the error says what is wrong."""
    real = os.fsync

    def fsync(fd: int) -> None:
        real(fd)
        for name in os.listdir(target.parent):
            (target.parent / name).unlink()

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(FilesystemError, match=r"predictions\.csv.*removed(.|\n)*hpcbatch job resume"):
        write_output(tmp_path, lay_out(tmp_path, [("a", b"1\n")]), target)


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
    with pytest.raises(FilesystemError, match=r"absent'.*\n.*not exist"):
        write_output(tmp_path, lay_out(tmp_path, [("a", b"1\n")]), tmp_path / "absent" / "predictions.csv")


def test_memory_does_not_grow_with_the_size_of_a_payload(tmp_path: Path) -> None:
    """A block is never larger than it should be; a payload that does not fit goes on in the next."""
    pieces: list[Piece] = [("a", b"s"), ("a", b"L" * 2 * BLOCK_BYTES), ("a", b"t"), ("b", b"u")]
    blocks = list(write._blocks(lay_out(tmp_path, pieces)))
    assert [block.size for block in blocks] == [BLOCK_BYTES, BLOCK_BYTES, 3]
    assert [len(block.spans) for block in blocks] == [1, 1, 2]
