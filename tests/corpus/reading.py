"""Read one YAML file of an Azure ML project with the parser of the entity that it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hpcbatch.operations.job_create import as_pipeline
from hpcbatch.spec.assets import Data, Environment, Model
from hpcbatch.spec.base import parse
from hpcbatch.spec.component import PipelineComponent, parse_component
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.deployment import parse_deployment
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.pipeline import (
    PipelineBatchDeployment,
    PipelineJob,
    input_value,
    output_value,
    parse_steps,
)
from hpcbatch.spec.yamlfile import Loaded, load


def read(kind: str, file: Path) -> None:
    """Parse *file* as *kind*, the word in its `$schema`. Raises SpecError."""
    READERS[kind](load(file))


def _component(loaded: Loaded) -> None:
    component = parse_component(loaded)
    if isinstance(component, PipelineComponent):
        _steps(loaded, component.jobs)


def _job(loaded: Loaded) -> None:
    document = as_pipeline(loaded)
    job = parse(PipelineJob, document)
    _values(document)
    if job.jobs is not None:
        _steps(document, job.jobs)


def _steps(loaded: Loaded, jobs: dict[str, dict[str, object]]) -> None:
    for one in parse_steps(loaded, jobs):
        _values(one.loaded)


def _values(loaded: Loaded) -> None:
    for name, given in (loaded.data.get("inputs") or {}).items():
        input_value(loaded, name, given)
    for name, given in (loaded.data.get("outputs") or {}).items():
        output_value(loaded, name, given)


def _deployment(loaded: Loaded) -> None:
    # az takes the names from its arguments where the file leaves them out
    complete = {"name": "from-arguments", "endpoint_name": "from-arguments"}
    loaded = Loaded({**complete, **loaded.data}, loaded.file, loaded.lines, loaded.folder)
    if loaded.data.get("type") == "pipeline":
        parse(PipelineBatchDeployment, loaded)
    else:
        parse_deployment(loaded)


READERS: dict[str, Callable[[Loaded], object]] = {
    "commandComponent": _component,
    "pipelineComponent": _component,
    "sparkComponent": _component,
    "commandJob": _job,
    "pipelineJob": _job,
    "sweepJob": _job,
    "sparkJob": _job,
    "batchDeployment": _deployment,
    "modelBatchDeployment": _deployment,
    "pipelineComponentBatchDeployment": _deployment,
    "batchEndpoint": lambda loaded: parse(BatchEndpoint, loaded),
    "environment": lambda loaded: parse(Environment, loaded),
    "data": lambda loaded: parse(Data, loaded),
    "model": lambda loaded: parse(Model, loaded),
    "amlCompute": lambda loaded: parse(Compute, loaded),
    "compute": lambda loaded: parse(Compute, loaded),
}
