"""In which format rows travel and are merged; the name of the output says it."""

from __future__ import annotations

import os

FROM_ROWS = "true"  # as an output header: the names of the rows' columns, as for `row_formats.RowFormat`
_BY_EXTENSION = {".parquet": "parquet", ".pqt": "parquet", ".jsonl": "jsonl"}


def row_format(output_file_name: str) -> str:
    """`parquet` for .parquet and .pqt, `jsonl` for .jsonl, else `text`; the case of letters does not matter."""
    return _BY_EXTENSION.get(os.path.splitext(output_file_name)[1].lower(), "text")
