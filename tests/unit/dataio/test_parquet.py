"""One schema for the rows of all mini-batches, and row groups of bounded size."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcbatch.dataio import parquet
from hpcbatch.dataio.parquet import CannotConvert, Columns, NoCommonType, ParquetFile, fitted, grouped
from hpcbatch.dataio.row_payloads import head_bytes, schema_of
from hpcbatch.errors import FileDamaged

I8, I32, I64, U8, F32, F64 = pa.int8(), pa.int32(), pa.int64(), pa.uint8(), pa.float32(), pa.float64()


def common(*kinds: pa.DataType) -> pa.DataType:
    columns = Columns()
    for kind in kinds:
        columns.add(pa.schema([("x", kind)]))
    return columns.schema().field("x").type


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ([I64, I64], I64),
        ([pa.null(), I64], I64),
        ([pa.string(), pa.null()], pa.string()),
        ([pa.null(), pa.null()], pa.string()),
        ([I8, I32], I32),
        ([U8, I8], pa.int16()),
        ([I64, F64], F64),
        ([F32, I8], F64),
        ([F32, F64], F64),
        ([pa.string(), pa.large_string()], pa.large_string()),
        ([pa.timestamp("us"), pa.timestamp("ns")], pa.timestamp("ns")),
        ([pa.list_(I8), pa.list_(I64)], pa.list_(I64)),
        ([pa.struct([("a", I8)]), pa.struct([("a", I64)])], pa.struct([("a", I64)])),
    ],
    ids=str,
)
def test_types_that_one_type_holds_are_united(kinds: list[pa.DataType], wanted: pa.DataType) -> None:
    """In either order."""
    assert common(*kinds) == common(*reversed(kinds)) == wanted


@pytest.mark.parametrize(
    "kinds",
    [
        [I64, pa.string()],
        [pa.bool_(), I64],
        [pa.timestamp("us"), pa.timestamp("us", "UTC")],
        [pa.string(), pa.list_(pa.string())],
        [F64, pa.decimal128(10, 2)],
        [pa.string(), pa.binary()],
    ],
    ids=str,
)
def test_types_that_none_holds_are_a_conflict_that_names_the_column(kinds: list[pa.DataType]) -> None:
    """With both types, in the order in which they came."""
    with pytest.raises(NoCommonType) as caught:
        common(*kinds)
    assert (caught.value.column, caught.value.found, caught.value.other) == ("x", str(kinds[1]), str(kinds[0]))


def test_columns_stand_in_the_order_in_which_they_were_first_seen() -> None:
    """Those that a table lacks are null in it."""
    columns = Columns()
    columns.add(pa.schema([("b", I64), ("a", I64)]))
    columns.add(pa.schema([("c", pa.string()), ("b", F64)]))
    assert columns.schema().names == ["b", "a", "c"]
    rows = fitted(pa.table({"c": ["x"], "b": [1]}), columns.schema())
    assert rows.to_pylist() == [{"b": 1.0, "a": None, "c": "x"}]


def test_a_number_that_a_fraction_cannot_hold_is_not_rounded() -> None:
    """2**53 + 1 is no double: better no file than another number."""
    with pytest.raises(CannotConvert, match="'x'"):
        fitted(pa.table({"x": [2**53 + 1]}), pa.schema([("x", F64)]))


def test_row_groups_depend_on_the_rows_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """They end when there are enough bytes, or rows; what is left makes the last one."""
    tables = [pa.table({"x": pa.array(range(n), I64)}) for n in (3, 0, 4, 5, 1)]
    monkeypatch.setattr(parquet, "GROUP_ROWS", 5)
    assert [len(group) for group in grouped(tables)] == [7, 5, 1]
    monkeypatch.setattr(parquet, "GROUP_BYTES", 1)
    assert [len(group) for group in grouped(tables)] == [3, 4, 5, 1]


@pytest.mark.parametrize("short", [True, False])
def test_a_file_of_groups_reads_back(monkeypatch: pytest.MonkeyPatch, short: bool) -> None:
    """Many short runs of rows are joined before; nested columns and text are there too."""
    monkeypatch.setattr(parquet, "_LONG_ROWS", 10 if short else 0)
    rows = [{"n": n, "f": n / 2, "s": f"{n}", "l": [n]} for n in range(6)]
    table = pa.Table.from_pylist(rows)
    sink = io.BytesIO()
    file = ParquetFile(sink.write, table.schema)
    file.add(pa.concat_tables([table.slice(0, 3), table.slice(3, 3)]))
    file.add(table)
    file.close()
    found = pq.ParquetFile(io.BytesIO(sink.getvalue()))
    assert found.num_row_groups == 2
    assert found.read().to_pylist() == rows * 2


def test_no_columns_at_all_are_a_file_too() -> None:
    """Every mini-batch had no rows."""
    sink = io.BytesIO()
    ParquetFile(sink.write, pa.schema([])).close()
    assert pq.read_table(io.BytesIO(sink.getvalue())).num_columns == 0


@pytest.mark.parametrize("head", [b"", b"hbarrow1", b"rows as text, of an older deployment", b"hbrows-1"])
def test_what_is_no_typed_payload_is_damage(head: bytes) -> None:
    """Not a guess."""
    with pytest.raises(FileDamaged):
        head_bytes(head[:16])


@pytest.mark.parametrize("head", [b"hbarrow1garbage!", b"hbrows-1\x04\x00\x00\x00none", b"hbrows-1\x02\x00\x00\x00{}"])
def test_columns_that_cannot_be_read_are_damage(head: bytes) -> None:
    """With what to do."""
    with pytest.raises(FileDamaged, match="job resume"):
        schema_of(head)
