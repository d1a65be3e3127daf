"""From the arguments of `invoke`, its `--file` and its `--set`s to one request; pure but for reading the file."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbatch.cli import render
from hpcbatch.errors import SpecError
from hpcbatch.spec.job_settings import SETTINGS, parsed

if TYPE_CHECKING:
    from hpcbatch.operations.invoke import InputRef, InvokeRequest

DATA_TYPES = ("uri_folder", "uri_file")


@dataclass(frozen=True)
class Given:
    """What the command line of `invoke` says."""

    endpoint: str | None = None
    deployment: str | None = None
    input: str | None = None
    input_type: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    output_path: str | None = None
    mini_batch_size: int | None = None
    instance_count: int | None = None
    job_name: str | None = None
    experiment_name: str | None = None
    file: str | None = None
    sets: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)  # what else flags change for this job
    dependency: str | None = None


def request_of(given: Given) -> InvokeRequest:
    """One request. The file's inputs win over `--input`, `--set inputs.…` over both; other flags win over the file."""
    with _located(given):
        return _request(given)


@contextmanager
def _located(given: Given) -> Iterator[None]:
    """Give a SpecError about a field that stands in the file, and that no `--set` changed, its file and its line."""
    try:
        yield
    except SpecError as error:
        field = str(error.fields.get("field") or "")
        changed = any(one.partition("=")[0].removeprefix("settings.").startswith(field) for one in given.sets)
        if given.file is not None and error.fields.get("file") is None and not changed:
            from hpcbatch.spec.yamlfile import load

            lines, parts = load(Path(given.file)).lines, field.split(".")
            around = [tuple(parts[:length]) for length in range(len(parts), 0, -1)]
            found = (lines[one] for path in around for one in (path, ("settings", *path)) if one in lines)
            if (line := next(found, None)) is not None:
                error.fields.update(file=given.file, line=line)
        raise


def _request(given: Given) -> InvokeRequest:
    from hpcbatch.operations.invoke import InvokeRequest

    document = document_of(given)
    endpoint, deployment = target_of(given, document)
    overrides = _overrides(document, {one.partition("=")[0].strip() for one in given.sets})
    for key in ("mini_batch_size", "instance_count"):
        if getattr(given, key) is not None:
            overrides[key] = getattr(given, key)
    for key, said in given.settings.items():
        _, value = parsed(key, said) or (key, said)
        if key == "environment_variables":
            value = {**overrides.get(key, {}), **value}
        overrides[key] = value
    return InvokeRequest(
        endpoint=endpoint,
        deployment=deployment,
        input=_input(given, document),
        job_name=given.job_name or _text(document, "job_name"),
        experiment_name=given.experiment_name or experiment_of(document),
        output_path=given.output_path or _output_path(document),
        overrides=overrides,
        output_options=_output_options(document),
        dependency=given.dependency or _text(document, "dependency"),
    )


def target_of(given: Given, document: Mapping[str, Any]) -> tuple[str, str | None]:
    """Which endpoint is invoked, and which deployment if that is said. Raises SpecError without an endpoint."""
    endpoint = given.endpoint or document.get("endpoint")
    if not endpoint:
        raise SpecError("Which endpoint?", hint="Name it: hpcbatch batch-endpoint invoke --name NAME", field="--name")
    return str(endpoint), given.deployment or _text(document, "deployment")


def document_of(given: Given) -> dict[str, Any]:
    """The file's content with `--inputs`, `--outputs` and the sets applied; its relative paths are made absolute."""
    from hpcbatch.spec.yamlfile import apply_sets, load

    document: dict[str, Any] = {}
    if given.file is not None:
        loaded = load(Path(given.file))
        document = {**loaded.data, **_rooted(loaded.data, loaded.folder)}
    for key, flag in (("inputs", given.inputs), ("outputs", given.outputs)):
        if flag is not None:
            document[key] = _json_mapping(flag, f"--{key}")
    if any(one.startswith("inputs.") for one in given.sets):
        document.pop("inputs", None)
    for key in ("inputs", "outputs"):
        if document.get(key) is None:
            document.pop(key, None)
    return apply_sets(document, given.sets)


def _rooted(data: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The inputs and outputs of a file with paths that no longer depend on where the command runs."""
    rooted: dict[str, Any] = {}
    for key in ("inputs", "outputs"):
        named = data.get(key)
        if isinstance(named, Mapping):
            rooted[key] = {name: _rooted_entry(entry, folder) for name, entry in named.items()}
    return rooted


def _rooted_entry(entry: Any, folder: Path) -> Any:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        return entry
    path = entry["path"]
    is_local = "://" not in path and not path.startswith("azureml:")
    return {**entry, "path": str(folder / Path(path).expanduser()) if is_local else path}


def _json_mapping(flag: str, name: str) -> dict[str, Any]:
    try:
        value = json.loads(flag)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise SpecError(
            f"{name} is not a JSON object: {flag!r}.",
            hint=f'For example: {name} \'{{"x": {{"type": "uri_folder", "path": "/shared/data"}}}}\'',
            field=name, found=flag, allowed="a JSON object",
        )  # fmt: skip
    return value


def _input(given: Given, document: Mapping[str, Any]) -> InputRef | None:
    from hpcbatch.operations.invoke import InputRef

    named = document.get("inputs")
    if named is None:
        if given.input is None:
            return None
        return InputRef(given.input, given.input_type or "uri_folder", _storage_options(document, {}))
    if not isinstance(named, Mapping) or len(named) != 1:
        here = f"here are {len(named)}" if isinstance(named, Mapping) else f"inputs is {named!r}, which names none"
        raise SpecError(
            f"A model deployment takes exactly one data input; {here}.",
            hint="Give one: --input PATH, or inputs.NAME.path and inputs.NAME.type.",
            field="inputs", found=named, allowed="one data input",
        )  # fmt: skip
    ((name, entry),) = named.items()
    if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
        raise SpecError(
            f"Input {name!r} is a literal; a model deployment takes data.",
            hint=f"Give it a path: inputs.{name}.path=/shared/data inputs.{name}.type=uri_folder",
            field=f"inputs.{name}", found=entry, allowed="type and path",
        )  # fmt: skip
    kind = entry.get("type", given.input_type or "uri_folder")
    if kind not in DATA_TYPES:
        raise SpecError(
            f"Input {name!r} has the type {kind!r}; a model deployment takes {' or '.join(DATA_TYPES)}.",
            hint=f"Say: inputs.{name}.type=uri_folder (or uri_file)",
            field=f"inputs.{name}.type", found=kind, allowed=list(DATA_TYPES),
        )  # fmt: skip
    return InputRef(entry["path"], kind, _storage_options(document, entry))


def _storage_options(document: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the document, and over them those of one input or output."""
    found: dict[str, Any] = {}
    for given in (document.get("storage_options"), entry.get("storage_options")):
        if given is not None and not isinstance(given, Mapping):
            raise SpecError(
                "storage_options is no mapping.", hint="For example: --set storage_options.profile=team",
                field="storage_options", found=type(given).__name__, allowed="a mapping",
            )  # fmt: skip
        found |= given or {}
    return found


def _output_options(document: Mapping[str, Any]) -> dict[str, Any]:
    entries = list(document["outputs"].values()) if isinstance(document.get("outputs"), Mapping) else []
    return _storage_options(document, entries[0] if entries and isinstance(entries[0], Mapping) else {})


def _output_path(document: Mapping[str, Any]) -> str | None:
    named = document.get("outputs")
    if named is None:
        dataset = document.get("output_dataset")
        return _text(dataset, "path") if isinstance(dataset, Mapping) else None
    if not isinstance(named, Mapping) or len(named) != 1:
        raise SpecError(
            "A model deployment has exactly one output.",
            hint="Give one: --output-path FOLDER, or outputs.NAME.path.",
            field="outputs", found=named, allowed="one output",
        )  # fmt: skip
    ((_, entry),) = named.items()
    return _text(entry, "path") if isinstance(entry, Mapping) else None


def experiment_of(document: Mapping[str, Any]) -> str | None:
    """The experiment that the document names, as Azure ML's CLI or its REST interface would."""
    properties = document.get("properties")
    below = _text(properties, "experimentName") if isinstance(properties, Mapping) else None
    return _text(document, "experiment_name") or below


def _text(document: Mapping[str, Any], key: str) -> str | None:
    return str(document[key]) if document.get(key) is not None else None


_OTHER_KEYS = frozenset(
    ("inputs", "outputs", "deployment", "endpoint", "job_name", "experiment_name", "properties.experimentName",
     "output_dataset.path", "storage_options", "dependency", "$schema")
)  # fmt: skip


def _overrides(document: Mapping[str, Any], asked: Collection[str]) -> dict[str, Any]:
    """What the document changes of the deployment's settings for this one job; `settings.` may stand in front.

    A key that cannot be changed is an error if it was *asked* for with `--set`, and a warning if it stands in the file.
    """
    overrides: dict[str, Any] = {}
    for key, value in _flat(document):
        if found := parsed(key, value):
            overrides[found[0]] = found[1]
        elif key in asked and key not in _OTHER_KEYS:
            raise _not_for_one_job(key, value)
        elif key not in _OTHER_KEYS:
            render.warning(f"{key} is ignored: it cannot be changed for one job. What can: {', '.join(SETTINGS)}.")
    return overrides


def _not_for_one_job(key: str, value: Any) -> SpecError:
    from difflib import get_close_matches

    close = get_close_matches(key.removeprefix("settings."), SETTINGS, n=1)
    guess = f" Did you mean {close[0]}?" if close else ""
    return SpecError(
        f"{key} cannot be changed for one job.{guess} What can: {', '.join(SETTINGS)}.",
        hint="Change the deployment: hpcbatch batch-deployment update --name NAME --endpoint-name NAME --set KEY=VALUE",
        field=key, found=value, allowed=sorted(SETTINGS),
    )  # fmt: skip


def _flat(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        dotted = f"{prefix}{key}"
        whole = dotted.removeprefix("settings.") in SETTINGS or dotted in _OTHER_KEYS
        found += [(dotted, value)] if whole or not isinstance(value, Mapping) else _flat(value, f"{dotted}.")
    return found
