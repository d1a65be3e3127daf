"""How the rows of a job become its output: copied as they are, under a header, or as Parquet."""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from pathlib import Path

from hpcbatch.merge.payloads import Payloads, RowsDiffer
from hpcbatch.merge.write import copy_checked
from hpcbatch.records.job import ScoringPart
from hpcbatch.records.merge_plan import MergePlan
from hpcbatch.records.rows import FROM_ROWS, row_format

_LENGTH = struct.Struct("<I")


def filler(root: Path, plan: MergePlan, scoring: ScoringPart) -> Callable[[int], str | None]:
    """What `write_output` takes. Called, it raises DamagedPayload, RowsDiffer."""
    if row_format(scoring.output_file_name) == "parquet":
        from hpcbatch.merge.typed import write_parquet  # pyarrow, only where the output needs it

        return functools.partial(write_parquet, root, plan)
    if scoring.output_header == FROM_ROWS:
        return functools.partial(_with_header_of_rows, root, plan)
    header = f"{scoring.output_header}\n" if scoring.output_header else ""
    return functools.partial(copy_checked, root, plan, header=header.encode())


def _with_header_of_rows(root: Path, plan: MergePlan, out: int) -> str | None:
    prefix = _common_prefix(root, plan)
    return copy_checked(root, plan, out, header=prefix[_LENGTH.size :], prefix=prefix)


def _common_prefix(root: Path, plan: MergePlan) -> bytes:
    """The length of the header and the header, with which every payload begins; b"" if there is no payload."""
    prefix = b""
    with Payloads(root, plan) as payloads:
        for payload in payloads:
            begin = payloads.begin(payload, len(prefix) or _LENGTH.size)
            if not prefix:
                size = _LENGTH.size + _LENGTH.unpack(begin.ljust(_LENGTH.size))[0]
                prefix = begin = payloads.begin(payload, size)
            if begin != prefix:
                payloads.check(payload.mini_batch)
                names = prefix[_LENGTH.size :].decode("utf-8", "replace").strip()
                raise RowsDiffer(payload.mini_batch, f"the columns are not {names!r}, as before that")
    return prefix
