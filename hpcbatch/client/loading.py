"""`load`: any YAML file that hpcbatch knows, as the entity that it describes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from hpcbatch.client.entities import BatchEndpoint, Compute, Data, Environment, Model, ModelBatchDeployment
from hpcbatch.client.entity import Entity, PathLike, plain
from hpcbatch.client.pipelines import Component, PipelineComponentBatchDeployment, PipelineJob
from hpcbatch.errors import SpecError
from hpcbatch.operations.versions import document_from
from hpcbatch.spec.base import lowered

Deployment = ModelBatchDeployment | PipelineComponentBatchDeployment
AnyEntity = BatchEndpoint | Deployment | Model | Environment | Data | Compute | Component | PipelineJob

_BY_TYPE: Mapping[str, type[Entity]] = {
    "custom_model": Model, "mlflow_model": Model, "triton_model": Model,
    "uri_file": Data, "uri_folder": Data, "mltable": Data,
    "slurm": Compute, "local": Compute, "amlcompute": Compute,
    "model": ModelBatchDeployment, "parallel": Component,
}  # fmt: skip
_BY_SCHEMA: Mapping[str, type[Entity]] = {
    "batchendpoint": BatchEndpoint, "modelbatchdeployment": ModelBatchDeployment,
    "batchdeployment": ModelBatchDeployment, "pipelinecomponentbatchdeployment": PipelineComponentBatchDeployment,
    "commandcomponent": Component, "pipelinecomponent": Component,
    "commandjob": PipelineJob, "pipelinejob": PipelineJob,
    "model": Model, "data": Data, "environment": Environment, "amlcompute": Compute,
}  # fmt: skip
_BY_FIELD: Mapping[str, type[Entity]] = {
    "endpoint_name": ModelBatchDeployment, "code_configuration": ModelBatchDeployment,
    "image": Environment, "conda_file": Environment, "build": Environment, "python": Environment,
    "auth_mode": BatchEndpoint, "defaults": BatchEndpoint,
}  # fmt: skip


def load(path: PathLike, **changes: Any) -> AnyEntity:
    """The endpoint, deployment, model, environment, data asset, compute, component or job in the YAML file *path*.

    *changes* replace fields: `load("deployment.yml", endpoint_name="heart-batch")`. Relative paths become absolute.
    Raises SpecError with file, line, field, what was found and what is allowed.
    """
    loaded = document_from(os.fspath(path), (), {key: plain(one) for key, one in changes.items()})
    entity = _kind(loaded.data, loaded.file).from_document(loaded)
    assert isinstance(entity, AnyEntity)
    return entity


def _kind(data: Mapping[str, Any], file: str) -> type[Entity]:
    """What the document is: by its type, its schema, the fields that only one kind has; a bare one is an endpoint."""
    kind = lowered(data.get("type"))
    if isinstance(kind, str) and kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if kind in ("pipeline", "command") and "endpoint_name" in data:
        return PipelineComponentBatchDeployment
    schema = str(data.get("$schema", "")).rpartition("/")[2].partition(".")[0].lower()
    if schema in _BY_SCHEMA:
        return _BY_SCHEMA[schema]
    if kind in ("pipeline", "command"):  # a job need not have a name, and does not have a version
        return Component if {"name", "version"} & data.keys() and "experiment_name" not in data else PipelineJob
    for field, found in _BY_FIELD.items():
        if field in data:
            return found
    if kind is not None or "path" in data:
        raise SpecError(
            "Nothing says what this describes.",
            hint=f"Add `type:`, or load it as what it is: Model.load({file!r}), Data.load({file!r}).",
            file=file, field="type", found=data.get("type"), allowed=", ".join(_BY_TYPE),
        )  # fmt: skip
    return BatchEndpoint
