"""Answers as text: pure functions from data to what `-o json|tsv|table` prints."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Columns = Sequence[tuple[str, str | Callable[[Mapping[str, Any]], Any]]]
"""(title, dotted key or function of the row) of a table."""

_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def as_json(data: Any) -> str:
    """JSON, indented by 2. Characters that steer terminals, and bytes that are no text, are escaped."""
    return _UNSAFE.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(data, indent=2, ensure_ascii=False))


def as_tsv(data: Any) -> str:
    """Tab-separated values as az prints them: a line for each element, the values of a mapping side by side.

    What is nested deeper shows as its length (a list) or as nothing (a mapping), so that columns stay aligned.
    """
    rows = data if isinstance(data, list) else [data]
    return "".join(_tsv_row(row) + "\n" for row in rows)


def _tsv_row(row: Any) -> str:
    if isinstance(row, Mapping):
        row = list(row.values())
    if isinstance(row, list):
        return "\t".join(_tsv_cell(cell) for cell in row)
    return scalar(row)


def _tsv_cell(cell: Any) -> str:
    if isinstance(cell, list):
        return str(len(cell))
    return "" if isinstance(cell, Mapping) else scalar(cell)


def scalar(value: Any) -> str:
    """A single value as plain text: nothing for None, `true` and `false` as in JSON."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def as_table(data: Any, columns: Columns = ()) -> str:
    """Aligned columns under a header for a list, or one row for a single mapping; scalars one per line."""
    header, rows = table_cells(data, columns)
    if not header:
        return as_tsv(data)
    flat = [[" ".join(cell.split()) for cell in row] for row in rows]
    widths = [max(len(cell) for cell in column) for column in zip(header, *flat, strict=True)]
    lines = [header, ["-" * width for width in widths], *flat]
    return "".join("  ".join(map(str.ljust, cells, widths)).rstrip() + "\n" for cells in lines)


def table_cells(data: Any, columns: Columns = ()) -> tuple[list[str], list[list[str]]]:
    """The header and the cells of *data* as a table; no header if it is no list of mappings (or of lists) or mapping.

    Without *columns*, every key that holds a scalar anywhere is one, as in az.
    """
    rows = data if isinstance(data, list) else [data]
    if rows and all(isinstance(row, list) for row in rows):
        width = max(map(len, rows))
        titles = [f"Column{number + 1}" for number in range(width)]
        return titles, [[_table_cell(cell) for cell in row] + [""] * (width - len(row)) for row in rows]
    if not columns:
        if not rows or not all(isinstance(row, Mapping) for row in rows):
            return [], []
        keys = dict.fromkeys(k for row in rows for k, v in row.items() if not isinstance(v, Mapping | list))
        columns = [(title(key), key) for key in keys]
    return [name for name, _ in columns], [
        [_table_cell(key(row) if callable(key) else at(row, key)) for _, key in columns] for row in rows
    ]


def _table_cell(cell: Any) -> str:
    if isinstance(cell, Mapping | list):
        return json.dumps(cell, ensure_ascii=False) if cell else ""
    return scalar(cell)


def at(data: Any, dotted: str) -> Any:
    """What *data* holds at the *dotted* key; None if it is not there."""
    for key in dotted.split("."):
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def title(key: str) -> str:
    """A heading for *key*: `mini_batch_size` is `Mini batch size`."""
    words = key.replace("_", " ").strip()
    return words[:1].upper() + words[1:]
