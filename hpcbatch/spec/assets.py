"""Models, environments and data assets as users write them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hpcbatch.spec.base import AssetName, Document, FreeMapping, Text, TextMapping, Version, lowered, wrong

ModelType = Annotated[Literal["custom_model", "mlflow_model", "triton_model"], BeforeValidator(lowered)]
DataType = Annotated[Literal["uri_file", "uri_folder", "mltable"], BeforeValidator(lowered)]


class AssetTexts(Document):
    """What may change of a registered version, whose content may not."""

    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)


class Asset(AssetTexts):
    """What all named assets have."""

    name: AssetName | None = None
    version: Version | None = None


class Model(Asset):
    """A file or folder that a scoring script, or MLflow, loads."""

    type: ModelType = "custom_model"
    path: Annotated[str, Field(min_length=1)]
    flavors: FreeMapping = Field(default_factory=dict)
    stage: str | None = None
    datastore: str | None = None
    job_name: str | None = None
    intellectual_property: FreeMapping = Field(default_factory=dict)
    default_deployment_template: FreeMapping = Field(default_factory=dict)


class Data(Asset):
    """A named pointer to files."""

    type: DataType = "uri_folder"
    path: Annotated[str, Field(min_length=1)]
    storage_options: FreeMapping = Field(default_factory=dict)
    datastore: str | None = None


class Build(Document):
    """A container build context."""

    path: str | None = None
    dockerfile_path: str | None = None


def _without_docker(data: Any) -> Any:
    """`docker: {image: I}` or `docker: {build: {dockerfile: F}}`, as the previews of 2021 had it, in today's words."""
    docker = data.get("docker") if isinstance(data, dict) else None
    if not isinstance(docker, dict) or not docker.keys() <= {"image", "build"}:
        return data
    build = docker.get("build")
    rest = {key: value for key, value in data.items() if key != "docker"}
    if isinstance(build, dict) and "dockerfile" in build:
        file = {"dockerfile_path": build["dockerfile"]}
        docker = {**docker, "build": {**{key: one for key, one in build.items() if key != "dockerfile"}, **file}}
    return {**rest, **docker}


class Environment(Asset):
    """Which software a scoring script needs; `python` names the interpreter that has it here."""

    image: Text | None = None
    build: Build | None = None
    conda_file: str | dict[str, Any] | None = None
    os_type: Annotated[Literal["linux", "windows"] | None, BeforeValidator(lowered)] = None
    inference_config: FreeMapping = Field(default_factory=dict)
    datastore: str | None = None
    python: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _conda_belongs_in_its_own_file(cls, data: Any) -> Any:
        roots = [key for key in ("channels", "dependencies") if isinstance(data, dict) and key in data]
        if roots:
            message = f"{', '.join(roots)} at the root make this a conda file, not an environment"
            raise wrong(message, "an environment whose `conda_file:` names the conda file")
        return _without_docker(data)

    @model_validator(mode="after")
    def _one_origin(self) -> Environment:
        if self.image and self.build:
            raise wrong("image and build are both given", "one of image and build")
        if self.image and any(ord(c) < 32 for c in self.image):
            raise wrong("the image name holds control characters", "an image name")
        return self
