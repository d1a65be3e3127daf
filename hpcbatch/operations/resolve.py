"""From an endpoint's name to everything an invocation needs, frozen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.environments.build import Say
from hpcbatch.environments.resolve import ResolvedEnvironment, built, resolve_environment
from hpcbatch.errors import FileDamaged, HpcBatchError, NotFound, SpecError
from hpcbatch.operations.assets import ANONYMOUS, compute_kind, find_environment, list_environment_maps, show_compute
from hpcbatch.operations.deployments import deployment_document
from hpcbatch.operations.endpoints import endpoint_name, require_deployment, show_endpoint
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import code_file, model_folder
from hpcbatch.spec.base import parse
from hpcbatch.spec.compute import SLURM_FIELDS, SlurmSettings
from hpcbatch.spec.edits import merge_documents
from hpcbatch.spec.output_options import output_options
from hpcbatch.spec.refs import AssetRef

__all__ = [
    "ResolvedCode",
    "ResolvedCompute",
    "ResolvedDeployment",
    "ResolvedEnvironment",
    "ResolvedModel",
    "ResolvedSettings",
    "resolve_compute",
    "resolve_deployment",
]


_AGAIN = "Create the deployment again: hpcbatch batch-deployment create --file deployment.yml"


@dataclass(frozen=True)
class ResolvedModel:
    """A model snapshot; `path` is the folder that becomes AZUREML_MODEL_DIR."""

    name: str
    version: str
    type: str
    path: str
    digest: str
    size_bytes: int
    file_count: int
    basename: str


@dataclass(frozen=True)
class ResolvedCode:
    """A code snapshot: `path` is the zip, `scoring_script` the file in it."""

    path: str
    digest: str
    scoring_script: str


@dataclass(frozen=True)
class ResolvedCompute:
    """Where to run: `kind` is `slurm` or `local`; `slurm` is the compute's fields with the deployment's over them."""

    name: str
    kind: str
    tier: str
    slurm: Mapping[str, Any]
    max_instances: int | None


@dataclass(frozen=True)
class ResolvedSettings:
    """How to run, every default filled in."""

    mini_batch_size: int
    max_concurrency_per_instance: int
    instance_count: int
    error_threshold: int
    max_retries: int
    timeout_s: float
    output_action: str
    output_file_name: str
    logging_level: str
    environment_variables: Mapping[str, str]
    output_header: str = ""
    output_input_column: str = ""


@dataclass(frozen=True)
class ResolvedDeployment:
    """A deployment at one revision: nothing in it changes when files, assets or the deployment change later."""

    endpoint: str
    deployment: str
    revision: int
    model: ResolvedModel | None
    code: ResolvedCode | None
    environment: ResolvedEnvironment
    compute: ResolvedCompute
    settings: ResolvedSettings
    warnings: tuple[str, ...]


def resolve_deployment(ws: Workspace, endpoint: str, deployment: str | None) -> ResolvedDeployment:
    """What an invocation of *endpoint* would run: its *deployment*, or the default one.

    Raises NotFound for what does not exist, SpecError if there is no default or an interpreter cannot be run.
    """
    actual = endpoint_name(ws, endpoint)
    name = deployment or show_endpoint(ws, actual)["defaults"]["deployment_name"]
    if name is None:
        raise no_default(ws, actual)
    document = deployment_document(ws, actual, name)
    if document.get("type") == "pipeline":
        raise SpecError(
            f"The deployment {name} of {actual} is a pipeline; it has no model to score with.",
            hint=f"hpcbatch batch-endpoint invoke --name {actual} --deployment-name {name} --file inputs.yml",
            field="deployment",
        )
    model = _model(ws, document["model"])
    code = _code(ws, document["code"])
    environment, warnings = _environment(ws, document, model)
    settings = dict(document["settings"])
    retry = settings.pop("retry_settings")
    compute = resolve_compute(ws, document["compute"], _slurm_of(document))
    return ResolvedDeployment(
        endpoint=actual,
        deployment=name,
        revision=document["revision"],
        model=model,
        code=code,
        environment=environment,
        compute=compute,
        settings=ResolvedSettings(
            **{**settings, **output_options(document["spec"].get("properties") or {})},
            max_retries=retry["max_retries"],
            timeout_s=float(retry["timeout"]),
        ),
        warnings=warnings,
    )


def resolve_compute(ws: Workspace, name: str | None, overrides: Mapping[str, Any] | None = None) -> ResolvedCompute:
    """The compute *name* with *overrides* put over its Slurm fields.

    `amlcompute`, or no name, means Slurm with the site's defaults where sbatch is on the PATH, else this machine.
    """
    shown: dict[str, Any] = show_compute(ws, name) if name else {"name": "default", "type": "amlcompute"}
    kind = compute_kind(shown)
    fields = {key: value for key, value in shown.items() if key in SLURM_FIELDS}
    if overrides and {"mem", "mem_per_cpu"} & overrides.keys():
        fields = {key: value for key, value in fields.items() if key not in ("mem", "mem_per_cpu")}
    merged = merge_documents(fields, overrides or {})
    slurm = parse(SlurmSettings, merged, file=f"the compute {shown['name']!r}").model_dump(exclude_none=True)
    return ResolvedCompute(shown["name"], kind, shown.get("tier", "dedicated"), slurm, shown.get("max_instances"))


def _slurm_of(document: Mapping[str, Any]) -> Mapping[str, Any]:
    resources = document["spec"].get("resources") or {}
    return (resources.get("properties") or {}).get("slurm") or {}


def _model(ws: Workspace, found: Mapping[str, Any] | None) -> ResolvedModel | None:
    if found is None:
        return None
    path = model_folder(ws.root, found["digest"])
    if not path.is_dir():
        raise FileDamaged(f"The copy of the model {found['name']} is gone: {path}.", hint=_AGAIN)
    keys = ("name", "version", "type", "digest", "size_bytes", "file_count", "basename")
    return ResolvedModel(path=str(path), **{key: found[key] for key in keys})


def _code(ws: Workspace, found: Mapping[str, Any] | None) -> ResolvedCode | None:
    if found is None:
        return None
    path = code_file(ws.root, found["digest"])
    if not path.is_file():
        raise FileDamaged(f"The copy of the code is gone: {path}.", hint=_AGAIN)
    return ResolvedCode(str(path), found["digest"], found["scoring_script"])


def _environment(
    ws: Workspace, document: Mapping[str, Any], model: ResolvedModel | None
) -> tuple[ResolvedEnvironment, tuple[str, ...]]:
    found = document["environment"]
    if found is not None and not found["registered"] and found["name"] != ANONYMOUS:
        # it may have been registered since, which is how a user answers the warning about it
        found = find_environment(ws, AssetRef(found["name"]))
    if found is not None and found["name"] == ANONYMOUS:
        found = {**found, "name": None}
    mlflow_model = Path(model.path) / model.basename if model and model.type == "mlflow_model" else None
    return resolve_environment(
        found,
        list_environment_maps(ws),
        root=ws.root,
        model_name=model.name if model else None,
        mlflow_model=mlflow_model,
    )


def chosen_environment(ws: Workspace, endpoint: str, name: str) -> dict[str, Any]:
    """Which Python an invocation would use now: `name`, `python` (null: it would be built), `origin`, and as `problem`
    why it cannot be used.
    """
    document = deployment_document(ws, endpoint_name(ws, endpoint), name)
    try:
        found, warnings = _environment(ws, document, _model(ws, document["model"]))
    except HpcBatchError as error:
        return {"python": None, "problem": str(error)}
    return {"name": found.name, "python": found.python or None, "origin": found.origin, "warnings": list(warnings)}


def build_environment(ws: Workspace, endpoint: str, name: str | None, say: Say) -> dict[str, Any]:
    """Build the environment that an invocation of the deployment would build, unless it is there; `chosen_environment`.

    Raises SpecError with what pip said.
    """
    resolved = resolve_deployment(ws, endpoint, name)
    built(resolved.environment, ws.root, say)
    return chosen_environment(ws, resolved.endpoint, resolved.deployment)


def deployment_type(ws: Workspace, endpoint: str, deployment: str | None) -> str:
    """`model` or `pipeline`: what an invocation would run. Raises NotFound, SpecError as an invocation does."""
    return str(deployment_asked_for(ws, endpoint, deployment)[2].get("type", "model"))


def deployment_asked_for(ws: Workspace, endpoint: str, deployment: str | None) -> tuple[str, str, dict[str, Any]]:
    """The names of the endpoint and of its *deployment*, or the default one, and what is stored for it.

    Raises NotFound for what does not exist, SpecError if there is no default.
    """
    actual = endpoint_name(ws, endpoint)
    name = deployment or show_endpoint(ws, actual)["defaults"]["deployment_name"]
    if name is None:
        raise no_default(ws, actual)
    try:
        return actual, name, deployment_document(ws, actual, name)
    except NotFound:
        if deployment is not None:
            raise
        raise no_default(ws, actual) from None


def no_default(ws: Workspace, endpoint: str) -> SpecError:
    """The SpecError for an endpoint without a default deployment: which deployments it has."""
    known = ws.registry.names("deployments", endpoint)
    if not known:
        require_deployment(ws, endpoint, "")
    return SpecError(
        "Set a default deployment or provide a deployment name through cli command. "
        f"The endpoint {endpoint} has: {', '.join(known)}.",
        hint=f"hpcbatch batch-endpoint update --name {endpoint} --defaults deployment_name={known[0]}",
        field="defaults.deployment_name",
        found=None,
        allowed=known,
    )
