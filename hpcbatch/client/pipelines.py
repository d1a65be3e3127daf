"""Components, pipeline jobs and deployments of pipelines in Python: what their YAML says, or what a workspace has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from hpcbatch.client.assets import Assets
from hpcbatch.client.collection import Listing
from hpcbatch.client.entity import Entity, Origin, PathLike
from hpcbatch.client.job import Job
from hpcbatch.operations import components, versions
from hpcbatch.operations.job_create import as_pipeline
from hpcbatch.spec import component, pipeline
from hpcbatch.spec.base import parse
from hpcbatch.spec.component import parse_component
from hpcbatch.spec.refs import AssetRef
from hpcbatch.spec.yamlfile import Loaded


@dataclass(kw_only=True, repr=False)
class _Written(Entity):
    """What keeps everything that its YAML says; relative paths in it start at the YAML's folder, even of new values."""

    @classmethod
    def from_document(cls, loaded: Loaded) -> Self:
        """The entity in *loaded*. Raises SpecError with file and line."""
        checked = cls._checked(loaded)
        entity = cls.of({key: value for key, value in checked.data.items() if key != "$schema"})
        return entity.coming_from(Origin(source=checked))

    @classmethod
    def _checked(cls, loaded: Loaded) -> Loaded:
        raise NotImplementedError

    def loaded_part(self, document: Mapping[str, Any]) -> Loaded:
        """The document that an operation takes."""
        source = self._origin.source
        return super().loaded_part(document) if source is None else replace(source, data=dict(document))


@dataclass(kw_only=True, repr=False)
class Component(_Written):
    """A step that can be used again: a command, a script for mini-batches, or a pipeline of steps."""

    version: str | None = None
    type: str | None = None
    display_name: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    _spec = component.Component

    @classmethod
    def _checked(cls, loaded: Loaded) -> Loaded:
        parse_component(loaded)
        return loaded


@dataclass(kw_only=True, repr=False)
class PipelineJob(_Written):
    """A pipeline, or one command, that is to run once: `client.jobs.create_or_update(job)` starts it."""

    type: str | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    compute: str | None = None
    inputs: dict[str, Any] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    _spec = pipeline.PipelineJob

    @classmethod
    def _checked(cls, loaded: Loaded) -> Loaded:
        parse(pipeline.PipelineJob, as_pipeline(loaded))
        return loaded


@dataclass(kw_only=True, repr=False)
class PipelineComponentBatchDeployment(Entity):
    """A pipeline behind an endpoint.

    `component` is a reference such as `azureml:score@latest`, the path of a YAML file, or a Component that a workspace
    returned; `job_definition` is a job that ran, or its name.
    """

    endpoint_name: str | None = None
    type: str = "pipeline"
    component: Component | PathLike | None = None
    job_definition: Job | str | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    _spec = pipeline.PipelineBatchDeployment
    _paths = ("component",)

    def document(self) -> dict[str, Any]:
        """The fields that are set; what a workspace has is referred to."""
        document = super().document()
        if isinstance(self.component, Component):
            document["component"] = self.component.as_reference() or self.component.document()
        if isinstance(self.job_definition, Job):
            document["job_definition"] = f"azureml:{self.job_definition.name}"
        return document


class Components(Assets):
    """The components of a workspace. Versions are immutable."""

    _kind = "component"

    def create_or_update(self, component: Component) -> Component:
        """Register it: as the version that it names, or the next one. Its code and those of its steps are copied.

        The same content again is the version that is there. Raises SpecError, NotFound, Conflict.
        """
        return Component.from_workspace(self._ws, components.create_component(self._ws, file=component.loaded()))

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Component:
        """The component *name*, this version or the newest. Raises NotFound with those that there are."""
        shown = versions.find_asset(self._ws, "component", AssetRef(name, version, label))
        return Component.from_workspace(self._ws, shown)

    def list(self, name: str | None = None) -> Listing[Component]:
        """The newest version of every component, or every version of *name*."""
        return self._entities(Component, versions.list_assets(self._ws, "component", name))
