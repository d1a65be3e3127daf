"""Which format the merged output has, and what does not go with it."""

from __future__ import annotations

from hpcbatch.errors import SpecError
from hpcbatch.records.rows import row_format


def check_header(output_action: str, output_file_name: str, output_header: str) -> None:
    """Raise SpecError for a header line in an output whose rows have names of their own."""
    kind = row_format(output_file_name)
    if output_action == "append_row" and output_header and kind != "text":
        raise SpecError(
            f"output_header is for text; {output_file_name!r} is {kind}, whose rows have names of their own.",
            hint="Leave it out, or name a file for text: --set output_file_name=predictions.csv",
            field="properties.hpcbatch.output_header", found=output_header, allowed="nothing",
        )  # fmt: skip
