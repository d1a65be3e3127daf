"""What a deployment says about its output beyond Azure ML: in `properties`, which Azure ML takes as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcbatch.errors import SpecError

FROM_ROWS = "true"
PREFIX = "hpcbatch"
OPTIONS = ("output_header", "output_input_column")


def output_options(properties: Mapping[str, Any], field: str = "properties") -> dict[str, str]:
    """The options in *properties*, "" where one is not given: `hpcbatch.output_header: "true"`, or the two words as
    nested keys, which is what `--set` makes of it. Raises SpecError for another `hpcbatch.` key or an impossible value.
    """
    nested = properties.get(PREFIX)
    found = {f"{PREFIX}.{key}": value for key, value in nested.items()} if isinstance(nested, Mapping) else {}
    found |= {key: value for key, value in properties.items() if key.startswith(f"{PREFIX}.")}
    options = dict.fromkeys(OPTIONS, "")
    for key, value in found.items():
        name = key.removeprefix(f"{PREFIX}.")
        if name not in options:
            raise SpecError(
                f"{field}.{key} is not known.",
                hint=f"Known: {', '.join(f'{PREFIX}.{one}' for one in OPTIONS)}.",
                field=f"{field}.{key}", found=value, allowed=", ".join(f"{PREFIX}.{one}" for one in OPTIONS),
            )  # fmt: skip
        options[name] = checked_option(name, value)
    return options


def checked_option(name: str, value: Any) -> str:
    """The *value* of one option as text; "" switches it off. Raises SpecError."""
    if value is None or value is False:
        return ""
    text = FROM_ROWS if value is True else str(value)
    if name == "output_header" and text.lower() in ("true", "false"):
        text = FROM_ROWS if text.lower() == "true" else ""
    if any(ord(char) < 32 for char in text) or len(text) > 10_000 or (name != "output_header" and value is True):
        example = "hpcbatch.output_header=true" if name == "output_header" else "hpcbatch.output_input_column=file"
        raise SpecError(
            f"{name} is {value!r}, which is not one line of text.", hint=f"For example: --set properties.{example}",
            field=f"properties.{PREFIX}.{name}", found=value, allowed="one line of text",
        )  # fmt: skip
    return text
