"""From the arguments of `invoke` to one request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from hpcbatch.client.entities import Data
from hpcbatch.client.entity import Part, PathLike, plain
from hpcbatch.client.job import Output
from hpcbatch.errors import SpecError
from hpcbatch.operations.invoke import InputRef

# Azure ML's names of what can be changed for one job, and ours, where they differ.
_NAMES = {
    "compute.instance_count": "instance_count",
    "resources.instance_count": "instance_count",
    "retry_settings.max_retries": "max_retries",
    "retry_settings.timeout": "timeout_s",
}
_WHOLE = ("environment_variables",)


@dataclass(frozen=True)
class Input:
    """A pointer to data: `path` is a folder (`uri_folder`), a file (`uri_file`), or the id of a data asset."""

    path: PathLike
    type: str = "uri_folder"


Given = Input | Data | PathLike


def input_of(given: Given | None, inputs: Mapping[str, Given] | None) -> InputRef | None:
    """The one input. A bare path is a file if there is a file of that name, else a folder."""
    if inputs is not None:
        if given is not None or len(inputs) != 1:
            count = len(inputs) + (given is not None)
            raise SpecError(
                f"A model deployment takes exactly one data input; here are {count}.",
                hint="Give one: input=PATH.", field="inputs", found=count, allowed=1,
            )  # fmt: skip
        (given,) = inputs.values()
    if given is None:
        return None
    if isinstance(given, Input):
        return InputRef(os.fspath(given.path), str(plain(given.type)))
    if isinstance(given, Data):
        return InputRef(os.fspath(given.path or ""), str(given.type or "uri_folder"))
    path = os.fspath(given)
    return InputRef(path, "uri_file" if os.path.isfile(os.path.expanduser(path)) else "uri_folder")


def output_of(path: PathLike | None, outputs: Mapping[str, Output | PathLike] | None) -> str | None:
    """The folder for the results, from either argument."""
    if not outputs:
        return None if path is None else os.fspath(path)
    if path is not None or len(outputs) != 1:
        raise SpecError(
            "A model deployment has exactly one output.",
            hint="Give one folder: output_path=FOLDER.", field="outputs", found=sorted(outputs), allowed=1,
        )  # fmt: skip
    (only,) = outputs.values()
    return os.fspath(only)


def overrides_of(keywords: Mapping[str, Any], params: Iterable[Mapping[str, Any]] | None) -> dict[str, Any]:
    """What one job changes of the deployment's settings; *keywords* win over Azure ML's `params_override`."""
    found: dict[str, Any] = {}
    for one in [*(params or ()), {key: value for key, value in keywords.items() if value is not None}]:
        for key, value in _flat(one):
            name = key.removeprefix("settings.")
            found[_NAMES.get(name, name)] = value
    return found


def _flat(given: Mapping[str, Any] | Part, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    document = given.document() if isinstance(given, Part) else given
    for key, value in document.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping | Part) and dotted.removeprefix("settings.") not in _WHOLE:
            found += _flat(value, f"{dotted}.")
        else:
            found.append((dotted, plain(value)))
    return found
