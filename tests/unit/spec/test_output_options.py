"""What a deployment says about its output in `properties`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.operations.overrides import overridden
from hpcbatch.operations.resolve import ResolvedSettings
from hpcbatch.records.rows import row_format
from hpcbatch.spec.deployment import parse_deployment
from hpcbatch.spec.output_options import output_options
from hpcbatch.spec.yamlfile import load

SETTINGS = ResolvedSettings(10, 1, 1, -1, 3, 30.0, "append_row", "predictions.csv", "info", {})


@pytest.mark.parametrize(
    ("properties", "header", "column"),
    [
        ({}, "", ""),
        ({"team": "x", "other.output_header": "y"}, "", ""),
        ({"hpcbatch.output_header": "true", "hpcbatch.output_input_column": "file"}, "true", "file"),
        ({"hpcbatch": {"output_header": True, "output_input_column": "file"}}, "true", "file"),
        ({"hpcbatch.output_header": "a b c"}, "a b c", ""),
        ({"hpcbatch.output_header": "False", "hpcbatch.output_input_column": None}, "", ""),
        ({"hpcbatch": "a word"}, "", ""),
    ],
)
def test_options_stand_in_properties_as_one_word_or_nested(
    properties: dict[str, Any], header: str, column: str
) -> None:
    """Azure ML keeps any property; `--set properties.hpcbatch.output_header=true` nests."""
    assert output_options(properties) == {"output_header": header, "output_input_column": column}


@pytest.mark.parametrize(
    "properties",
    [
        {"hpcbatch.output_heading": "true"},
        {"hpcbatch": {"outputs": 1}},
        {"hpcbatch.output_header": "two\nlines"},
        {"hpcbatch.output_input_column": True},
    ],
)
def test_an_option_that_is_unknown_or_impossible_is_an_error_in_its_line(
    tmp_path: Path, properties: dict[str, Any]
) -> None:
    """A misspelt one would be silently no option."""
    with pytest.raises(SpecError, match="output_"):
        output_options(properties)
    file = tmp_path / "deployment.yml"
    head = "name: blue\nendpoint_name: heart\nmodel: azureml:m:1\nproperties: "
    file.write_text(head + json.dumps(properties))
    with pytest.raises(SpecError, match=r"deployment\.yml:4: .*output"):
        parse_deployment(load(file))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.csv", "text"), ("a", "text"), ("a.jsonl", "jsonl"), ("a.PARQUET", "parquet"), ("a.pqt", "parquet"),
     ("parquet", "text"), ("a.parquet.txt", "text")],
)  # fmt: skip
def test_the_name_of_the_output_says_its_format(name: str, kind: str) -> None:
    """By what is behind its last dot."""
    assert row_format(name) == kind


def test_one_job_may_have_other_options() -> None:
    """And may switch them off."""
    settings, _ = overridden(SETTINGS, {"output_header": True, "output_input_column": "file"})
    assert (settings.output_header, settings.output_input_column) == ("true", "file")
    settings, _ = overridden(settings, {"output_header": False, "output_file_name": "x.jsonl"})
    assert (settings.output_header, settings.output_file_name) == ("", "x.jsonl")


def test_a_header_in_a_file_that_has_none_is_refused() -> None:
    """Before anything runs."""
    for name in ("x.jsonl", "x.parquet"):
        with pytest.raises(SpecError, match="output_header is for text"):
            overridden(SETTINGS, {"output_header": "a b", "output_file_name": name})


def test_parquet_without_pyarrow_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to install; the merge would only find out in the end."""
    monkeypatch.setattr("hpcbatch.operations.overrides.find_spec", lambda name: None)
    with pytest.raises(SpecError, match=r"pip install 'hpcbatch\[arrow\]'"):
        overridden(SETTINGS, {"output_file_name": "x.parquet"})
    overridden(SETTINGS, {"output_file_name": "x.jsonl"})
