"""Components: commands, parallel tasks and pipelines that are registered once and used by name, or from their file."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from hpcbatch.errors import NotFound, SpecError
from hpcbatch.operations.assets import compute_kind, show_compute
from hpcbatch.operations.component_bodies import (
    command_body,
    other_body,
    parallel_body,
    ports_of,
    section,
)
from hpcbatch.operations.pipeline_graph import check_body, infer_ports, refuse_two_places
from hpcbatch.operations.pipeline_steps import compute_name, step_node
from hpcbatch.operations.versions import Source, add_version, document_from, located, named, show_of
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.bindings import expressions
from hpcbatch.spec.component import (
    NOT_RUN,
    CommandComponent,
    Component,
    OtherComponent,
    ParallelComponent,
    PipelineComponent,
    parse_component,
)
from hpcbatch.spec.pipeline import parse_steps
from hpcbatch.spec.yamlfile import Loaded

_FIELDS = ("name", "version", "description", "tags", "properties")


def create_component(
    ws: Workspace,
    *,
    file: Source | None = None,
    name: str | None = None,
    version: str | None = None,
    sets: Sequence[str] = (),
) -> dict[str, Any]:
    """Register the component in *file* as the next (or the given) version of its name.

    Its code is copied and its references are looked up now, those of a pipeline's steps included: later edits change
    nothing. The same content again is the version that is there. Raises SpecError, NotFound, Conflict.
    """
    loaded = document_from(file, sets, {"name": name, "version": version})
    component = named(parse_component(loaded), loaded)
    return register_component(ws, component, loaded)


def register_component(ws: Workspace, component: Component, loaded: Loaded) -> dict[str, Any]:
    """Register the parsed *component*, whose document is *loaded*."""
    body = body_of(ws, component, loaded)
    return show_of(ws, add_version(ws, "component", component, body))


def component_document(ws: Workspace, loaded: Loaded) -> tuple[dict[str, Any], dict[str, Any]]:
    """The component in *loaded* as (name, version, texts) and body; nothing is registered. Raises SpecError."""
    component = parse_component(loaded)
    return {key: getattr(component, key) for key in _FIELDS}, body_of(ws, component, loaded)


def body_of(ws: Workspace, component: Component, loaded: Loaded) -> dict[str, Any]:
    """The body of *component*. Raises SpecError, NotFound."""
    match component:
        case CommandComponent():
            body = command_body(ws, component, loaded)
        case ParallelComponent():
            body = parallel_body(ws, component, loaded)
        case PipelineComponent():
            return pipeline_body(ws, component, loaded)
        case _:
            assert isinstance(component, OtherComponent)
            return other_body(ws, component, loaded)
    with located(loaded, section(loaded)):
        check_body(body)
    return body


def pipeline_body(
    ws: Workspace, component: PipelineComponent, loaded: Loaded, ports: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The body of a pipeline whose inputs and outputs are those of *component*, or *ports*."""
    body: dict[str, Any] = {
        "type": "pipeline",
        "display_name": component.display_name,
        "is_deterministic": component.is_deterministic,
        **(ports or ports_of(component, ws, loaded)),
        "settings": dict(component.settings),
        "order": list(component.jobs),  # the registry sorts keys; people know the order of the file
        "jobs": {},
    }
    with located(loaded, section(loaded)):
        body["compute"] = compute_name(component.compute, "compute") if component.compute else None
    for document in parse_steps(loaded, component.jobs):
        body["jobs"][document.name] = step_node(ws, document, component_document)
    with located(loaded, section(loaded)):
        infer_ports(body)
        check_body(body)
        refuse_two_places(_computes(ws, body))
    return body


def _computes(ws: Workspace, body: dict[str, Any], at: str = "") -> dict[str, tuple[str, str]]:
    """Name and kind of the compute of each step that names one which is registered now."""
    found: dict[str, tuple[str, str]] = {}
    for step, node in body["jobs"].items():
        name = node.get("compute")
        if name and not expressions(name):
            with contextlib.suppress(NotFound):
                found[f"{at}{step}"] = (name, compute_kind(show_compute(ws, name)))
        inner = node["component"]["body"]
        if inner["type"] == "pipeline":
            found |= _computes(ws, inner, f"{at}{step}.")
    return found


def refuse_what_is_not_run(body: dict[str, Any], at: str = "") -> None:
    """Raises SpecError that names what to use instead, if a step is of a type that only Azure ML runs."""
    kind = body["type"]
    if kind in NOT_RUN:
        where = f"Step {at}" if at else "The component"
        raise SpecError(
            f"{where} is of type {kind!r}, which hpcbatch does not run.",
            hint=f"Use {NOT_RUN[kind]}.",
            field=f"jobs.{at}.type" if at else "type",
            found=kind,
            allowed="command, parallel, pipeline",
        )
    for name, node in body.get("jobs", {}).items():
        refuse_what_is_not_run(node["component"]["body"], f"{at}.{name}".lstrip("."))
