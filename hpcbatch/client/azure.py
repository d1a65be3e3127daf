"""Azure ML's names for what is here: notebooks of its SDK (v2) run when their imports come from this module.

    from hpcbatch.client.azure import MLClient, BatchEndpoint, ModelBatchDeployment, AmlCompute, AssetTypes, Input, ...

Credentials, subscriptions and resource groups are accepted and mean nothing; a workspace's name may be a folder.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from hpcbatch.client import BatchClient
from hpcbatch.client.assets import Computes
from hpcbatch.client.entities import (
    BatchEndpoint,
    BatchRetrySettings,
    CodeConfiguration,
    Compute,
    Data,
    EndpointDefaults,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
)
from hpcbatch.client.entity import Part
from hpcbatch.client.invocation import Input
from hpcbatch.client.job import Job, Output
from hpcbatch.client.pipelines import Component, PipelineComponentBatchDeployment, PipelineJob

__all__ = [
    "AmlCompute",
    "AssetTypes",
    "BatchDeployment",
    "BatchDeploymentOutputAction",
    "BatchEndpoint",
    "BatchRetrySettings",
    "CodeConfiguration",
    "Component",
    "Compute",
    "Data",
    "EndpointDefaults",
    "Environment",
    "Input",
    "Job",
    "MLClient",
    "Model",
    "ModelBatchDeployment",
    "ModelBatchDeploymentSettings",
    "Output",
    "PipelineComponentBatchDeployment",
    "PipelineJob",
    "ResourceConfiguration",
    "load_batch_deployment",
    "load_batch_endpoint",
    "load_component",
    "load_compute",
    "load_data",
    "load_environment",
    "load_job",
    "load_model",
]

load_batch_endpoint = BatchEndpoint.load
load_batch_deployment = ModelBatchDeployment.load
load_model = Model.load
load_environment = Environment.load
load_data = Data.load
load_compute = Compute.load
load_component = Component.load
load_job = PipelineJob.load


class MLClient(BatchClient):
    """A BatchClient that is made as Azure ML's client is."""

    def __init__(
        self,
        credential: object = None,  # noqa: ARG002 - the file system knows who you are
        subscription_id: str | None = None,  # noqa: ARG002 - there are none
        resource_group_name: str | None = None,  # noqa: ARG002 - there are none
        workspace_name: str | None = None,
        **_more: object,
    ) -> None:
        super().__init__(workspace_name)

    @classmethod
    def from_config(cls, credential: object = None, **_more: object) -> MLClient:
        """The client of the workspace that HPCBATCH_WORKSPACE or the user's configuration names."""
        return cls(credential)

    @property
    def compute(self) -> Computes:
        """Its computes."""
        return self.computes


class AssetTypes:
    """Types of data and models."""

    URI_FILE = "uri_file"
    URI_FOLDER = "uri_folder"
    MLTABLE = "mltable"
    CUSTOM_MODEL = "custom_model"
    MLFLOW_MODEL = "mlflow_model"
    TRITON_MODEL = "triton_model"


class BatchDeploymentOutputAction:
    """What becomes of what `run()` returns."""

    APPEND_ROW = "append_row"
    SUMMARY_ONLY = "summary_only"


@dataclass(kw_only=True, repr=False)
class AmlCompute(Compute):
    """The site's default partition, or this machine where there is no Slurm."""

    type: str | None = "amlcompute"


@dataclass(kw_only=True, repr=False)
class ResourceConfiguration(Part):
    """What a deployment asks of its compute."""

    instance_count: int | None = None
    instance_type: str | None = None
    properties: dict[str, Any] | None = None


def BatchDeployment(**given: Any) -> ModelBatchDeployment:  # noqa: N802 - Azure ML's name
    """A model deployment written in the older way, its settings beside its name."""
    settings = {one.name for one in fields(ModelBatchDeploymentSettings)} - {"more", "environment_variables"}
    below = {key: given.pop(key) for key in settings & given.keys()}
    if "code_path" in given or "scoring_script" in given:
        given["code_configuration"] = CodeConfiguration(given.pop("code_path", "."), given.pop("scoring_script"))
    return ModelBatchDeployment(**given, settings=ModelBatchDeploymentSettings(**below))
