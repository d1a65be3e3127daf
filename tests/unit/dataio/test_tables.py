"""The output as a table: what the file is, its ending says."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from hpcbatch.dataio.tables import read_arrow, read_pandas
from hpcbatch.errors import SpecError

FRAME = pd.DataFrame({"code": ["007", "2024-01-02"], "at": ["1", None], "n": [1, 2]})


@pytest.mark.parametrize("name", ["rows.parquet", "rows.PQT"])
def test_typed_rows_come_back_with_their_types(tmp_path: Path, name: str) -> None:
    """And with other names if wanted."""
    FRAME.to_parquet(tmp_path / name)
    pd.testing.assert_frame_equal(read_pandas(tmp_path / name, None), FRAME)
    assert list(read_pandas(tmp_path / name, ["a", "b", "c"]).columns) == ["a", "b", "c"]
    assert read_arrow(tmp_path / name, None).column_names == ["code", "at", "n"]


def test_json_lines_are_not_taken_for_numbers_or_dates(tmp_path: Path) -> None:
    """Text stays text: a code of 007 is no seven."""
    path = tmp_path / "rows.jsonl"
    FRAME.to_json(path, orient="records", lines=True)
    assert list(read_pandas(path, None)["code"]) == ["007", "2024-01-02"]
    assert list(read_pandas(path, None, dtype={"n": "float64"})["n"]) == [1.0, 2.0]
    assert read_arrow(path, None).num_rows == 2


def test_lines_that_are_values_or_lists_are_numbered_columns(tmp_path: Path) -> None:
    """As the rows of text are."""
    path = tmp_path / "rows.jsonl"
    path.write_text('1\n"a"\n')
    assert list(read_pandas(path, ["x"])["x"]) == [1, "a"]
    path.write_text("[1, 2]\n[3, 4]\n")
    assert read_pandas(path, None).to_dict("list") == {0: [1, 3], 1: [2, 4]}
    with pytest.raises(SpecError, match="2 columns"):
        read_pandas(path, ["x"])
