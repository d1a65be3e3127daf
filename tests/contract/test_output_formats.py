"""The output in the format that its name asks for, whole jobs: the same bytes however they were run."""

from __future__ import annotations

import io
import json

import pyarrow.parquet as pq

from tests.site import Site

ROWS = """
import os
import pandas as pd

def run(mini_batch):
    numbers = [int(os.path.basename(path)[:5]) for path in mini_batch]
    shares = [number / 2 for number in numbers] if numbers[0] >= 6 else numbers
    return pd.DataFrame({"name": [f"no {n}" for n in numbers], "share": shares})
"""
EXPECTED = [{"name": f"no {n}", "share": n / 2 if n >= 6 else float(n), "file": f"{n:05d}.txt"} for n in range(12)]
MIXED = """
import os

def run(mini_batch):
    return [{"v": "text" if "00004" in path else 1} for path in mini_batch]
"""


def test_a_parquet_output_has_the_types_of_the_rows_and_the_same_bytes_however_it_was_run(site: Site) -> None:
    """Whole numbers in some mini-batches and fractions in others; the file of each row beside it."""
    deployment = site.deploy(
        ROWS, mini_batch_size=3, output_file_name="rows.parquet", instances=2,
        extra={"properties": {"hpcbatch.output_input_column": "file"}},
    )  # fmt: skip
    data = site.data(12)
    one, four = site.run(deployment, data, groups=1), site.run(deployment, data, groups=4)
    assert one.output is not None
    table = pq.read_table(io.BytesIO(one.output))
    assert table.to_pylist() == EXPECTED
    assert str(table.schema.field("share").type) == "double"
    assert four.output == one.output


def test_json_lines_and_a_header_are_options_of_one_job(site: Site) -> None:
    """By the name of the output, and by `--set`."""
    deployment, data = site.deploy(ROWS, mini_batch_size=3), site.data(12)
    lines = site.run(deployment, data, output_file_name="rows.jsonl", output_input_column="file").output
    assert lines is not None
    assert [json.loads(line) for line in lines.splitlines()] == EXPECTED
    text = site.run(deployment, data, output_header=True, output_input_column="file", mini_batch_size=6).output
    assert text is not None
    assert text.splitlines()[:2] == [b"name share file", b'"no 0" 0 00000.txt']
    assert len(text.splitlines()) == 13


def test_types_that_make_no_one_column_fail_the_job_with_the_mini_batch_that_has_them(site: Site) -> None:
    """Nothing is lost or guessed: the words say which files, which column, and what to do."""
    together = site.run(site.deploy(MIXED, mini_batch_size=2, output_file_name="rows.parquet"), site.data(6))
    assert together.output is not None  # both values are in one mini-batch: it alone fails
    assert len(pq.read_table(io.BytesIO(together.output))) == 4
    assert together.job["progress"]["items_failed"] == 2
    one_each = site.run(site.deploy(MIXED, mini_batch_size=1, output_file_name="rows.parquet"), site.data(6))
    assert (one_each.status, one_each.output) == ("Failed", None)
    assert "mini-batch 4 (" in one_each.detail
    assert "column 'v' is of type string" in one_each.detail
