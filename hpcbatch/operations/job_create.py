"""`job create`: a pipeline, or a single command, that runs once and is registered nowhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.components import component_document, pipeline_body
from hpcbatch.operations.pipeline_steps import component_named, compute_name, literal_node
from hpcbatch.operations.pipelines import PipelineRequest, sealed_record
from hpcbatch.operations.versions import Source, document_from, located
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.base import lowered, parse
from hpcbatch.spec.component import NOT_RUN, PipelineComponent, no_such_type, part
from hpcbatch.spec.pipeline import PipelineJob, input_value, output_value
from hpcbatch.spec.preview import modern
from hpcbatch.spec.yamlfile import FieldPath, Loaded

_COMMAND_STEP = "command"
_OF_THE_JOB = ("$schema", "name", "type", "display_name", "experiment_name", "description", "tags", "properties")


def requested_job(
    ws: Workspace,
    *,
    file: Source,
    name: str | None = None,
    sets: Sequence[str] = (),
    experiment: str | None = None,
    dependency: str | None = None,
    needs_slurm: bool = False,
) -> PipelineRequest:
    """The job in *file* with what was said beside it, for `start_pipeline` and `dry_run_pipeline`.

    With a name (in the file or given) starting it is idempotent, as `invoke` is. Raises SpecError, NotFound.
    """
    loaded = document_from(file, sets, {"name": name, "experiment_name": experiment})
    return replace(job_request(ws, loaded), dependency=dependency, needs_slurm=needs_slurm)


def validate_job(ws: Workspace, *, file: Source, sets: Sequence[str] = ()) -> dict[str, Any]:
    """What Azure ML says of a job that could be created: `result` is `Succeeded`. Nothing is started or written.

    Raises what creating it would raise.
    """
    record, _ = sealed_record(ws, requested_job(ws, file=file, sets=sets))
    return {"result": "Succeeded", "errors": [], "warnings": list(record.warnings)}


def job_request(ws: Workspace, loaded: Loaded) -> PipelineRequest:
    """The job in *loaded*, with the components that it uses. Raises SpecError for what it cannot be."""
    loaded = as_pipeline(loaded)
    job = parse(PipelineJob, loaded)
    body = _body(ws, job, loaded)
    settings = job.settings
    with located(loaded):
        compute = compute_name(job.compute, "compute") if job.compute else None
        if compute is None and settings.default_compute:
            compute = compute_name(settings.default_compute, "settings.default_compute")
    return PipelineRequest(
        body=body,
        given=loaded,
        asked={"body": body, "inputs": loaded.data.get("inputs"), "outputs": loaded.data.get("outputs")},
        name=job.name,
        display_name=job.display_name,
        experiment_name=job.experiment_name,
        compute=compute,
        continue_on_step_failure=settings.continue_on_step_failure is not False,
        force_rerun=bool(settings.force_rerun),
        properties={"description": job.description, "tags": dict(job.tags), **job.properties},
    )


def as_pipeline(loaded: Loaded) -> Loaded:
    """The document of a pipeline job. A command job becomes a pipeline with one step, `command`."""
    loaded = modern(loaded)
    kind = lowered(loaded.data.get("type"))
    if kind is None:
        kind = "pipeline" if {"jobs", "component"} & loaded.data.keys() else "command"
    if isinstance(kind, str) and kind in NOT_RUN:
        error = no_such_type(loaded, kind)
        raise SpecError(
            f"type: a job of type {kind!r} is not run by hpcbatch.",
            hint=f"Use {NOT_RUN[kind]}.",
            **{**error.fields, "allowed": "pipeline, command"},
        )
    if kind == "pipeline":
        return loaded
    if kind != "command":
        raise no_such_type(loaded, kind)
    return _one_step(loaded)


def _one_step(loaded: Loaded) -> Loaded:
    data = loaded.data
    inputs, outputs = _names(data.get("inputs")), _names(data.get("outputs"))
    step = {key: value for key, value in data.items() if key not in _OF_THE_JOB}
    step["inputs"] = {name: f"${{{{parent.inputs.{name}}}}}" for name in inputs}
    step["outputs"] = {name: f"${{{{parent.outputs.{name}}}}}" for name in outputs}
    job = {key: data[key] for key in (*_OF_THE_JOB, "inputs", "outputs") if key in data}
    written: dict[FieldPath, FieldPath] = {("jobs", _COMMAND_STEP): ()}
    return replace(
        loaded,
        data={**job, "type": "pipeline", "jobs": {_COMMAND_STEP: {**step, "type": "command"}}},
        written_as=written,
    )


def _names(named: Any) -> list[str]:
    """The keys of a mapping; what is none is refused when the job is parsed."""
    return list(named) if isinstance(named, Mapping) else []


def _body(ws: Workspace, job: PipelineJob, loaded: Loaded) -> dict[str, Any]:
    if job.jobs is not None:
        graph = PipelineComponent(jobs=job.jobs, display_name=job.display_name)
        return pipeline_body(ws, graph, loaded, _ports(loaded))
    if isinstance(job.component, str):
        found = component_named(ws, job.component, loaded, component_document, "component")["body"]
    else:
        inner = part(loaded, "component")
        inner.data.setdefault("type", "pipeline")
        found = component_document(ws, inner)[1]
    if found["type"] != "pipeline":
        message = f"component: it is of type {found['type']!r}; a pipeline job runs a component of type pipeline."
        with located(loaded):
            raise SpecError(
                message,
                hint="Write `jobs:` with one step that has this `component:`.",
                field="component",
                found=found["type"],
                allowed="pipeline",
            )
    return dict(found)


def _ports(loaded: Loaded) -> dict[str, Any]:
    """The inputs and outputs that a graph written in the job has: their types are those of the values."""
    inputs: dict[str, Any] = {}
    for name, given in (loaded.data.get("inputs") or {}).items():
        value = input_value(loaded, name, given)
        literal = given.get("value", given.get("default")) if isinstance(given, Mapping) else given
        kind = value.type or (
            "uri_folder" if value.path else literal_node(literal, f"inputs.{name}").get("literal_type", "string")
        )
        inputs[name] = {"type": kind}
        if value.optional:
            inputs[name]["optional"] = True
    outputs = {}
    for name, given in (loaded.data.get("outputs") or {}).items():
        outputs[name] = {"type": output_value(loaded, name, given).type or "uri_folder"}
    return {"inputs": inputs, "outputs": outputs}
