"""Invoke a deployment of type pipeline: its component with the inputs, outputs and settings of one job."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.component_bodies import is_data
from hpcbatch.operations.pipeline_steps import compute_name
from hpcbatch.operations.pipelines import PipelineRequest, start_pipeline
from hpcbatch.operations.resolve import deployment_asked_for
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.base import COMMAND_LINE, parse
from hpcbatch.spec.pipeline import PipelineSettings
from hpcbatch.spec.yamlfile import Loaded

# What may be changed for one job.
OVERRIDES = ("continue_on_step_failure", "default_compute", "force_rerun")


@dataclass(frozen=True)
class PipelineInvocation:
    """One invocation of a pipeline as asked for.

    `given` is a document with `inputs` and `outputs`; its relative paths start at its folder. `input` is data for the
    one input that takes some.
    """

    endpoint: str
    deployment: str | None = None
    given: Loaded = field(default_factory=lambda: Loaded({}, COMMAND_LINE, {}, Path.cwd()))
    input: str | None = None
    job_name: str | None = None
    experiment_name: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    dependency: str | None = None
    needs_slurm: bool = False  # see PipelineRequest


def invoke_pipeline(
    ws: Workspace, asked: PipelineInvocation, *, say: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Start a job of the pipeline and return at once; the dict is what `job show` says.

    With `job_name` the call is idempotent. Raises SpecError, NotFound, Conflict, FilesystemError, SchedulerError;
    nothing is submitted then.
    """
    return start_pipeline(ws, pipeline_request(ws, asked), say=say)


def pipeline_request(ws: Workspace, asked: PipelineInvocation) -> PipelineRequest:
    """What *asked* comes to. Raises SpecError, NotFound."""
    endpoint, name, document = deployment_asked_for(ws, asked.endpoint, asked.deployment)
    body = document["component"]["body"]
    settings = _settings(document["settings"], asked.overrides)
    given = _with_input(body, asked)
    return PipelineRequest(
        body=body,
        given=given,
        asked={
            "endpoint": endpoint,
            "deployment": asked.deployment,
            "inputs": _rooted(given.data.get("inputs"), given.folder),
            "outputs": _rooted(given.data.get("outputs"), given.folder),
            "overrides": dict(asked.overrides),
            "experiment_name": asked.experiment_name,
            **({"dependency": asked.dependency} if asked.dependency else {}),
        },
        name=asked.job_name,
        experiment_name=asked.experiment_name,
        endpoint=endpoint,
        deployment=name,
        deployment_revision=document["revision"],
        compute=compute_name(settings.default_compute, "default_compute") if settings.default_compute else None,
        continue_on_step_failure=settings.continue_on_step_failure is not False,
        force_rerun=bool(settings.force_rerun),
        properties={"component": document["component"]["id"]},
        dependency=asked.dependency,
        needs_slurm=asked.needs_slurm,
    )


def _rooted(named: Any, folder: Path) -> Any:
    """What is asked for, wherever it is asked: relative paths made absolute."""
    if not isinstance(named, Mapping):
        return named
    found = dict(named)
    for name, value in named.items():
        path = value.get("path") if isinstance(value, Mapping) else None
        if isinstance(path, str) and "://" not in path and not path.startswith("azureml:"):
            found[name] = {**value, "path": os.path.abspath(folder / Path(path).expanduser())}
    return found


def _settings(stored: Mapping[str, Any], overrides: Mapping[str, Any]) -> PipelineSettings:
    for key in overrides:
        if key not in OVERRIDES:
            raise SpecError(
                f"{key} cannot be changed for one job of a pipeline. What can: {', '.join(OVERRIDES)}.",
                hint="For example: --set force_rerun=true",
                field=key,
                found=overrides[key],
                allowed=", ".join(OVERRIDES),
            )
    return parse(PipelineSettings, {**stored, **overrides})


def _with_input(body: Mapping[str, Any], asked: PipelineInvocation) -> Loaded:
    """The document of the job, with `--input` under the name of the one input that it can be."""
    given = asked.given
    if asked.input is None or given.data.get("inputs"):
        return given
    named = [name for name, port in body["inputs"].items() if is_data(port)]
    if len(named) != 1:
        known = ", ".join(body["inputs"]) or "none"
        raise SpecError(
            f"--input does not say which input of the pipeline it is; there are: {known}.",
            hint="Say it: --set inputs.NAME.path=PATH",
            field="input",
            found=asked.input,
            allowed="inputs.NAME.path=PATH",
        )
    return Loaded({**given.data, "inputs": {named[0]: {"path": asked.input}}}, given.file, given.lines, given.folder)
