"""Start a pipeline: give its inputs values, look everything up, and seal it as the record of a job."""

from __future__ import annotations

import contextlib
import difflib
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcbatch.dataio import credentials
from hpcbatch.dataio.addresses import is_remote
from hpcbatch.errors import SpecError
from hpcbatch.fs.owned import user_name
from hpcbatch.ids import canonical, is_job_name, new_job_name, sha256
from hpcbatch.operations.component_bodies import is_data
from hpcbatch.operations.components import refuse_what_is_not_run
from hpcbatch.operations.dependencies import checked_dependency
from hpcbatch.operations.pipeline_flatten import flatten, unwritten_outputs
from hpcbatch.operations.pipeline_graph import refuse_two_places
from hpcbatch.operations.pipeline_jobs import create_and_start, refuse_without_slurm
from hpcbatch.operations.pipeline_parts import Parts
from hpcbatch.operations.pipeline_steps import output_node
from hpcbatch.operations.places import datastore_path, resolve_place, storage_options
from hpcbatch.operations.versions import located
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.pipeline import PipelineInput, PipelineOutput, PipelineRecord, PipelineStep
from hpcbatch.spec.bindings import expressions, substituted
from hpcbatch.spec.pipeline import input_value, output_value
from hpcbatch.spec.ports import LITERALS, LiteralProblem, check_literal
from hpcbatch.spec.yamlfile import Loaded


@dataclass(frozen=True)
class PipelineRequest:
    """A pipeline that is to run: its body, and `given`, a document with the `inputs` and `outputs` of this job.

    `asked` is what the job's name stands for: the same name with something else asked is a Conflict.
    """

    body: Mapping[str, Any]
    given: Loaded
    asked: Mapping[str, Any]
    name: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    endpoint: str | None = None
    deployment: str | None = None
    deployment_revision: int = 0
    compute: str | None = None
    continue_on_step_failure: bool = True
    force_rerun: bool = False
    properties: Mapping[str, Any] = field(default_factory=dict)
    dependency: str | None = None  # what Slurm is to wait for before the first steps, as sbatch(1) has it
    needs_slurm: bool = False  # other Slurm jobs will wait for this one: it has one even if all its steps are reused


def start_pipeline(
    ws: Workspace, request: PipelineRequest, *, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Seal a job for *request* and submit it; the dict is what `job show` says.

    Idempotent by `name`. Raises SpecError, NotFound, Conflict, FilesystemError, SchedulerError; nothing is submitted
    then.
    """
    record, codes = sealed_record(ws, request, say=say)
    if request.needs_slurm:
        refuse_without_slurm(record)
    return create_and_start(ws, record, codes, always_submit=request.needs_slurm)


def sealed_record(
    ws: Workspace, request: PipelineRequest, *, say: Callable[[str], None] | None = None
) -> tuple[PipelineRecord, Mapping[str, bytes]]:
    """The record of the job with everything looked up, and the code of its steps by digest. Nothing is written but
    environments that have to be built, of which *say* is told; without it none are.
    """
    refuse_what_is_not_run(dict(request.body))
    name = _checked_name(request.name or new_job_name())
    user = user_name()
    with located(request.given):
        inputs = bound_inputs(ws, request.body, request.given)
        outputs = _outputs(ws, request, ws.jobs / user / name)
    default_field = "compute" if request.given.data.get("compute") else "settings.default_compute"
    parts = Parts(ws, inputs, request.compute, default_field, request.body.get("compute"), say=say)
    with located(request.given) if "jobs" in request.given.data else contextlib.nullcontext():
        steps = tuple(_placed(ws, parts.step(flat), name) for flat in flatten(request.body, inputs))
        refuse_two_places({step.name: (step.compute.name, step.compute.kind) for step in steps})
    travelling, secret = _variables(inputs, outputs, steps)
    lost = [f"No step writes the output {one!r} of the pipeline." for one in unwritten_outputs(request.body)]
    record = PipelineRecord(
        name=name,
        uuid=secrets.token_hex(16),
        endpoint=request.endpoint,
        deployment=request.deployment,
        deployment_revision=request.deployment_revision,
        display_name=request.display_name or request.body.get("display_name") or name,
        experiment_name=request.experiment_name or request.endpoint or request.display_name or "Default",
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        user=user,
        inputs=inputs,
        outputs=outputs,
        steps=steps,
        continue_on_step_failure=request.continue_on_step_failure,
        force_rerun=request.force_rerun,
        request_sha256=sha256(canonical(dict(request.asked))),
        warnings=(*parts.warnings, *lost),
        properties={**request.properties, "definition": dict(request.body)},
        travelling=travelling,
        secrets=secret,
        dependency=checked_dependency(request.dependency, steps[0].compute.kind),
    )
    return record, parts.codes


def _variables(
    inputs: Mapping[str, PipelineInput], outputs: Mapping[str, PipelineOutput], steps: Sequence[PipelineStep]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the environment variables that reaching addresses takes, and which of them hold secrets."""
    named = [(one.value, one.options) for one in inputs.values()] + [(o.path, o.options) for o in outputs.values()]
    named += [(one.value, one.options) for step in steps for one in step.inputs.values() if one.kind == "path"]
    return credentials.travelling_variables([options for path, options in named if is_remote(path)])


def bound_inputs(ws: Workspace, body: Mapping[str, Any], given: Loaded) -> dict[str, PipelineInput]:
    """The inputs of the pipeline with their values: what *given* says, else the default; optional ones may lack one.

    Raises SpecError for an unknown name, a missing value, and one that does not fit its declaration.
    """
    named = given.data.get("inputs") or {}
    _refuse_unknown("inputs", named, body["inputs"])
    found: dict[str, PipelineInput] = {}
    for name, port in body["inputs"].items():
        value = _value(ws, given, name, port, named[name]) if name in named else None
        if value is None:
            value = _default(name, port)
        if value is not None:
            found[name] = value
        elif not port.get("optional"):
            example = f"inputs.{name}.path=PATH" if is_data(port) else f"inputs.{name}=VALUE"
            raise _problem(
                f"inputs.{name}",
                f"the input {name!r} ({port['type']}) has no value",
                None,
                f"a {port['type']}: --set {example}",
            )
    return found


def _value(ws: Workspace, given: Loaded, name: str, port: Mapping[str, Any], written: Any) -> PipelineInput | None:
    value = input_value(given, name, written)
    literal = written.get("value", written.get("default")) if isinstance(written, Mapping) else written
    at = f"inputs.{name}"
    if value.type is not None and (value.type in LITERALS) == is_data(port):
        raise _problem(f"{at}.type", f"the input {name!r} is a {port['type']}", value.type, str(port["type"]))
    if is_data(port):
        path = value.path if value.path is not None else literal
        if path is None:
            return None
        if not isinstance(path, str):
            raise _problem(at, f"{str(path)[:80]!r} is a literal, and the input a {port['type']}", path, "a path")
        if {value.type, port["type"]} == {"uri_file", "uri_folder"}:
            raise _problem(f"{at}.type", f"the input {name!r} is a {port['type']}", value.type, str(port["type"]))
        place = resolve_place(ws, path, value.type or port["type"], given.folder, field=f"{at}.path")
        asked = {**place.options, **(given.data.get("storage_options") or {}), **value.storage_options}
        options = storage_options(place.path, port["type"], asked, f"{at}.path")
        direct = "direct" in (value.mode, port.get("mode"))
        return PipelineInput(port["type"], place.path, place.digest, options, direct)
    if literal is None and value.path is not None:
        raise _problem(f"{at}.path", f"the input {name!r} is a {port['type']}", value.path, "a value, not a path")
    if literal is None:
        return None
    try:
        return PipelineInput(port["type"], check_literal(port, literal))
    except LiteralProblem as problem:
        raise _problem(at, problem.message, literal, problem.allowed) from problem


def _default(name: str, port: Mapping[str, Any]) -> PipelineInput | None:
    if "default" not in port:
        return None
    given = port["default"]
    if isinstance(given, Mapping):
        options = storage_options(given["path"], port["type"], given.get("storage_options") or {}, f"inputs.{name}")
        direct = port.get("mode") == "direct"
        return PipelineInput(port["type"], given["path"], given.get("digest", ""), options, direct)
    return PipelineInput(port["type"], check_literal(port, given))


def _outputs(ws: Workspace, request: PipelineRequest, job: Path) -> dict[str, PipelineOutput]:
    """Where the outputs of the pipeline go: a folder of the job unless the request says where."""
    named = request.given.data.get("outputs") or {}
    _refuse_unknown("outputs", named, request.body["outputs"])
    found: dict[str, PipelineOutput] = {}
    for name, port in request.body["outputs"].items():
        value = output_value(request.given, name, named.get(name))
        node = output_node(value, request.given.folder, f"outputs.{name}", in_pipeline=False)
        path = node.get("path", port.get("path"))
        where = output_path(ws, str(path), job.name, name, field=f"outputs.{name}.path") if path else job / "out" / name
        default_name = str(port.get("name") or "")
        register = node.get("register_as") or (
            f"{default_name}:{port['version']}" if "version" in port else default_name
        )
        asked = {**(request.given.data.get("storage_options") or {}), **value.storage_options}
        options = storage_options(str(where), port["type"], asked, f"outputs.{name}.path")
        found[name] = PipelineOutput(port["type"], str(where), register, options)
    return found


def _placed(ws: Workspace, step: PipelineStep, job: str) -> PipelineStep:
    """*step* with its own outputs where they go; their `${{name}}` is the step's name, `<job>.<step>`."""
    outputs = dict(step.outputs)
    for name, one in step.outputs.items():
        if one.path:
            field = f"jobs.{step.name}.outputs.{name}.path"
            outputs[name] = replace(one, path=output_path(ws, one.path, f"{job}.{step.name}", name, field=field))
    return replace(step, outputs=outputs)


def output_path(ws: Workspace, text: str, job: str, output: str, *, field: str) -> str:
    """The absolute path or URL of an output; `${{name}}`, `${{output_name}}`, `${{default_datastore}}` filled in."""
    filled = substituted(
        text, {"name": job, "output_name": output, "default_datastore": "azureml://datastores/workspaceblobstore"}
    )
    if left := expressions(filled):
        allowed = "${{name}}, ${{output_name}}, ${{default_datastore}}"
        raise _problem(field, f"${{{{{left[0]}}}}} is not known in a path", text, allowed)
    stored = datastore_path(ws, filled)
    if stored is not None:
        return str(stored)
    if filled.startswith("azureml:"):
        raise _problem(
            field, f"{text!r} is not a place for an output", text, "a folder, a URL, azureml://datastores/..."
        )
    return filled if "://" in filled else os.path.abspath(filled)


def _refuse_unknown(what: str, named: Any, known: Mapping[str, Any]) -> None:
    if not isinstance(named, Mapping):
        raise _problem(what, f"{str(named)[:80]!r} is not a mapping", named, f"{what}: NAME: VALUE")
    for name in named:
        if name not in known:
            close = difflib.get_close_matches(str(name), list(known), n=1)
            guess = f"; did you mean {close[0]!r}?" if close else ""
            allowed = ", ".join(sorted(known)) or f"no {what}: it has none"
            raise _problem(f"{what}.{name}", f"the pipeline has no {what[:-1]} {name!r}{guess}", name, allowed)


def _checked_name(name: str) -> str:
    if not is_job_name(name):
        raise SpecError(
            f"Job name {name!r} is not allowed.",
            hint="Use letters, digits, '-', '_' and '.', at most 255: --name my-run-1",
            field="name",
            found=name,
            allowed="letters, digits, '-', '_', '.'",
        )
    return name


def _problem(at: str, text: str, found: Any, allowed: str) -> SpecError:
    end = "" if text.endswith("?") else "."
    return SpecError(f"{at}: {text}{end}", hint=f"Allowed: {allowed}.", field=at, found=found, allowed=allowed)
