"""A merged output as a table of the library that the caller has: pandas, or pyarrow."""

from __future__ import annotations

import importlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hpcbatch.errors import SpecError
from hpcbatch.records.rows import row_format

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Frame: TypeAlias = "pd.DataFrame"
Table: TypeAlias = "pa.Table"

SEPARATOR = " "


def read_pandas(path: Path, names: Sequence[str] | None, *, sep: str = SEPARATOR, **options: Any) -> Frame:
    """The rows of *path* as a DataFrame: by its ending Parquet, JSON lines, or else text with *sep* between fields.

    *options* go to pandas' reader. Raises SpecError if *names* are not as many as the columns, or without pandas.
    """
    pandas = _library("pandas", "pandas")
    kind = row_format(path.name)
    if kind == "parquet":
        return _renamed(pandas.read_parquet(path, **options), names)
    if kind == "jsonl" and options:
        return _renamed(pandas.read_json(path, lines=True, **options), names)
    if kind == "jsonl":  # not read_json, which takes text that looks like a number, or like a date, for one
        with open(path, encoding="utf-8") as file:
            return _renamed(pandas.DataFrame([json.loads(line) for line in file]), names)
    options = {"header": None, **options}
    try:
        return _renamed(pandas.read_csv(path, sep=sep, **options), names)
    except pandas.errors.EmptyDataError:
        return pandas.DataFrame(columns=list(names or []))
    except pandas.errors.ParserError as error:
        raise _not_a_table(path, sep, error) from error


def read_arrow(path: Path, names: Sequence[str] | None, *, sep: str = SEPARATOR, header: bool = False) -> Table:
    """The rows of *path* as an Arrow table: by its ending Parquet, JSON lines, or else text with *sep* between fields.

    Raises SpecError if *names* are not as many as the columns, or without pyarrow.
    """
    pyarrow = _library("pyarrow", "arrow")
    kind = row_format(path.name)
    if kind == "parquet":
        table = _library("pyarrow.parquet", "arrow").read_table(path)
    elif kind == "jsonl":
        table = _library("pyarrow.json", "arrow").read_json(path)
    elif path.stat().st_size == 0:
        table = pyarrow.table({name: pyarrow.array([], pyarrow.string()) for name in names or []})
    else:
        csv = _library("pyarrow.csv", "arrow")
        try:
            table = csv.read_csv(
                path,
                read_options=csv.ReadOptions(autogenerate_column_names=not header),
                parse_options=csv.ParseOptions(delimiter=sep),
            )
        except pyarrow.ArrowInvalid as error:
            raise _not_a_table(path, sep, error) from error
    if names is None:
        return table
    _same_count(names, list(table.column_names))
    return table.rename_columns(list(names))


def _library(module: str, extra: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.split(".", maxsplit=1)[0]
        raise SpecError(f"{name} is not installed here.", hint=f"pip install 'hpcbatch[{extra}]'") from error


def _renamed(frame: Frame, names: Sequence[str] | None) -> Frame:
    if names is not None:
        _same_count(names, list(frame.columns))
        frame.columns = list(names)
    return frame


def _same_count(names: Sequence[str], found: Sequence[Any]) -> None:
    if len(names) != len(found):
        raise SpecError(
            f"The output has {len(found)} columns, and {len(names)} names were given: {', '.join(names)}.",
            hint="Give as many names, or none and look; fields with another separator need sep=.",
            field="names", found=len(names), allowed=len(found),
        )  # fmt: skip


def _not_a_table(path: Path, sep: str, error: Exception) -> SpecError:
    return SpecError(
        f"{str(path)!r} is no table with {sep!r} between its fields: {error}",
        hint="Name another sep=, or read the file yourself: its rows are as run() returned them.",
        file=str(path),
    )
