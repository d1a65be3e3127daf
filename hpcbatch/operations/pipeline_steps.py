"""One step of a pipeline: its component, wherever that is written, what it overrides, and its bindings."""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.component_bodies import command_parts, parallel_parts, section
from hpcbatch.operations.places import resolve_place
from hpcbatch.operations.versions import find_asset, local_path, located, referred_by
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.base import COMMAND_LINE
from hpcbatch.spec.bindings import FORMS, OUTPUT_FORMS, Binding, binding_of, expressions, whole_expression
from hpcbatch.spec.component import no_such_type, part
from hpcbatch.spec.pipeline import (
    CommandStep,
    OtherStep,
    OutputValue,
    ParallelStep,
    Step,
    StepDocument,
    input_value,
    output_value,
)
from hpcbatch.spec.ports import LITERALS
from hpcbatch.spec.refs import is_ref, parse_ref
from hpcbatch.spec.yamlfile import Loaded, load

Resolve = Callable[[Workspace, Loaded], tuple[dict[str, Any], dict[str, Any]]]
_log = logging.getLogger(__name__)
_NOT_OF_THE_BODY = ("id", "name", "version", "description", "tags", "properties", "creation_context", "archived")


def step_node(ws: Workspace, document: StepDocument, resolve: Resolve) -> dict[str, Any]:
    """The step as it is kept: `component` (`id`, `name`, `body`), `inputs`, `outputs`, `overrides`, `compute`.

    *resolve* makes (asset fields, body) of a component's document. Raises SpecError, NotFound.
    """
    step, loaded = document.step, document.loaded
    if isinstance(step, OtherStep):
        body = {"type": step.type, "inputs": {}, "outputs": {}, "written": dict(loaded.data)}
        return {"type": step.type, "component": {"id": None, "name": None, "body": body}, "inputs": {}, "outputs": {}}
    component = _component(ws, step, loaded, resolve)
    ports = None if component.get("inferred") else component["body"]["inputs"]
    with located(loaded, section(loaded)):
        inputs = {
            name: _input(ws, loaded, name, given, None if ports is None else ports.get(name))
            for name, given in (loaded.data.get("inputs") or {}).items()
            if ports is None or name in ports or _ignored(loaded, name, ports)
        }
        outputs = {
            name: output_node(output_value(loaded, name, given), loaded.folder, f"outputs.{name}", in_pipeline=True)
            for name, given in (loaded.data.get("outputs") or {}).items()
        }
    return {
        "type": component["body"]["type"],
        "display_name": step.display_name,
        "component": component,
        "inputs": inputs,
        "outputs": outputs,
        "compute": compute_name(step.compute, "compute") if step.compute else None,
        "overrides": _overrides(ws, step, loaded),
    }


def _ignored(loaded: Loaded, name: str, ports: Mapping[str, Any]) -> bool:
    """False, with a warning: a value for an input that the component does not have is ignored, as Azure ML does."""
    at = (*loaded.written_as.get((), ()), "inputs", name)
    if any(at[: len(one)] == one for one in loaded.overridden):
        where = COMMAND_LINE
    else:
        line = loaded.lines.get(at)
        where = f"{loaded.file}, line {line}" if line else loaded.file
    close = difflib.get_close_matches(name, list(ports), n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    text = "%s: %s is ignored: the component has no input %r.%s It has: %s."
    _log.warning(text, where, ".".join(map(str, at)), name, guess, ", ".join(sorted(ports)) or "none")
    return False


def registered_body(shown: Mapping[str, Any]) -> dict[str, Any]:
    """The body in what `component show` says."""
    return {key: value for key, value in shown.items() if key not in _NOT_OF_THE_BODY}


def component_named(ws: Workspace, text: str, loaded: Loaded, resolve: Resolve, field: str) -> dict[str, Any]:
    """The component that *text* refers to: a registered version, or a YAML file relative to that of *loaded*."""
    with located(loaded, section(loaded)):
        path = loaded.folder / Path(text.removeprefix("file:")).expanduser()
        if is_ref(text) or (not path.exists() and not text.endswith((".yml", ".yaml"))):
            with referred_by(field):
                found = find_asset(ws, "component", parse_ref(text, field=field))
            return {
                "id": f"{found['name']}:{found['version']}",
                "name": found["name"],
                "body": registered_body(found),
            }
        file = local_path(text.removeprefix("file:"), loaded.folder, field=field)
    fields, body = resolve(ws, load(file))
    return {"id": None, "name": fields.get("name"), "body": body}


def _component(ws: Workspace, step: Step, loaded: Loaded, resolve: Resolve) -> dict[str, Any]:
    given = step.component
    if given is None:
        return {"id": None, "name": None, "body": _inline_body(ws, step, loaded), "inferred": True}
    if isinstance(given, str):
        found = component_named(ws, given, loaded, resolve, "component")
    else:
        inner = part(loaded, "component")
        inner.data.setdefault("type", step.type)
        fields, body = resolve(ws, inner)
        found = {"id": None, "name": fields.get("name"), "body": body}
    if "type" in loaded.data and found["body"]["type"] != step.type:
        error = no_such_type(loaded, loaded.data["type"])
        what = found["id"] or found["name"] or "the component"
        raise SpecError(
            f"{section(loaded)}.type: the step is of type {step.type!r}, and {what} of type {found['body']['type']!r}.",
            hint=f"Write type: {found['body']['type']}. Correct {loaded.file}, and run the same command again.",
            **{**error.fields, "allowed": found["body"]["type"]},
        )
    return found


def _inline_body(ws: Workspace, step: Step, loaded: Loaded) -> dict[str, Any]:
    """The body of a step that has no component: its ports are inferred once all steps are known."""
    common = {"type": step.type, "is_deterministic": step.is_deterministic is not False, "inputs": {}, "outputs": {}}
    if isinstance(step, CommandStep):
        return {**common, "command": step.command, **command_parts(ws, step, loaded), "environment_variables": {}}
    assert isinstance(step, ParallelStep)
    return {**common, **parallel_parts(ws, step, loaded), "environment_variables": {}}


def _overrides(ws: Workspace, step: Step, loaded: Loaded) -> dict[str, Any]:
    """What the step says over its component."""
    found: dict[str, Any] = {}
    if step.component is not None and isinstance(step, CommandStep):
        found = command_parts(ws, step, loaded)
    elif step.component is not None and isinstance(step, ParallelStep):
        found = parallel_parts(ws, step, loaded)
    variables = getattr(step, "environment_variables", None)
    if variables:
        found["environment_variables"] = dict(variables)
    if step.is_deterministic is not None and step.component is not None:
        found["is_deterministic"] = step.is_deterministic
    return found


def compute_name(text: str, field: str) -> str:
    """The name of a compute in `azureml:NAME`, `NAME` or an ARM id; a binding to an input of the pipeline stays."""
    whole = whole_expression(text)
    if whole is not None and (binding := binding_of(whole)) is not None and binding.kind == "input":
        return text.strip()
    return parse_ref(text, field=field).name


def _input(ws: Workspace, loaded: Loaded, name: str, given: Any, port: Mapping[str, Any] | None) -> dict[str, Any]:
    """The value of one input: where it comes from, and its type if the step says it."""
    value = input_value(loaded, name, given)
    said: dict[str, Any] = {"type": value.type} if value.type else {}
    if value.mode:
        said["mode"] = value.mode
    path, literal = value.path, _literal_of(given)
    kind = value.type or (port or {}).get("type")
    if path is None and kind is not None and kind not in LITERALS and isinstance(literal, str):
        path = literal
    text = path if path is not None else literal
    bound = _bound(text, f"inputs.{name}") if isinstance(text, str) else None
    if bound is not None:
        return {**said, **bound}
    if path is not None:
        kind = kind or "uri_folder"
        place = resolve_place(ws, path, kind, loaded.folder, field=f"inputs.{name}.path")
        found = {**said, "kind": "path", "type": kind, "path": place.path, "digest": place.digest}
        options = {**place.options, **value.storage_options}
        return {**found, "storage_options": options} if options else found
    return {**said, **literal_node(literal, f"inputs.{name}")}


def _literal_of(given: Any) -> Any:
    """The literal in what was written: itself, or what stands in `value` or `default`."""
    if isinstance(given, Mapping):
        return given.get("value", given.get("default"))
    return given


def literal_node(given: Any, field: str) -> dict[str, Any]:
    """A literal with the type that its spelling in YAML has; nothing (`x:`) is no value."""
    if given is None:
        return {"kind": "nothing"}
    if isinstance(given, list | Mapping):
        raise SpecError(
            f"{field}: {str(given)[:80]!r} is not a value.",
            hint="Write a text, a number, true or false; or a mapping with type and path.",
            field=field,
            found=given,
            allowed="a literal",
        )
    kinds: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "integer"), (float, "number"))
    kind = next((word for of, word in kinds if isinstance(given, of)), "string")
    return {"kind": "literal", "value": str(getattr(given, "source", given)), "literal_type": kind}


def _bound(text: str, field: str) -> dict[str, Any] | None:
    whole = whole_expression(text)
    binding = binding_of(whole) if whole is not None else None
    if binding is not None and binding.kind != "output":
        return _binding_node(binding)
    inside = [binding_of(one) for one in expressions(text)]
    if whole is not None or any(one is None or one.kind == "output" for one in inside):
        raise SpecError(
            f"{field}: {text!r} is not a binding that exists.",
            hint=f"Allowed: {FORMS}.",
            field=field,
            found=text,
            allowed=FORMS,
        )
    return {"kind": "template", "text": text} if inside else None


def _binding_node(binding: Binding) -> dict[str, Any]:
    if binding.kind == "input":
        return {"kind": "input", "name": binding.name}
    return {"kind": binding.kind, "step": binding.step, "name": binding.name}


def output_node(value: OutputValue, folder: Path, field: str, *, in_pipeline: bool) -> dict[str, Any]:
    """Where one output goes: `pipeline_output`, `path` (absolute, or with expressions), or neither; `register_as`."""
    found: dict[str, Any] = {key: getattr(value, key) for key in ("type", "mode") if getattr(value, key)}
    if value.name:
        found["register_as"] = f"{value.name}:{value.version}" if value.version else str(value.name)
    if not value.path:
        return found
    whole = whole_expression(value.path)
    binding = binding_of(whole) if whole is not None else None
    if binding is not None and binding.kind == "output" and in_pipeline:
        return {**found, "pipeline_output": binding.name}
    if binding is not None:
        raise SpecError(
            f"{field}: {value.path!r} is not where an output can go.",
            hint=f"Allowed: {OUTPUT_FORMS}.",
            field=field,
            found=value.path,
            allowed=OUTPUT_FORMS,
        )
    path = value.path.removeprefix("file://")
    if "://" in path or path.startswith(("azureml:", "${{")):
        return {**found, "path": value.path}
    return {**found, "path": os.path.abspath(folder / Path(path).expanduser())}
