"""From a component's document to its body: what is kept of it, with code copied and every reference looked up.

A body is plain JSON. That of a pipeline holds the bodies of its steps, so that nothing that happens to a file or to an
asset afterwards changes what was registered.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations import assets
from hpcbatch.operations.places import resolve_place
from hpcbatch.operations.scripts import check_kept
from hpcbatch.operations.versions import local_path, located, referred_by
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import code_file, put_code
from hpcbatch.spec.assets import Environment
from hpcbatch.spec.component import (
    CommandComponent,
    CommandFields,
    Component,
    OtherComponent,
    ParallelComponent,
    ParallelFields,
    PipelineComponent,
)
from hpcbatch.spec.ports import LITERALS, InputPort, OutputPort
from hpcbatch.spec.refs import is_ref, parse_ref
from hpcbatch.spec.yamlfile import Loaded

_ENVIRONMENT_FIELDS = ("name", "version", "registered", "image", "python", "requirements")
_PARALLEL_KEYS = (
    "input_data", "mini_batch_size", "partition_keys", "mini_batch_error_threshold", "error_threshold",
    "max_concurrency_per_instance", "logging_level",
)  # fmt: skip
_COMMAND_KEYS = ("distribution", "limits")


def section(loaded: Loaded) -> str:
    """The dotted place of *loaded* in its file."""
    return ".".join(map(str, loaded.written_as.get((), ())))


def command_body(ws: Workspace, component: CommandComponent, loaded: Loaded) -> dict[str, Any]:
    """The body of a command component. Raises SpecError for code that is not there."""
    body = _common(ws, component, loaded)
    body["command"] = component.command
    return {**body, **command_parts(ws, component, loaded), "environment_variables": component.environment_variables}


def command_parts(ws: Workspace, given: CommandFields, loaded: Loaded) -> dict[str, Any]:
    """Code, environment, resources and limits that *given* says, resolved; what it does not say is left out."""
    found: dict[str, Any] = {}
    with located(loaded, section(loaded)):
        if given.code is not None or given.additional_includes:
            found["code"] = _code(ws, given.code, given.additional_includes, loaded.folder, "code")
        if given.environment is not None:
            found["environment"] = environment_part(ws, given.environment, loaded.folder)
    found.update(_said(given, _COMMAND_KEYS))
    found.update(_resources(given))
    return found


def parallel_body(ws: Workspace, component: ParallelComponent, loaded: Loaded) -> dict[str, Any]:
    """The body of a parallel component."""
    body = _common(ws, component, loaded)
    return {**body, **parallel_parts(ws, component, loaded), "environment_variables": component.environment_variables}


def parallel_parts(ws: Workspace, given: ParallelFields, loaded: Loaded) -> dict[str, Any]:
    """Task, code and settings of mini-batches that *given* says, resolved; what it does not say is left out."""
    found = _said(given, _PARALLEL_KEYS)
    found.update(_resources(given))
    if given.retry_settings is not None:
        found["retry_settings"] = given.retry_settings.model_dump(exclude_unset=True)
    if given.task is None:
        return found
    with located(loaded, section(loaded)):
        if given.task.code is not None:
            found["code"] = _code(ws, given.task.code, (), loaded.folder, "task.code")
            script = (given.task.entry_script or "").removeprefix("file:")
            if script and "${{" not in script:
                folder = local_path(given.task.code, loaded.folder, field="task.code")
                check_kept(code_file(ws.root, found["code"]["digest"]), script, "task.entry_script", folder)
        if given.task.environment is not None:
            found["environment"] = environment_part(ws, given.task.environment, loaded.folder, "task.environment")
    keys = ("entry_script", "program_arguments", "append_row_to", "type")
    found["task"] = {key: getattr(given.task, key) for key in keys}
    return found


def other_body(ws: Workspace, component: OtherComponent, loaded: Loaded) -> dict[str, Any]:
    """The body of a component that is kept and not run: its ports, and the rest as it is written."""
    written = {key: value for key, value in loaded.data.items() if key not in _OF_THE_VERSION}
    return {**_common(ws, component, loaded), "written": written}


def ports_of(component: PipelineComponent | Component, ws: Workspace, loaded: Loaded) -> dict[str, Any]:
    """Inputs and outputs of *component* as they are kept; data that is a default is looked up now."""
    with located(loaded, section(loaded)):
        return {
            "inputs": {name: _input(ws, name, port, loaded.folder) for name, port in component.inputs.items()},
            "outputs": {name: _output(port) for name, port in component.outputs.items()},
        }


_OF_THE_VERSION = ("$schema", "name", "version", "description", "tags", "properties")


def _common(ws: Workspace, component: Component, loaded: Loaded) -> dict[str, Any]:
    return {
        "type": component.type,
        "display_name": component.display_name,
        "is_deterministic": component.is_deterministic,
        **ports_of(component, ws, loaded),
    }


def _input(ws: Workspace, name: str, port: InputPort, folder: Path) -> dict[str, Any]:
    shape = {key: value for key, value in port.shape().items() if key not in ("tags", "properties", "datastore")}
    given = port.path if port.path is not None else port.default
    if port.type not in LITERALS and given is not None:
        place = resolve_place(ws, str(given), port.type, folder, field=f"inputs.{name}")
        shape.pop("path", None)
        shape["default"] = {"path": place.path, "digest": place.digest}
        if place.options:
            shape["default"]["storage_options"] = dict(place.options)
    return shape


def _output(port: OutputPort) -> dict[str, Any]:
    return {key: value for key, value in port.shape().items() if key not in ("tags", "properties", "datastore")}


def _code(ws: Workspace, code: str | None, includes: Any, folder: Path, field: str) -> dict[str, Any]:
    if code is not None and (is_ref(code) or code.startswith("git+")):
        raise SpecError(
            f"{field}: {code!r} is not a folder of this filesystem.",
            hint="Copy the code to a folder next to the YAML, and name that.",
            field=field,
            found=code,
            allowed="a local folder",
        )
    source = local_path(code, folder, field=field) if code is not None else None
    more = [local_path(one, folder, field="additional_includes") for one in includes]
    snapshot = put_code(ws.root, source, includes=more)
    return {"digest": snapshot.digest, "size_bytes": snapshot.size_bytes}


def environment_part(
    ws: Workspace, given: str | Environment, folder: Path, field: str = "environment"
) -> dict[str, Any]:
    """What a job needs to find the interpreter: a registered version, or a name or image for a map to match."""
    if isinstance(given, str):
        image = given.removeprefix("docker:") if given.startswith("docker:") else None
        if image is not None:
            return {"name": assets.ANONYMOUS, "version": "1", "registered": False, "image": image, "python": None}
        with referred_by(field):
            found = assets.find_environment(ws, parse_ref(given.removesuffix("/"), field=field))
    elif given.name is not None and not (given.image or given.build or given.conda_file or given.python):
        found = assets.find_environment(ws, parse_ref(str(given.name), field=field))
    else:
        # Azure ML ignores name and version of an environment that is written in a component
        inline = given.model_copy(update={"name": None, "version": None})
        with_name = assets.register_environment(ws, inline, folder)
        found = {**with_name, "registered": False}
        if given.name is not None:
            found["name"] = given.name
    return {key: found.get(key) for key in _ENVIRONMENT_FIELDS}


def _said(given: CommandFields | ParallelFields, keys: tuple[str, ...]) -> dict[str, Any]:
    found = given.model_dump(mode="json", include=set(keys), exclude_none=True, exclude_unset=True)
    return {key: value for key, value in found.items() if value not in ({}, None)}


def _resources(given: CommandFields | ParallelFields) -> dict[str, Any]:
    if given.resources is None:
        return {}
    return {"resources": given.resources.model_dump(mode="json", exclude_none=True, exclude_unset=True)}


def is_data(port: Mapping[str, Any]) -> bool:
    """Whether values of *port* are files or folders."""
    return port["type"] not in LITERALS
