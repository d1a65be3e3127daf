"""Answers as text: what scripts parse."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hpcbatch.cli import formats


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("Completed", "Completed\n"),
        (3, "3\n"),
        (True, "true\n"),
        (["b", "a"], "b\na\n"),
        ([], ""),
        ({"name": "x", "count": 2}, "x\t2\n"),
        ([{"name": "x", "tags": {"a": 1}, "n": None}, {"name": "y", "tags": {}, "n": [1, 2]}], "x\t\t\ny\t\t2\n"),
        ([["a", 1], ["b", None]], "a\t1\nb\t\n"),
        ([None, "a"], "\na\n"),
        ("with\ttab", "with\ttab\n"),
    ],
)
def test_tsv_prints_as_az(data: Any, text: str) -> None:
    """Scalars raw, a line for each element, the values of a mapping side by side, nothing for None."""
    assert formats.as_tsv(data) == text


def test_json_survives_what_terminals_and_encodings_do_not() -> None:
    """Control characters, bidi overrides and bytes that are no text are escaped; the value stays the same."""
    data = {"name": "ä\x1b[31m\x9b\u202e\udcff", "n": [1, None, True]}
    text = formats.as_json(data)
    assert json.loads(text) == data
    assert "ä" in text
    assert not any(bad in text for bad in "\x1b\x9b\u202e\udcff")
    text.encode()


def test_a_list_becomes_aligned_columns() -> None:
    """The given columns, in their order, dotted keys looked up; what is missing stays empty."""
    data = [{"name": "a", "defaults": {"deployment_name": "v1"}}, {"name": "longer", "defaults": {}}]
    table = formats.as_table(data, (("Name", "name"), ("Default", "defaults.deployment_name")))
    assert table == "Name    Default\n------  -------\na       v1\nlonger\n"


def test_without_columns_every_scalar_key_is_one() -> None:
    """As az does: nested values are left out."""
    table = formats.as_table([{"name": "a", "n_items": 1, "tags": {}}, {"name": "b", "late": True}])
    assert table.splitlines()[0].split("  ") == ["Name", "N items", "Late"]
    assert table.splitlines()[3].split() == ["b", "true"]


def test_lists_of_lists_get_numbered_columns() -> None:
    """As az prints a multiselect query."""
    assert formats.as_table([["a", 1], ["b"]]) == "Column1  Column2\n-------  -------\na        1\nb\n"


def test_a_cell_keeps_its_line() -> None:
    """A line break inside a value does not break the table."""
    assert formats.as_table([{"name": "a\nb"}]).splitlines() == ["Name", "----", "a b"]


@pytest.mark.parametrize("data", ["word", ["a", "b"], 3, []])
def test_scalars_need_no_table(data: Any) -> None:
    """What has no keys prints one per line."""
    assert formats.as_table(data) == formats.as_tsv(data)
