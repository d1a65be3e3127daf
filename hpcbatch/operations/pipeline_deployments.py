"""Deployments of `type: pipeline`: a pipeline component, registered or not, or what a job ran, behind an endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcbatch.errors import Conflict, SpecError
from hpcbatch.operations.assets import show_compute
from hpcbatch.operations.components import component_document, refuse_what_is_not_run, register_component
from hpcbatch.operations.job_definitions import definition_of, pipeline_record
from hpcbatch.operations.pipeline_steps import component_named, compute_name, registered_body
from hpcbatch.operations.versions import add_version, local_path, located, referred_by, show_of
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.assets import Asset
from hpcbatch.spec.base import parse
from hpcbatch.spec.component import PipelineComponent, parse_component, part
from hpcbatch.spec.pipeline import PipelineBatchDeployment
from hpcbatch.spec.refs import is_ref, parse_ref
from hpcbatch.spec.yamlfile import Loaded, load


def pipeline_document(
    ws: Workspace, loaded: Loaded, before: Mapping[str, Any] | None = None, touched: frozenset[str] = frozenset()
) -> tuple[PipelineBatchDeployment, dict[str, Any]]:
    """The deployment in *loaded* and what the registry keeps of it, its component resolved.

    With *before*, an earlier state, the component is resolved again only if it is among the *touched* fields. Raises
    SpecError for a component that is no pipeline or has a step that hpcbatch does not run, NotFound for what is not
    there.
    """
    deployment = parse(PipelineBatchDeployment, replace(loaded, data={**loaded.data, "type": "pipeline"}))
    settings = deployment.settings.model_dump(mode="json", exclude_none=True)
    with located(loaded):
        given = deployment.settings.default_compute or deployment.compute
        if given:
            settings["default_compute"] = compute_name(given, "settings.default_compute")
            _check_compute(ws, settings["default_compute"])
        if before is not None and not {"component", "job_definition"} & touched:
            component = dict(before["component"])
        else:
            component = _component(ws, deployment, loaded)
        refuse_what_is_not_run(component["body"])
    spec = deployment.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    if component["id"]:
        spec.pop("job_definition", None)
        spec["component"] = f"azureml:{component['id']}"
    return deployment, {"type": "pipeline", "spec": spec, "settings": settings, "component": component}


def _check_compute(ws: Workspace, name: str) -> None:
    if name != "serverless":
        with referred_by("settings.default_compute"):
            show_compute(ws, name)


def _component(ws: Workspace, deployment: PipelineBatchDeployment, loaded: Loaded) -> dict[str, Any]:
    """`id` (`name:version`, or None) and `body` of the component. One in a file is registered if it has a name."""
    given = deployment.component
    if given is None:
        return _from_job(ws, deployment, loaded)
    if isinstance(given, str) and not is_ref(given) and given.endswith((".yml", ".yaml")):
        document = load(local_path(given.removeprefix("file:"), loaded.folder, field="component"))
        component = parse_component(document)
        if not isinstance(component, PipelineComponent):
            raise _no_pipeline(component.type)
        if component.name is not None:
            found = register_component(ws, component, document)
            return {"id": f"{found['name']}:{found['version']}", "body": registered_body(found)}
        body = component_document(ws, document)[1]
        return {"id": None, "body": body}
    if isinstance(given, str):
        named = component_named(ws, given, loaded, component_document, "component")
        result = {"id": named["id"], "body": named["body"]}
    else:
        inner = part(loaded, "component")
        inner.data.setdefault("type", "pipeline")
        result = {"id": None, "body": component_document(ws, inner)[1]}
    if result["body"]["type"] != "pipeline":
        raise _no_pipeline(result["body"]["type"])
    return result


def _from_job(ws: Workspace, deployment: PipelineBatchDeployment, loaded: Loaded) -> dict[str, Any]:
    """The component of an existing job, registered under the name that the job's component had, or the job's."""
    given = deployment.job_definition
    if isinstance(given, Mapping):
        inner = part(loaded, "job_definition")
        if isinstance(given.get("component"), str):
            named = component_named(ws, given["component"], inner, component_document, "component")
            return {"id": named["id"], "body": named["body"]}
        inner.data.setdefault("type", "pipeline")
        return {"id": None, "body": component_document(ws, inner)[1]}
    name = parse_job(str(given))
    body = definition_of(pipeline_record(ws, name))
    component = Asset(name=f"job-{name}"[:255], version="1", description=f"The pipeline of the job {name}")
    try:
        found = show_of(ws, add_version(ws, "component", component, body))
    except Conflict:  # written by an earlier hpcbatch that kept something else of it: the job itself never changes
        return {"id": None, "body": body}
    return {"id": f"{found['name']}:{found['version']}", "body": body}


def parse_job(text: str) -> str:
    """The name of the job in `azureml:NAME`, `NAME`, or an ARM id that ends in `/jobs/NAME`."""
    if "/jobs/" in text:
        return text.rpartition("/jobs/")[2]
    return parse_ref(text, field="job_definition").name


def _no_pipeline(kind: str) -> SpecError:
    return SpecError(
        f"component: it is of type {kind!r}; a deployment needs a component of type pipeline.",
        hint="Put it into a pipeline component as a step: jobs: {step: {component: ...}}",
        field="component",
        found=kind,
        allowed="pipeline",
    )


def shown_pipeline(ws: Workspace, endpoint: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The deployment as Azure ML shows it."""
    spec, component = document["spec"], document["component"]
    return {
        "id": f"{ws.root}/endpoints/{endpoint}/deployments/{name}",
        "name": name,
        "endpoint_name": endpoint,
        "type": "pipeline",
        "description": spec.get("description"),
        "tags": spec.get("tags", {}),
        "properties": spec.get("properties", {}),
        "component": f"azureml:{component['id']}" if component["id"] else None,
        "inputs": component["body"]["inputs"],
        "outputs": component["body"]["outputs"],
        "steps": component["body"]["order"],
        "settings": document["settings"],
        "provisioning_state": "Succeeded",
        "revision": document["revision"],
    }
