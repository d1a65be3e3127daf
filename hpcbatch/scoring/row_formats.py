r"""Rows in other formats than Azure ML's text: JSON lines, typed rows for Parquet, a header, each row's file.

The driver loads this file only where a job asks for one of these. Standard library, Python 3.8 or newer; pandas,
numpy and pyarrow are used where the environment has them.

What a mini-batch's payload is, by format:

    text                the rows; with a header from the rows: u32 length of the header, the header, the rows
    jsonl               one JSON value on each line
    parquet             "hbarrow1", an Arrow IPC stream: where the environment has pyarrow
                        "hbrows-1", u32 length of the head, head JSON {columns: [[name, type], ...]}, then each
                        column as a JSON list on a line of its own: where it does not. Types are Arrow's names.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import decimal
import io
import json
import math
import os
import struct
import sys

MYPY = False  # true for the type checker only, as in the driver
if MYPY:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

ARROW_MAGIC, ROWS_MAGIC = b"hbarrow1", b"hbrows-1"
LENGTH = struct.Struct("<I")
BATCH_ROWS = 1 << 16
FROM_ROWS = "true"
SEPARATOR = " "


class UnusableRows(TypeError):
    """run() returned rows that the output's format cannot hold."""


class Table:
    """Rows by columns. `names` is empty for rows that have no columns: each is the one value in `columns`."""

    def __init__(self, names: list[str], columns: list[Any], rows: int) -> None:
        self.names = names
        self.columns = columns
        self.rows = rows
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if names.count(name) > 1})
            raise UnusableRows(f"run() returned several columns of the name {twice[0]!r}")

    def named(self) -> list[str]:
        """The columns' names; columns without any are numbered from 0."""
        return self.names or [str(number) for number in range(len(self.columns))]


class RowFormat:
    """Makes the payload of what run() returned. *header* is "", `FROM_ROWS`, or a line that the merge knows."""

    def __init__(self, kind: str, header: str, input_column: str) -> None:
        self.kind = kind
        self.framed = kind == "text" and header == FROM_ROWS
        self.input_column = input_column

    def payload(self, result: Any, rows: int, items: Sequence[str], text: Callable[[], str]) -> bytes:
        """The payload of *result*, which has *rows* rows and is made of *items*; *text* makes them as Azure ML does.

        Raises UnusableRows.
        """
        if not rows:
            return b""
        files = files_of(rows, items) if self.input_column and not hasattr(result, "table") else None
        if self.kind == "text":
            return self._text(result, text, files)
        if files is not None:  # names that are no UTF-8 have to become text all the same
            files = [file and os.fsencode(file).decode("utf-8", "backslashreplace") for file in files]
        objects = (
            self.kind == "jsonl" and isinstance(result, (list, tuple)) and all(isinstance(r, dict) for r in result)
        )
        if files is not None and objects:  # each keeps its own keys
            if any(self.input_column in row for row in result):
                raise self._taken()
            result = [{**row, self.input_column: file} for row, file in zip(result, files)]
            return jsonl(table_of(result, spread=False))
        table = table_of(result, spread=self.kind == "parquet" or files is not None)
        if files is not None:
            self._with_files(table, files)
        return jsonl(table) if self.kind == "jsonl" else typed(table)

    def _with_files(self, table: Table, files: list[str | None]) -> None:
        names = table.named()
        if self.input_column in names:
            raise self._taken()
        table.names, table.columns = [*names, self.input_column], [*table.columns, files]

    def _taken(self) -> UnusableRows:
        return UnusableRows(
            f"run() returned a column {self.input_column!r}, and output_input_column gives that name to another"
        )

    def _text(self, result: Any, text: Callable[[], str], files: list[str | None] | None) -> bytes:
        body = text() if files is None else self._text_with_files(result, files)
        if not self.framed:
            return encoded(body)
        table = table_of(result, spread=False)
        if not table.names:
            raise UnusableRows(
                "the header is to be taken from the rows (output_header: true), and these have no column names; return "
                "a DataFrame, or say the header: --set output_header='NAME NAME'"
            )
        names = [*table.names, *([self.input_column] if files is not None else [])]
        header = encoded(line(names, "," if hasattr(result, "table") else SEPARATOR))
        return LENGTH.pack(len(header)) + header + encoded(body)

    def _text_with_files(self, result: Any, files: list[str | None]) -> str:
        if isinstance(result, (list, tuple)) or is_a(result, "pandas", "Series"):
            return "".join(["{} {}".format(row, line([file or ""])) for row, file in zip(result, files)])
        table = table_of(result, spread=True)
        self._with_files(table, files)
        if is_a(result, "pandas", "DataFrame"):
            framed = result.copy(deep=False)
            framed[self.input_column] = files
            return str(framed.to_csv(header=False, index=False, sep=SEPARATOR))
        return _lines(table)


def text_of(result: Any) -> str:
    """The rows of a dict of columns as text."""
    return _lines(table_of(result, spread=True))


def _lines(table: Table) -> str:
    rows = zip(*[values(column) for column in table.columns])
    return "".join([line(["" if cell is None else cell for cell in row]) for row in rows])


def files_of(rows: int, items: Sequence[str]) -> list[str | None]:
    """The file of each row: one each if there are as many, the only one if there is one, else nobody knows: None."""
    if rows == len(items):
        return list(items)
    return [items[0] if len(items) == 1 else None] * rows


def line(cells: Sequence[Any], separator: str = SEPARATOR) -> str:
    """One line of text, its cells quoted where needed, as pandas quotes."""
    target = io.StringIO()
    csv.writer(target, delimiter=separator, lineterminator="\n").writerow(cells)
    return target.getvalue()


def encoded(text: str) -> bytes:
    """As the driver writes text."""
    return text.encode("utf-8", "surrogateescape")


def is_a(result: Any, module: str, name: str) -> bool:
    """Whether *result* is an instance of module.name, without importing anything that the script did not."""
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(result, kind)


def table_of(result: Any, spread: bool) -> Table:
    """What run() returned, by columns. Rows of a list that are lists are cells of numbered columns if *spread*, else
    values.
    """
    if hasattr(result, "table"):  # the driver's Written: what the script for MLflow models returns
        result = result.table()
    if is_a(result, "pyarrow", "RecordBatch"):
        result = sys.modules["pyarrow"].Table.from_batches([result])
    if is_a(result, "pyarrow", "Table"):
        return Table([str(name) for name in result.column_names], list(result.columns), result.num_rows)
    if is_a(result, "pandas", "DataFrame"):
        columns = [result.iloc[:, number] for number in range(result.shape[1])]
        return Table([str(name) for name in result.columns], columns, len(result))
    if is_a(result, "pandas", "Series"):
        return Table([str(result.name)] if spread and result.name is not None else [], [result], len(result))
    if is_a(result, "numpy", "ndarray"):
        if result.ndim == 1 or not spread:
            return Table([], [result], len(result))
        cells = result if result.ndim == 2 else result.reshape(len(result), -1)
        return Table([], [cells[:, number] for number in range(cells.shape[1])], len(result))
    if isinstance(result, dict):
        return Table([str(name) for name in result], list(result.values()), len(next(iter(result.values()), [])))
    return _of_list(list(result), spread)


def _of_list(rows: list[Any], spread: bool) -> Table:
    rows = [row._asdict() if hasattr(row, "_asdict") else row for row in rows]
    if all(isinstance(row, dict) for row in rows):
        names = list(dict.fromkeys(str(name) for row in rows for name in row))
        if spread:
            found = [{str(name): value for name, value in row.items()} for row in rows]
            return Table(names, [[row.get(name) for row in found] for name in names], len(rows))
    elif spread:
        lists = [isinstance(row, (list, tuple)) for row in rows]
        if any(lists):
            width = len(rows[lists.index(True)])
            if not all(lists) or any(len(row) != width for row in rows):
                raise UnusableRows("run() returned rows of different lengths, which make no columns")
            return Table([], [list(column) for column in zip(*rows)], len(rows))
    return Table([], [rows], len(rows))


def values(column: Any) -> list[Any]:
    """The column's values as Python's own; what pandas means by a missing one is None."""
    if is_a(column, "pandas", "Series"):
        if getattr(column.dtype, "kind", "O") in "iub" and not hasattr(column.dtype, "na_value"):
            return list(column.tolist())
        return [None if missing else value for value, missing in zip(column.tolist(), column.isna().tolist())]
    if hasattr(column, "to_pylist"):  # pyarrow
        return list(column.to_pylist())
    if hasattr(column, "tolist"):
        return list(column.tolist())
    return list(column)


# -- JSON lines


def jsonl(table: Table) -> bytes:
    """One JSON value on each line: an object where the rows have columns."""
    columns = [values(column) for column in table.columns]
    if table.names:
        rows: Iterable[Any] = (dict(zip(table.names, row)) for row in zip(*columns))
    else:
        rows = columns[0] if len(columns) == 1 else zip(*columns)
    # A lone surrogate becomes the escape that JSON has for it.
    return "".join([_json(row) + "\n" for row in rows]).encode("utf-8", "backslashreplace")


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, default=_plain)
    except (ValueError, TypeError):  # not a number, infinite, keys that are no text
        return json.dumps(_cleaned(value), ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    """What JSON can hold in place of *value*."""
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, (dt.datetime, dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if hasattr(value, "tolist"):  # numpy, of any shape
        return _cleaned(value.tolist())
    return str(value)


def _cleaned(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): _cleaned(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_cleaned(each) for each in value]
    if value is None or isinstance(value, (str, int)):
        return value
    return _cleaned(_plain(value))


# -- typed rows, for Parquet


def typed(table: Table) -> bytes:
    """The rows with their types. Raises UnusableRows that names the column which has none."""
    try:
        import pyarrow as pa
    except ImportError:
        return _typed_by_hand(table)
    return _arrow(table, pa)


def _arrow(table: Table, pyarrow: Any) -> bytes:
    arrays = []
    for name, column in zip(table.named(), table.columns):
        try:
            array = column
            if not isinstance(column, (pyarrow.ChunkedArray, pyarrow.Array)):
                array = pyarrow.array(column, from_pandas=is_a(column, "pandas", "Series"))
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise _no_type(name, error) from None
        if pyarrow.types.is_dictionary(array.type):
            array = array.cast(array.type.value_type)
        arrays.append(array)
    whole = pyarrow.Table.from_arrays(arrays, names=table.named())
    sink = pyarrow.BufferOutputStream()
    sink.write(ARROW_MAGIC)
    with pyarrow.ipc.new_stream(sink, whole.schema) as writer:
        writer.write_table(whole, max_chunksize=BATCH_ROWS)
    return bytes(sink.getvalue().to_pybytes())


def _typed_by_hand(table: Table) -> bytes:
    columns, lines = [], []
    for name, column in zip(table.named(), table.columns):
        kind, cells = _kind_and_cells(name, values(column), str(getattr(column, "dtype", "")))
        columns.append([name, kind])
        lines.append(json.dumps(cells) + "\n")
    head = json.dumps({"columns": columns}).encode()
    return ROWS_MAGIC + LENGTH.pack(len(head)) + head + "".join(lines).encode()


_NUMPY_KINDS = {
    **{f"{sign}int{bits}": f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": "float", "float64": "double", "bool": "bool",
}  # fmt: skip
_KINDS = [(bool, "bool"), (int, "int64"), (float, "double"), (str, "string"), (bytes, "binary")]


def _kind_and_cells(name: str, cells: list[Any], dtype: str) -> tuple[str, list[Any]]:
    """The Arrow type of a column, and its values as JSON has them."""
    cells = [cell.item() if hasattr(cell, "item") and hasattr(cell, "dtype") else cell for cell in cells]
    cells = [None if type(cell).__name__ in ("NAType", "NaTType") else cell for cell in cells]
    if dtype in _NUMPY_KINDS:
        return _NUMPY_KINDS[dtype], cells
    kinds = {_kind(cell, dtype) for cell in cells if cell is not None}
    if kinds == {"int64", "double"}:
        return "double", [None if cell is None else float(cell) for cell in cells]
    if len(kinds) > 1 or any(kind.startswith("?") for kind in kinds):
        raise _no_type(name, "they are " + " and ".join(sorted(kinds)).replace("?", ""))
    kind = kinds.pop() if kinds else "null"
    if kind == "int64" and any(cell is not None and not -(2**63) <= cell < 2**63 for cell in cells):
        raise _no_type(name, "a number is larger than 64 bits")
    if kind in ("bool", "int64", "double", "null"):
        return kind, cells
    return kind, [None if cell is None else _as_text(cell, kind) for cell in cells]


def _kind(cell: Any, dtype: str) -> str:
    if isinstance(cell, dt.datetime):
        unit = "ns" if dtype.startswith("datetime64") else "us"
        return f"timestamp[{unit}]" if cell.tzinfo is None else f"timestamp[{unit}, tz=UTC]"
    if isinstance(cell, dt.date):
        return "date32[day]"
    if isinstance(cell, (list, tuple, dict)):
        return "json"
    if isinstance(cell, decimal.Decimal):
        return "string"
    for python, kind in _KINDS:
        if isinstance(cell, python):
            return kind
    return "?" + type(cell).__name__


def _as_text(cell: Any, kind: str) -> str:
    if kind == "binary":
        return base64.b64encode(cell).decode()
    if kind == "json":
        return _json(cell)
    if kind.endswith("tz=UTC]"):
        return str(cell.astimezone(dt.timezone.utc).isoformat()).replace("+00:00", "Z")
    return str(cell.isoformat() if isinstance(cell, dt.date) else cell)


def _no_type(name: str, why: Any) -> UnusableRows:
    return UnusableRows(
        f"the values of column {name!r} have no common type: {why}. Give them one, or write the output as JSON lines "
        "(output_file_name: NAME.jsonl)"
    )
