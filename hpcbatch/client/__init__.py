"""hpcbatch from Python, in the shape of Azure ML's SDK: a thin layer over the operations that the commands use, too."""

from __future__ import annotations

import os
from typing import TypeVar, cast

from hpcbatch.client.assets import Computes, DataAssets, Environments, Models
from hpcbatch.client.collection import Finished, Listing
from hpcbatch.client.endpoints import BatchDeployments, BatchEndpoints
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
from hpcbatch.client.invocation import Input
from hpcbatch.client.job import Job, Output
from hpcbatch.client.jobs import Jobs
from hpcbatch.client.loading import AnyEntity, load
from hpcbatch.client.pipelines import Component, Components, PipelineComponentBatchDeployment, PipelineJob
from hpcbatch.errors import SpecError
from hpcbatch.operations.workspace import open_workspace

__all__ = [
    "BatchClient",
    "BatchEndpoint",
    "BatchRetrySettings",
    "CodeConfiguration",
    "Component",
    "Compute",
    "Data",
    "EndpointDefaults",
    "Environment",
    "Finished",
    "Input",
    "Job",
    "Listing",
    "Model",
    "ModelBatchDeployment",
    "ModelBatchDeploymentSettings",
    "Output",
    "PipelineComponentBatchDeployment",
    "PipelineJob",
    "load",
]

E = TypeVar("E", bound=AnyEntity)


class BatchClient:
    """A workspace: its endpoints, deployments, assets, computes and jobs.

    *workspace* is a folder or a name, as in `-w`; without it HPCBATCH_WORKSPACE, the user's configuration or
    ~/.hpcbatch says which. Nothing is opened or kept: two clients of one workspace see the same files.
    """

    def __init__(self, workspace: str | os.PathLike[str] | None = None) -> None:
        name = None if workspace is None else os.fspath(workspace)
        self._ws = open_workspace(os.path.abspath(name) if name and not isinstance(workspace, str) else name)

    @property
    def workspace(self) -> str:
        """The folder of the workspace."""
        return str(self._ws.root)

    @property
    def batch_endpoints(self) -> BatchEndpoints:
        """Its endpoints; `invoke` starts jobs."""
        return BatchEndpoints(self._ws)

    @property
    def batch_deployments(self) -> BatchDeployments:
        """The deployments of its endpoints."""
        return BatchDeployments(self._ws)

    @property
    def models(self) -> Models:
        """Its models."""
        return Models(self._ws)

    @property
    def data(self) -> DataAssets:
        """Its data assets."""
        return DataAssets(self._ws)

    @property
    def components(self) -> Components:
        """Its components: the steps of pipelines, and pipelines."""
        return Components(self._ws)

    @property
    def environments(self) -> Environments:
        """Its environments and environment maps."""
        return Environments(self._ws)

    @property
    def computes(self) -> Computes:
        """Its computes."""
        return Computes(self._ws)

    @property
    def jobs(self) -> Jobs:
        """Its jobs."""
        return Jobs(self._ws)

    def create_or_update(self, entity: E) -> E:
        """Create any entity, or change it, in the collection that it belongs to."""
        created: AnyEntity
        match entity:
            case BatchEndpoint():
                created = self.batch_endpoints.create_or_update(entity)
            case ModelBatchDeployment():
                created = self.batch_deployments.create_or_update(entity)
            case PipelineComponentBatchDeployment():
                created = self.batch_deployments.create_or_update(entity)
            case Model():
                created = self.models.create_or_update(entity)
            case Data():
                created = self.data.create_or_update(entity)
            case Environment():
                created = self.environments.create_or_update(entity)
            case Compute():
                created = self.computes.create_or_update(entity)
            case Component():
                created = self.components.create_or_update(entity)
            case PipelineJob():
                raise SpecError(
                    "A job is started, and is no entity afterwards.", hint="client.jobs.create_or_update(job)"
                )
        return cast(E, created)

    def begin_create_or_update(self, entity: E) -> Finished[E]:
        """`create_or_update` as Azure ML spells it."""
        return Finished(self.create_or_update(entity))

    def __repr__(self) -> str:
        return f"BatchClient({self.workspace!r})"
