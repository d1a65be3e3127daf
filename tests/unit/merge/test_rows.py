"""Rows of mini-batches as one file of another kind: Parquet, or text under a header."""

from __future__ import annotations

import errno
import gc
import hashlib
import io
import os
import struct
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from hpcbatch.dataio import parquet
from hpcbatch.errors import FileDamaged, FilesystemError
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.merge import payloads, typed
from hpcbatch.merge.entry import EXIT_FAILED, EXIT_PUBLISHED, merge_job
from hpcbatch.merge.payloads import DamagedPayload, Payloads, RowsDiffer
from hpcbatch.merge.rows import filler
from hpcbatch.records.merge_plan import MergePlan
from hpcbatch.scoring.driver import rows_of
from hpcbatch.scoring.row_formats import RowFormat
from tests.unit.jobdir.sealed import Size, begin, commit, end, flip, output, seal
from tests.unit.merge.test_write import Piece, lay_out

Rows = list[dict[str, Any]]


def payload(rows: Any) -> bytes:
    count, text = rows_of(rows)
    return RowFormat("parquet", "", "").payload(rows, count, (), text)


def plan_of(root: Path, *mini_batches: Rows | None) -> MergePlan:
    """Each mini-batch in one of two segments; None failed."""
    pieces: list[Piece] = [None if m is None else ("ab"[n % 2], payload(m)) for n, m in enumerate(mini_batches)]
    return lay_out(root, pieces)


def written(root: Path, plan: MergePlan) -> tuple[bytes, str | None]:
    with open(root / "out", "w+b") as file:
        digest = typed.write_parquet(root, plan, file.fileno())
    return (root / "out").read_bytes(), digest


def read(data: bytes) -> Rows:
    return pq.read_table(io.BytesIO(data)).to_pylist()


def test_typed_rows_become_one_parquet_file_in_input_order(tmp_path: Path) -> None:
    """Whatever segment they lie in; mini-batches that failed or had no rows add none."""
    batches: list[Rows | None] = [[{"n": n, "s": f"{n}"}] * (n % 3) if n % 5 else None for n in range(30)]
    data, digest = written(tmp_path, plan_of(tmp_path, *batches))
    assert read(data) == [row for batch in batches if batch for row in batch]
    assert digest == hashlib.sha256(data).hexdigest()


def test_columns_of_all_mini_batches_are_united(tmp_path: Path) -> None:
    """Whole numbers and fractions, nothing and text, a column that only some have."""
    data, _ = written(tmp_path, plan_of(tmp_path, [{"x": 1, "y": None}], [{"x": 0.5, "y": "a"}], [{"z": True}]))
    assert read(data) == [
        {"x": 1.0, "y": None, "z": None},
        {"x": 0.5, "y": "a", "z": None},
        {"x": None, "y": None, "z": True},
    ]


def test_a_large_output_is_not_hashed_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for text."""
    monkeypatch.setattr(typed, "HASH_UP_TO_BYTES", 10)
    assert written(tmp_path, plan_of(tmp_path, [{"x": 1}]))[1] is None


def test_large_payloads_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not into memory; the file is the same, in as many row groups as it has to be."""
    plan = plan_of(tmp_path, [{"n": 0}], [{"n": n} for n in range(5000)], [{"n": 1}, {"n": 2}])
    whole, _ = written(tmp_path, plan)
    monkeypatch.setattr(payloads, "_MAP_FROM_BYTES", 1000)
    assert written(tmp_path, plan)[0] == whole
    monkeypatch.setattr(parquet, "GROUP_ROWS", 2)
    assert pq.ParquetFile(io.BytesIO(written(tmp_path, plan)[0])).num_row_groups == 2


@pytest.mark.parametrize("map_from", [1, 1 << 20])
def test_no_bit_of_typed_rows_can_turn_over_unnoticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, map_from: int
) -> None:
    """In the head that says the columns, in the rows, at the end: the payload that was hit is named."""
    monkeypatch.setattr(payloads, "_MAP_FROM_BYTES", map_from)
    plan = plan_of(tmp_path, [{"x": 1}], [{"x": "2"}], None, [{"x": "3"}])
    plan = plan_of(tmp_path, [{"x": 1}], [{"x": 2}], None, [{"x": 3}])
    for name in "ab":
        size = (tmp_path / name).stat().st_size
        for at in (0, 8, 13, 60, 200, size // 2, size - 1):
            flip(tmp_path / name, at)
            with pytest.raises(DamagedPayload) as caught:
                written(tmp_path, plan)
            entry = next(e for e in plan if e[3] and plan.files[e[0]] == name and e[2] <= at < e[2] + e[3])
            assert (caught.value.segment, caught.value.offset) == (name, entry[2])
            flip(tmp_path / name, at)
    assert len(read(written(tmp_path, plan)[0])) == 3


@pytest.mark.parametrize("map_from", [1, 1 << 20])
def test_a_segment_that_is_short_or_gone_is_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, map_from: int
) -> None:
    """When the columns are looked at, and when the rows are read."""
    monkeypatch.setattr(payloads, "_MAP_FROM_BYTES", map_from)
    plan = plan_of(tmp_path, [{"x": n} for n in range(3000)])
    with Payloads(tmp_path, plan) as opened:
        (one,) = opened
        os.truncate(tmp_path / "a", one.length - 1)
        with pytest.raises(DamagedPayload):
            opened.whole(one)
    for length in (5000, 100, 0):
        os.truncate(tmp_path / "a", length)
        with pytest.raises(DamagedPayload):
            written(tmp_path, plan)
    (tmp_path / "a").unlink()
    with pytest.raises(DamagedPayload):
        written(tmp_path, plan)


def test_columns_said_in_a_long_head_are_read_whole(tmp_path: Path) -> None:
    """Hundreds of columns need more than the first look."""
    wide = [{f"column number {n}": n for n in range(400)}]
    assert read(written(tmp_path, plan_of(tmp_path, wide, wide))[0]) == wide * 2


@pytest.mark.parametrize("later", [{"x": "text"}, {"x": 2**60 + 1}])
def test_rows_that_do_not_fit_those_of_the_others_are_named(tmp_path: Path, later: dict[str, Any]) -> None:
    """The mini-batch and the column; nothing is rounded to make it fit."""
    with pytest.raises(RowsDiffer, match="'x'") as caught:
        written(tmp_path, plan_of(tmp_path, [{"x": 0.5}], [{"x": 2.5}], [later]))
    assert caught.value.mini_batch == 2


def test_rows_that_are_not_typed_are_told_from_damage(tmp_path: Path) -> None:
    """Their checksum is right: something else wrote them."""
    with pytest.raises(FileDamaged, match="do not begin"):
        written(tmp_path, lay_out(tmp_path, [("a", payload([{"x": 1}])), ("b", b"text\n"), ("a", b"more")]))


def test_a_conflict_that_a_disk_made_is_damage(tmp_path: Path) -> None:
    """The type in a head turned into another: all that was read until then is checked before a user is blamed."""
    plan = plan_of(tmp_path, [{"x": 1}], [{"x": 2}])
    other = payload([{"x": "a"}])
    content = (tmp_path / "b").read_bytes()
    (tmp_path / "b").write_bytes((other + bytes(len(content)))[: len(content)])
    with pytest.raises(DamagedPayload):
        written(tmp_path, plan)


def test_an_error_of_the_disk_ends_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The threads before it, which read and encode, are not left waiting."""
    plan = plan_of(tmp_path, *[[{"n": n}] for n in range(40)])
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1)
    monkeypatch.setattr(parquet, "WRITE_BYTES", 16)

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(typed, "write_all", full)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path, plan)
    assert (tmp_path / "out").read_bytes() == b""


def test_a_file_that_was_given_up_is_never_written_to_again(tmp_path: Path) -> None:
    """pyarrow closes its writer when it is collected, and the descriptor may be another file's by then."""
    plan = plan_of(tmp_path, [{"n": 1}], [{"n": 2**60 + 1}], [{"n": 0.5}])
    with open(tmp_path / "out", "w+b") as file, pytest.raises(RowsDiffer):
        typed.write_parquet(tmp_path, plan, file.fileno())
    size = (tmp_path / "out").stat().st_size
    with open(tmp_path / "another", "w+b"):
        gc.collect()
    assert (tmp_path / "another").stat().st_size == 0
    assert (tmp_path / "out").stat().st_size == size


@pytest.mark.parametrize("pieces", [["nothing fails"], ["nothing fails", "as long as", "nobody waits"]])
def test_an_error_of_the_disk_is_raised_whenever_it_is_met(tmp_path: Path, pieces: list[str]) -> None:
    """By the next piece, and at the end if there is none; the pieces that wait are not written after it."""
    (tmp_path / "out").touch()
    with open(tmp_path / "out", "rb") as read_only:
        file = typed._Written(read_only.fileno())
        for piece in pieces:
            file.write(piece.encode())
        file.start()
        file.stop()
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.write(b"more")
        with pytest.raises(OSError, match="Bad file descriptor"):
            file.sha256()


def test_a_large_file_goes_to_the_disk_while_it_is_encoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In many pieces, of which few wait; it is the same file."""
    plan = plan_of(tmp_path, *[[{"n": n, "s": "x" * n}] for n in range(40)])
    monkeypatch.setattr(parquet, "GROUP_ROWS", 1)
    whole, digest = written(tmp_path, plan)
    monkeypatch.setattr(parquet, "WRITE_BYTES", 16)
    monkeypatch.setattr(typed, "FLUSH_BYTES", 1000)
    assert written(tmp_path, plan) == (whole, digest)


@pytest.mark.parametrize("found", [b"", b"PAR1" + b"?" * 2000], ids=["nothing", "other bytes"])
def test_what_does_not_read_back_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: bytes
) -> None:
    """The filesystem lost it."""
    plan = plan_of(tmp_path, [{"n": 1}])
    real = os.pread

    def read(fd: int, size: int, at: int) -> bytes:
        data = real(fd, size, at)
        return found[: len(data)] if data.startswith(b"PAR1") else data

    monkeypatch.setattr(os, "pread", read)
    with pytest.raises(FilesystemError, match="does not read back"):
        written(tmp_path, plan)


def test_a_filesystem_may_answer_with_less_than_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is read with the next call."""
    plan = plan_of(tmp_path, [{"n": 1}])
    whole = written(tmp_path, plan)
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, at: real(fd, 5 if size == payloads.BLOCK_BYTES else size, at))
    assert written(tmp_path, plan) == whole


# -- headers


def framed(header: str, rows: bytes) -> bytes:
    return struct.pack("<I", len(header)) + header.encode() + rows


def text(job: JobDir, plan: MergePlan) -> bytes:
    with open(job.root / "file", "w+b") as file:
        digest = filler(job.root, plan, job.record.scoring)(file.fileno())
    data = (job.root / "file").read_bytes()
    assert digest == hashlib.sha256(data).hexdigest()
    return data


@pytest.mark.parametrize("pieces", [[b"1 2\n"], [b"1 2\n", None, b"", b"3 4\n" * 300_000, b"5 6\n"], [None], []])
def test_the_header_of_the_rows_stands_once(tmp_path: Path, pieces: list[bytes | None]) -> None:
    """Whatever the sizes; where there is no row there is none."""
    job = seal(tmp_path / "b1", scoring={"output_header": "true"})
    laid: list[Piece] = [None if p is None else ("ab"[n % 2], p and framed("x y\n", p)) for n, p in enumerate(pieces)]
    rows = b"".join(p or b"" for p in pieces)
    assert text(job, lay_out(job.root, laid)) == (b"x y\n" + rows if rows else b"")


def test_a_line_for_a_header_stands_first(tmp_path: Path) -> None:
    """Also above no rows at all."""
    job = seal(tmp_path / "b1", scoring={"output_header": "x é"})
    assert text(job, lay_out(job.root, [("a", b"1 2\n"), ("b", b"3 4\n")])) == "x é\n1 2\n3 4\n".encode()
    assert text(job, lay_out(job.root, [None])) == "x é\n".encode()


def test_columns_that_are_not_those_of_the_others_are_named(tmp_path: Path) -> None:
    """A header that is wrong for some rows is worse than none."""
    job = seal(tmp_path / "b1", scoring={"output_header": "true"})
    plan = lay_out(job.root, [("a", framed("x y\n", b"1 2\n")), None, ("b", framed("x z\n", b"1 2\n"))])
    with pytest.raises(RowsDiffer, match="'x y'") as caught:
        text(job, plan)
    assert caught.value.mini_batch == 2


@pytest.mark.parametrize("at", [0, 5, 8])
def test_damage_under_a_header_is_damage(tmp_path: Path, at: int) -> None:
    """In its length, in it, in the rows: of the first payload and of later ones."""
    job = seal(tmp_path / "b1", scoring={"output_header": "true"})
    plan = lay_out(job.root, [("a", framed("x y\n", b"1 2\n")), ("b", framed("x y\n", b"1 2\n"))])
    for name in "ab":
        flip(job.root / name, at)
        with pytest.raises(DamagedPayload) as caught:
            text(job, plan)
        assert caught.value.segment == name
        flip(job.root / name, at)


# -- the merge of a job


def scored(root: Path, *mini_batches: Any, **scoring: Any) -> JobDir:
    job = seal(root, Size(items=2 * len(mini_batches)), scoring={"output_file_name": "rows.parquet", **scoring})
    writer = begin(job)
    for number, rows in enumerate(mini_batches):
        commit(writer, number, payload(rows))
    end(writer)
    return job


def test_a_job_with_a_parquet_output_is_merged_into_one(tmp_path: Path) -> None:
    """And is merged again to the same file by a merge that comes later."""
    job = scored(tmp_path / "b1", [{"x": 1}], [{"x": 2}])
    assert merge_job(job)[0] == EXIT_PUBLISHED
    first = output(job).read_bytes()
    assert read(first) == [{"x": 1}, {"x": 2}]
    (job.paths.out / "_SUCCESS.json").unlink()
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert output(job).read_bytes() == first


def test_rows_that_make_no_one_file_fail_the_job_and_stay_where_they_are(tmp_path: Path) -> None:
    """The reason names mini-batch, files and column, and says what to do."""
    job = scored(tmp_path / "b1", [{"x": 1}], [{"x": "a"}])
    code, said = merge_job(job)
    assert code == EXIT_FAILED
    assert "mini-batch 1 (/data/item-0002.txt, /data/item-0003.txt) column 'x' is of type string" in said
    assert "output_file_name=NAME.jsonl" in said
    assert not output(job).exists()
    assert min(all_attempts(job.paths)).segment.stat().st_size > 0


def test_of_many_files_a_few_are_named(tmp_path: Path) -> None:
    """The first three."""
    job = seal(tmp_path / "b1", Size(items=10, mini_batch_size=5), scoring={"output_file_name": "rows.parquet"})
    writer = begin(job)
    for number, rows in enumerate([[{"x": 1}], [{"x": "a"}]]):
        commit(writer, number, payload(rows))
    end(writer)
    assert "(/data/item-0005.txt, /data/item-0006.txt, /data/item-0007.txt, ...)" in merge_job(job)[1]
