"""From the arguments of `invoke` to one request."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcbatch.client.entities import Data
from hpcbatch.client.entity import Part, PathLike, plain
from hpcbatch.client.job import Output
from hpcbatch.errors import SpecError
from hpcbatch.operations.invoke import InputRef
from hpcbatch.spec.job_settings import SETTINGS, parsed
from hpcbatch.spec.yamlfile import Loaded


@dataclass(frozen=True)
class Input:
    """A pointer to data: `path` is a folder (`uri_folder`), a file (`uri_file`), an address, or the id of a data asset.

    `storage_options` are fsspec's, for an address, with credentials by reference: `{"key": {"env": "VARIABLE"}}`.
    """

    path: PathLike
    type: str = "uri_folder"
    storage_options: Mapping[str, Any] = field(default_factory=dict)


Given = Input | Data | PathLike
Literal = str | int | float | bool


def document_of(
    inputs: Mapping[str, Given | Literal] | None,
    outputs: Mapping[str, Output | PathLike] | None,
    output_path: PathLike | None,
) -> Loaded:
    """What a pipeline is invoked with, as the document that `--file` would be; paths start at the current folder."""
    document: dict[str, Any] = {}
    if inputs:
        document["inputs"] = {name: literal_or_path(one) for name, one in inputs.items()}
    if outputs:
        document["outputs"] = {name: {"path": os.fspath(one)} for name, one in outputs.items()}
    if output_path is not None:
        raise SpecError(
            "output_path does not say which output of the pipeline it is for.",
            hint="Say it: outputs={NAME: FOLDER}.", field="output_path",
        )  # fmt: skip
    return Loaded(document, "the call of invoke", {}, Path.cwd())


def literal_or_path(given: Given | Literal) -> Any:
    """The value as a document has it: a literal, which a plain text may be, or a mapping with path and type."""
    if isinstance(given, Input):
        found = {"path": os.fspath(given.path), "type": str(plain(given.type))}
        return {**found, "storage_options": dict(given.storage_options)} if given.storage_options else found
    if isinstance(given, Data):
        return {"path": os.fspath(given.path or ""), "type": str(given.type or "uri_folder")}
    return {"path": os.fspath(given)} if isinstance(given, os.PathLike) else given


def input_of(given: Given | None, inputs: Mapping[str, Given | Literal] | None) -> InputRef | None:
    """The one input. A bare path is a file if there is a file of that name, else a folder."""
    if inputs is not None:
        if given is not None or len(inputs) != 1:
            count = len(inputs) + (given is not None)
            raise SpecError(
                f"A model deployment takes exactly one data input; here are {count}.",
                hint="Give one: input=PATH.", field="inputs", found=count, allowed=1,
            )  # fmt: skip
        (only,) = inputs.values()
        if isinstance(only, int | float):
            raise SpecError("A model deployment takes data.", hint="input=PATH", field="inputs", found=only)
        given = only
    if given is None:
        return None
    if isinstance(given, Input):
        return InputRef(os.fspath(given.path), str(plain(given.type)), dict(given.storage_options))
    if isinstance(given, Data):
        return InputRef(os.fspath(given.path or ""), str(given.type or "uri_folder"))
    if not isinstance(given, str | os.PathLike):
        raise SpecError(
            f"The input is {given!r}, which is no path.", hint="For example: input='/shared/data'",
            field="input", found=given, allowed="a path, an Input or a Data",
        )  # fmt: skip
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
    for one in [*_documents(params), {key: value for key, value in keywords.items() if value is not None}]:
        for key, value in _flat(one):
            setting, checked = parsed(key, value) or (key.removeprefix("settings."), value)
            found[setting] = checked
    return found


def _documents(params: Iterable[Mapping[str, Any]] | None) -> list[Mapping[str, Any]]:
    """Azure ML's list of mappings; one mapping alone is taken as such a list, too."""
    given = [params] if isinstance(params, Mapping) else list(params or ())
    for one in given:
        if not isinstance(one, Mapping):
            raise SpecError(
                f"params_override holds {one!r}, which is no mapping.",
                hint='For example: params_override=[{"mini_batch_size": 5}]',
                field="params_override", found=one, allowed="a list of mappings",
            )  # fmt: skip
    return given


def _flat(given: Mapping[str, Any] | Part, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    document = given.document() if isinstance(given, Part) else given
    for key, value in document.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping | Part) and dotted.removeprefix("settings.") not in SETTINGS:
            found += _flat(value, f"{dotted}.")
        else:
            found.append((dotted, plain(value)))
    return found
