"""What run() returned, as the payload of each format: JSON lines, typed rows, text with a header or with file names."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import struct
import sys
from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from hpcbatch.dataio.row_payloads import HEAD_BYTES, head_bytes, schema_of, tables_of
from hpcbatch.scoring import driver
from hpcbatch.scoring.row_formats import RowFormat, UnusableRows

Pair = namedtuple("Pair", "left right")
UTC_NOON = dt.datetime(2024, 1, 2, 12, 0, 0, 250000, tzinfo=dt.UTC)
NOON = UTC_NOON.replace(tzinfo=None)


def made(result: Any, kind: str = "text", header: str = "", column: str = "", items: tuple[str, ...] = ()) -> bytes:
    """The payload of *result* of *items*, as many as it has rows unless given."""
    rows, text = driver.rows_of(result)
    return RowFormat(kind, header, column).payload(result, rows, items or tuple(f"f{n}" for n in range(rows)), text)


def table(payload: bytes) -> pa.Table:
    """The rows as the merge reads them; their head says the same."""
    head = payload[: head_bytes(payload[:HEAD_BYTES])]
    whole = pa.concat_tables(tables_of(payload))
    assert schema_of(head).equals(whole.schema)
    return whole


@pytest.fixture(params=["arrow", "by hand"])
def typed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., pa.Table]:
    """`made` for Parquet, read back; once in an environment that has pyarrow, once in one that has not."""

    def make(result: Any, **options: Any) -> pa.Table:
        with monkeypatch.context() as patch:
            if request.param == "by hand":
                patch.setitem(sys.modules, "pyarrow", None)
            payload = made(result, "parquet", **options)
        return table(payload)

    return make


# -- JSON lines


@pytest.mark.parametrize(
    ("result", "lines"),
    [
        ([1, 2.5, "a", None, True], [1, 2.5, "a", None, True]),
        (((1, "x"), [2]), [[1, "x"], [2]]),
        ([{"a": 1}, {"b": {"c": [None]}}], [{"a": 1}, {"b": {"c": [None]}}]),
        ([Pair(1, "r")], [{"left": 1, "right": "r"}]),
        ([float("nan"), float("inf"), [float("nan")], {1: float("nan")}], [None, None, [None], {"1": None}]),
        ([np.float32(0.5), np.int64(7), np.array([1, 2]), np.bool_(True)], [0.5, 7, [1, 2], True]),
        ([b"\x00\xff", dt.date(2024, 1, 2), NOON, {3, 1}, decimal.Decimal("1.5")],
         ["AP8=", "2024-01-02", "2024-01-02T12:00:00.250000", [1, 3], "1.5"]),
        ([pd.NaT, pd.NA], [None, None]),
        ([{"x": b"a", "y": float("inf")}], [{"x": "YQ==", "y": None}]),
        (pd.DataFrame({"a": [1, 2], "b": [0.5, None], 3: ["x", None]}),
         [{"a": 1, "b": 0.5, "3": "x"}, {"a": 2, "b": None, "3": None}]),
        (pd.DataFrame({"t": pd.to_datetime(["2024-01-02", None])}), [{"t": "2024-01-02T00:00:00"}, {"t": None}]),
        (pd.DataFrame({"n": pd.array([1, None], "Int64")}), [{"n": 1}, {"n": None}]),
        (pd.Series([1, 2], name="s"), [1, 2]),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.array([1.5, 2.5]), [1.5, 2.5]),
        (pa.table({"k": [1], "v": ["x"]}), [{"k": 1, "v": "x"}]),
        (pa.RecordBatch.from_pydict({"k": [1]}), [{"k": 1}]),
        ({"p": [1, 2], "q": ("a", "b")}, [{"p": 1, "q": "a"}, {"p": 2, "q": "b"}]),
    ],
    ids=str,
)  # fmt: skip
def test_a_line_of_json_for_each_row(result: Any, lines: list[Any]) -> None:
    """Objects where rows have columns, else values; what JSON cannot hold is null or text."""
    assert [json.loads(line) for line in made(result, "jsonl").splitlines()] == lines


def test_text_that_is_no_unicode_stays_valid_json() -> None:
    """A file name in Latin-1, as the operating system gives it."""
    assert made(["caf\udce9"], "jsonl") == b'"caf\\udce9"\n'
    assert json.loads(made([1], "jsonl", column="file", items=("caf\udce9",))) == {"0": 1, "file": "caf\\xe9"}


# -- typed rows


@pytest.mark.parametrize(
    ("result", "rows", "kinds"),
    [
        ([1, 2, None], [{"0": 1}, {"0": 2}, {"0": None}], ["int64"]),
        ([1, 2.5], [{"0": 1.0}, {"0": 2.5}], ["double"]),
        (["a", "b"], [{"0": "a"}, {"0": "b"}], ["string"]),
        ([b"a", None], [{"0": b"a"}, {"0": None}], ["binary"]),
        ([True, False], [{"0": True}, {"0": False}], ["bool"]),
        ([None], [{"0": None}], ["null"]),
        ([NOON], [{"0": NOON}], ["timestamp[us]"]),
        ([UTC_NOON], [{"0": UTC_NOON}], ["timestamp[us, tz=UTC]"]),
        ([dt.date(2024, 1, 2)], [{"0": dt.date(2024, 1, 2)}], ["date32[day]"]),
        ([(1, "x"), (2, "y")], [{"0": 1, "1": "x"}, {"0": 2, "1": "y"}], ["int64", "string"]),
        ([{"a": 1}, {"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}], ["int64", "string"]),
        ([Pair(1, "r")], [{"left": 1, "right": "r"}], ["int64", "string"]),
        (np.array([[1, 2], [3, 4]], "f4"), [{"0": 1, "1": 2}, {"0": 3, "1": 4}], ["float", "float"]),
        (np.array([1, 2], "u1"), [{"0": 1}, {"0": 2}], ["uint8"]),
        (pd.DataFrame({"i": [1], "f": [0.5], "b": [True]}), [{"i": 1, "f": 0.5, "b": True}],
         ["int64", "double", "bool"]),
        (pd.Series([1.5], name="s"), [{"s": 1.5}], ["double"]),
        ({"p": [1], "q": ["a"]}, [{"p": 1, "q": "a"}], ["int64", "string"]),
    ],
    ids=str,
)  # fmt: skip
def test_rows_keep_their_types(
    typed: Callable[..., pa.Table], result: Any, rows: list[dict[str, Any]], kinds: list[str]
) -> None:
    """With pyarrow in the user's environment or without; columns without names are numbered."""
    found = typed(result)
    assert found.to_pylist() == rows
    assert [str(kind) for kind in found.schema.types] == kinds


def test_pandas_types_survive_without_pyarrow(typed: Callable[..., pa.Table]) -> None:
    """Nanoseconds, categories, numbers that may be missing, text."""
    frame = pd.DataFrame(
        {
            "t": pd.to_datetime(["2024-01-02 12:00:00.000000001", None]),
            "c": pd.Categorical(["u", "v"]),
            "n": pd.array([1, None], "Int64"),
            "s": ["x", None],
            "f": np.array([0.25, np.nan], "f4"),
        }
    )
    found = typed(frame)
    assert found.column("t").cast(pa.timestamp("ns")).cast(pa.int64()).to_pylist() == [1704196800000000001, None]
    assert found.column("c").to_pylist() == ["u", "v"]
    assert found.column("n").to_pylist() == [1, None]
    assert found.column("s").to_pylist() == ["x", None]
    assert found.column("f").type == pa.float32()


def test_nested_values_are_json_text_without_pyarrow(typed: Callable[..., pa.Table]) -> None:
    """There is nobody who knows their types; with pyarrow they are nested columns."""
    (cell,) = typed([{"v": [1, 2]}]).column("v").to_pylist()
    assert cell in ([1, 2], "[1, 2]")


@pytest.mark.parametrize("result", [[1, "a"], [{"v": 1}, {"v": "x"}], [2**70], [object()]])
def test_a_column_without_one_type_is_refused_by_its_name(typed: Callable[..., pa.Table], result: Any) -> None:
    """The mini-batch fails; the words say what to do."""
    with pytest.raises(UnusableRows, match=r"column '[0v]'(.|\n)*jsonl"):
        typed(result)


def test_rows_of_different_lengths_make_no_columns() -> None:
    """Nor do lists among other values."""
    for result in ([(1, 2), (3,)], [(1, 2), 3]):
        with pytest.raises(UnusableRows, match="different lengths"):
            made(result, "parquet")


def test_two_columns_of_one_name_are_refused() -> None:
    """pandas allows it; a file of named columns does not."""
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(UnusableRows, match="'a'"):
        made(frame, "jsonl")


def test_arrays_of_more_dimensions_are_flattened_row_by_row() -> None:
    """Columns have no other place for them."""
    assert table(made(np.arange(8).reshape(2, 2, 2), "parquet")).num_columns == 4


def test_no_rows_have_no_payload() -> None:
    """Whatever the format."""
    for kind in ("text", "jsonl", "parquet"):
        assert made([], kind) == made(pd.DataFrame({"a": []}), kind) == b""


# -- the file of each row, and the header


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (["a", 1], b'a f0\n1 "f 1"\n'),
        (pd.Series(["a", 1]), b'a f0\n1 "f 1"\n'),
        (pd.DataFrame({"x": ["a b", None], "y": [1, 2]}), b'"a b" 1 f0\n 2 "f 1"\n'),
        (np.array([[1, 2], [3, 4]]), b'1 2 f0\n3 4 "f 1"\n'),
        (pa.table({"x": [1, None]}), b'1 f0\n "f 1"\n'),
        ({"x": [1, 2]}, b'1 f0\n2 "f 1"\n'),
    ],
    ids=str,
)
def test_each_row_names_its_file(result: Any, text: bytes) -> None:
    """As the last field, quoted where needed."""
    assert made(result, column="file", items=("f0", "f 1")) == text


def test_whose_row_it_is_where_rows_are_not_as_many_as_files() -> None:
    """Of one file all rows are; of several nobody knows, and then it is empty."""
    assert made(["a", "b"], column="file", items=("one",)) == b"a one\nb one\n"
    assert made(["a"], column="file", items=("one", "two")) == b'a ""\n'
    assert json.loads(made(["a"], "jsonl", column="file", items=("one", "two"))) == {"0": "a", "file": None}


def test_objects_keep_their_own_keys_beside_the_file() -> None:
    """No nulls are put in for keys that other rows have."""
    lines = made([{"a": 1}, {"b": 2}], "jsonl", column="file").splitlines()
    assert [json.loads(line) for line in lines] == [{"a": 1, "file": "f0"}, {"b": 2, "file": "f1"}]


@pytest.mark.parametrize("kind", ["text", "jsonl", "parquet"])
def test_a_column_that_has_the_name_already_is_refused(kind: str) -> None:
    """Nothing is overwritten."""
    with pytest.raises(UnusableRows, match="'x'"):
        made(pd.DataFrame({"x": [1]}), kind, column="x")
    if kind == "jsonl":
        with pytest.raises(UnusableRows, match="'x'"):
            made([{"x": 1}], kind, column="x")


def framed(payload: bytes) -> tuple[bytes, bytes]:
    """Header and rows."""
    (size,) = struct.unpack_from("<I", payload)
    return payload[4 : 4 + size], payload[4 + size :]


def test_the_header_is_the_names_of_the_columns() -> None:
    """Quoted as the fields are; the merge writes it once."""
    frame = pd.DataFrame({"a b": [1], "c": [2]})
    assert framed(made(frame, header="true")) == (b'"a b" c\n', b"1 2\n")
    assert framed(made(frame, header="true", column="file")) == (b'"a b" c file\n', b"1 2 f0\n")
    assert framed(made({"p": ["x y"]}, header="true")) == (b"p\n", b'"x y"\n')


def test_rows_without_names_make_no_header() -> None:
    """The words say how to give one."""
    with pytest.raises(UnusableRows, match="output_header='NAME NAME'"):
        made([1, 2], header="true")


def test_a_header_that_the_merge_knows_changes_no_payload() -> None:
    """It is not in any of them."""
    assert made([1], header="my head") == b"1\n"


def test_an_mlflow_model_names_its_columns_and_files_itself() -> None:
    """`row,prediction,file`: an input column is not added to it."""
    frame = pd.DataFrame({"row": [0], "prediction": ["x"], "file": ["a.csv"]})
    written = driver.Written(1, lambda: "0,x,a.csv\n", lambda: frame)
    assert framed(made(written, header="true", column="file")) == (b"row,prediction,file\n", b"0,x,a.csv\n")
    assert json.loads(made(written, "jsonl")) == {"row": 0, "prediction": "x", "file": "a.csv"}
    assert table(made(written, "parquet", column="f")).column_names == ["row", "prediction", "file"]


def test_a_dict_of_columns_is_a_table_and_other_dicts_are_not() -> None:
    """Columns of one length; anything else could mean too much."""
    assert made({"a": [1, 2], "b": np.array([3, 4])}) == b"1 3\n2 4\n"
    for result in ({"a": [1], "b": [1, 2]}, {"a": 1}, {}, {"a": "text"}):
        with pytest.raises(driver.WrongReturnType, match="dict of columns"):
            made(result)
