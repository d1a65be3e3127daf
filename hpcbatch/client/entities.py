"""What users describe: endpoints, deployments, assets, computes. In Python what the YAML is on disk.

Nothing is checked while an entity is put together; `create_or_update` checks all of it at once, as it does a file.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hpcbatch.client.entity import Entity, Part, PathLike
from hpcbatch.spec import assets, compute, deployment, endpoint
from hpcbatch.spec.yamlfile import Loaded


@dataclass(kw_only=True, repr=False)
class EndpointDefaults(Part):
    """Which deployment answers when none is named."""

    deployment_name: str | None = None


@dataclass(kw_only=True, repr=False)
class BatchEndpoint(Entity):
    """A stable name under which deployments are invoked."""

    auth_mode: str | None = None
    defaults: EndpointDefaults | Any = field(default_factory=EndpointDefaults)
    location: str | None = None

    _spec = endpoint.BatchEndpoint
    _parts = {"defaults": EndpointDefaults}  # noqa: RUF012 - never written

    @property
    def scoring_uri(self) -> str | None:
        """Its address; None until it is created."""
        return self.shown.get("scoring_uri")


@dataclass(repr=False)
class CodeConfiguration(Part):
    """The folder that holds the scoring script, and the script in it."""

    code: PathLike
    scoring_script: PathLike


@dataclass(kw_only=True, repr=False)
class BatchRetrySettings(Part):
    """How often a mini-batch is tried again, and how many seconds one `run()` may take."""

    max_retries: int | None = None
    timeout: float | None = None


@dataclass(kw_only=True, repr=False)
class ModelBatchDeploymentSettings(Part):
    """How the mini-batches of a deployment are run."""

    mini_batch_size: int | None = None
    max_concurrency_per_instance: int | None = None
    instance_count: int | None = None
    error_threshold: int | None = None
    retry_settings: BatchRetrySettings | Any = field(default_factory=BatchRetrySettings)
    output_action: str | None = None
    output_file_name: str | None = None
    logging_level: str | None = None
    environment_variables: dict[str, str] = field(default_factory=dict)

    _parts = {"retry_settings": BatchRetrySettings}  # noqa: RUF012 - never written


@dataclass(kw_only=True, repr=False)
class Model(Entity):
    """A file or folder that a scoring script, or MLflow, loads."""

    path: PathLike | None = None
    version: str | None = None
    type: str | None = None
    flavors: dict[str, Any] = field(default_factory=dict)
    stage: str | None = None

    _spec = assets.Model
    _paths = ("path",)


@dataclass(kw_only=True, repr=False)
class Environment(Entity):
    """Which software a scoring script needs; `python` names the interpreter, or the prefix, that has it here."""

    version: str | None = None
    image: str | None = None
    build: dict[str, Any] | None = None
    conda_file: PathLike | dict[str, Any] | None = None
    os_type: str | None = None
    python: PathLike | None = None

    _spec = assets.Environment
    _paths = ("conda_file", "python", "build.path")


@dataclass(kw_only=True, repr=False)
class Data(Entity):
    """A named pointer to files."""

    path: PathLike | None = None
    version: str | None = None
    type: str | None = None

    _spec = assets.Data
    _paths = ("path",)


@dataclass(kw_only=True, repr=False)
class Compute(Entity):
    """Where jobs run: `type` is slurm, local or amlcompute. What Slurm is asked for are fields of their own."""

    type: str | None = None
    tier: str | None = None
    size: str | None = None
    min_instances: int | None = None
    max_instances: int | None = None
    idle_time_before_scale_down: int | None = None
    location: str | None = None
    partition: str | None = None
    low_priority_partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    gres: str | None = None
    cpus_per_task: int | None = None
    mem: str | None = None
    mem_per_cpu: str | None = None
    time: int | str | None = None
    nodelist: str | None = None
    exclude: str | None = None
    reservation: str | None = None
    setup: list[str] | None = None
    max_array_tasks: int | None = None
    merge: dict[str, Any] | None = None

    _spec = compute.Compute


@dataclass(kw_only=True, repr=False)
class ModelBatchDeployment(Entity):
    """One implementation behind an endpoint: a model, the script that runs it, where, and how.

    `model`, `environment` and `compute` are references such as `azureml:heart@latest`, or entities: one that a
    workspace returned is referred to, another one becomes part of the deployment.
    """

    endpoint_name: str | None = None
    type: str = "model"
    model: Model | str | None = None
    code_configuration: CodeConfiguration | Any = None
    environment: Environment | str | None = None
    compute: Compute | str | None = None
    resources: dict[str, Any] = field(default_factory=dict)
    settings: ModelBatchDeploymentSettings | Any = field(default_factory=ModelBatchDeploymentSettings)
    error_threshold: int | None = None
    environment_variables: dict[str, str] = field(default_factory=dict)

    _spec = deployment.ModelBatchDeployment
    _parts = {  # noqa: RUF012 - never written
        "model": Model,
        "environment": Environment,
        "code_configuration": CodeConfiguration,
        "settings": ModelBatchDeploymentSettings,
    }
    _paths = ("code_configuration.code", "model.path", "environment.conda_file", "environment.python")

    def document(self) -> dict[str, Any]:
        """The fields that are set; entities that a workspace has are references."""
        document = super().document()
        for key, value in (("model", self.model), ("environment", self.environment)):
            if isinstance(value, Entity) and (reference := value.as_reference()):
                document[key] = reference
        if isinstance(self.compute, Compute):
            document["compute"] = f"azureml:{self.compute.name}"
        return document

    @classmethod
    def _normalised(cls, loaded: Loaded) -> Loaded:
        return deployment.normalised(loaded)
