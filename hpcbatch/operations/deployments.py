"""Deployments: a model, the script that runs it, where and how, frozen at the moment they are created."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcbatch.errors import NotFound, SpecError
from hpcbatch.operations import assets
from hpcbatch.operations.endpoints import (
    endpoint_name,
    require_deployment,
    set_default_deployment,
    show_endpoint,
)
from hpcbatch.operations.output_format import check_header
from hpcbatch.operations.scripts import check_kept, check_script, find_script
from hpcbatch.operations.versions import (
    Source,
    creation_context,
    document_from,
    find_asset,
    local_path,
    located,
    place_of,
    referred_by,
)
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import code_file, model_folder, put_code
from hpcbatch.spec.deployment import ModelBatchDeployment, is_pipeline, normalised, parse_deployment
from hpcbatch.spec.edits import Edit, merge_documents
from hpcbatch.spec.mlmodel import check_can_predict
from hpcbatch.spec.output_options import output_options
from hpcbatch.spec.refs import parse_ref
from hpcbatch.spec.yamlfile import Loaded

_log = logging.getLogger(__name__)

_KIND = "deployments"
_MODEL_FIELDS = ("name", "version", "type", "digest", "basename", "is_folder", "size_bytes", "file_count")
_ENVIRONMENT_FIELDS = ("name", "version", "registered", "image", "python", "requirements")
_PATHS = {"model": ("path",), "code_configuration": ("code",), "environment": ("conda_file", "python")}


def create_deployment(
    ws: Workspace,
    *,
    file: Source,
    name: str | None = None,
    endpoint: str | None = None,
    sets: Sequence[str] = (),
    set_default: bool = False,
    skip_script_validation: bool = False,
) -> dict[str, Any]:
    """Make the deployment in *file*, or overwrite the one of that name.

    Its code and its model are copied into the workspace and its references resolved: later edits change nothing.
    Raises NotFound for an endpoint, model or version that is not there, SpecError for a script that is not Python or
    has no run().
    """
    loaded = document_from(file, sets, {"name": name, "endpoint_name": endpoint})
    if is_pipeline(loaded.data):
        shown = _commit_pipeline(ws, loaded)
    else:
        deployment = parse_deployment(loaded)
        shown = _commit(ws, deployment, loaded, {}, touched=set(), validate=not skip_script_validation)
    if set_default:
        set_default_deployment(ws, shown["endpoint_name"], shown["name"])
    return shown


def show_deployment(ws: Workspace, name: str, endpoint: str) -> dict[str, Any]:
    """The deployment as Azure ML shows it, references resolved. Raises NotFound with the ones that exist."""
    actual = endpoint_name(ws, endpoint)
    document = deployment_document(ws, actual, name)
    if is_pipeline(document):
        from hpcbatch.operations.pipeline_deployments import shown_pipeline

        shown = shown_pipeline(ws, actual, name, document)
    else:
        shown = _show(ws, actual, name, document)
    return {**shown, "creation_context": creation_context(ws.registry.stream(_KIND, actual, name))}


def list_deployments(ws: Workspace, endpoint: str) -> list[dict[str, Any]]:
    """Every deployment of *endpoint*, by name."""
    actual = endpoint_name(ws, endpoint)
    return [show_deployment(ws, name, actual) for name in ws.registry.names(_KIND, actual)]


def update_deployment(
    ws: Workspace,
    name: str,
    endpoint: str,
    *,
    file: Source | None = None,
    sets: Sequence[str] = (),
    adds: Sequence[str] = (),
    removes: Sequence[str] = (),
    skip_script_validation: bool = False,
) -> dict[str, Any]:
    """Change what *file* and the edits say; everything else stays as it was, snapshots included.

    Raises Conflict if somebody else changed the deployment meanwhile.
    """
    actual = endpoint_name(ws, endpoint)
    document = deployment_document(ws, actual, name)
    loaded = document_from(file, (), {})
    loaded = loaded if is_pipeline(document) else normalised(loaded)
    given = {key: value for key, value in loaded.data.items() if key not in ("name", "endpoint_name", "$schema")}
    if file is None:
        given = {}
    edit = Edit(sets, adds, removes)
    if not (given or edit):
        command = f"hpcbatch batch-deployment update --name {name} --endpoint-name {actual}"
        raise SpecError("Nothing to change was given.", hint=f"{command} --set settings.mini_batch_size=20")
    _refuse_another_name(edit, name, actual)
    changed = edit.on(replace(loaded, data=merge_documents(document["spec"], given)))
    changed = replace(changed, data={**changed.data, "name": name, "endpoint_name": actual})
    touched = {*given, *edit.top_fields}
    if is_pipeline(document):
        return _commit_pipeline(ws, changed, document, frozenset(touched))
    deployment = parse_deployment(changed)
    return _commit(ws, deployment, changed, document, touched=touched, validate=not skip_script_validation)


def _refuse_another_name(edit: Edit, name: str, endpoint: str) -> None:
    """A deployment keeps its name and its endpoint; to say them again is no harm."""
    said = dict(one.split("=", 1) for one in (*edit.sets, *edit.adds) if "=" in one)
    for field, is_called in (("name", name), ("endpoint_name", endpoint)):
        if said.get(field, is_called) != is_called:
            raise SpecError(
                f"{field} cannot be changed: the deployment is {name!r} of {endpoint!r}.",
                hint="Make another one: hpcbatch batch-deployment create --file deployment.yml --name NAME "
                "--endpoint-name ENDPOINT",
                field=field, found=said[field], allowed=is_called,
            )  # fmt: skip


def delete_deployment(ws: Workspace, name: str, endpoint: str) -> None:
    """Delete the deployment; jobs stay. If it was the default, the endpoint has none afterwards."""
    actual = endpoint_name(ws, endpoint)
    require_deployment(ws, actual, name)
    if show_endpoint(ws, actual)["defaults"]["deployment_name"] == name:
        set_default_deployment(ws, actual, None)
    ws.registry.stream(_KIND, actual, name).update(lambda before: None, "delete")


def deployment_document(ws: Workspace, endpoint: str, name: str) -> dict[str, Any]:
    """What is stored for the deployment, and under `revision` its number. Raises NotFound with the ones that exist."""
    latest = ws.registry.stream(_KIND, endpoint, name).latest()
    if latest is None:
        require_deployment(ws, endpoint, name)
        raise NotFound(f"Deployment name {name} not found for this endpoint.", hint="Run the same command again.")
    return {**dict(latest.document or {}), "revision": latest.number}


def _commit_pipeline(
    ws: Workspace, loaded: Loaded, before: Mapping[str, Any] | None = None, touched: frozenset[str] = frozenset()
) -> dict[str, Any]:
    # What pipelines are made of takes a tenth of a second to import, and `invoke` comes by here too.
    from hpcbatch.operations.pipeline_deployments import pipeline_document

    deployment, document = pipeline_document(ws, loaded, before, touched)
    endpoint = endpoint_name(ws, deployment.endpoint_name)
    document["spec"]["endpoint_name"] = endpoint
    stream = ws.registry.stream(_KIND, endpoint, deployment.name)
    if before is not None:
        stream.append(document, op="update", expected=before["revision"])
    else:
        stream.update(lambda _: document, "create")
    return show_deployment(ws, deployment.name, endpoint)


def _commit(
    ws: Workspace,
    deployment: ModelBatchDeployment,
    loaded: Loaded,
    before: Mapping[str, Any],
    *,
    touched: set[str],
    validate: bool,
) -> dict[str, Any]:
    """Store *deployment*; what of *before* is not *touched* keeps its resolved references and its snapshots."""
    endpoint = endpoint_name(ws, deployment.endpoint_name)
    with located(loaded):
        resolvers: dict[str, tuple[str, Callable[[], dict[str, Any] | None]]] = {
            "code": ("code_configuration", lambda: _resolve_code(ws, deployment, loaded, validate=validate)),
            "environment": ("environment", lambda: _resolve_environment(ws, deployment, loaded)),
            "model": ("model", lambda: _resolve_model(ws, deployment, loaded)),
        }
        resolved = {
            key: resolve() if key not in before or field in touched else before[key]
            for key, (field, resolve) in resolvers.items()
        }
        _check_together(ws, resolved)
        _check_output(deployment)
        compute = parse_ref(deployment.compute, field="compute").name if deployment.compute else None
    if compute and (not before or "compute" in touched):
        _warn_of_a_compute_to_come(ws, compute, loaded)
    spec = deployment.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    document = {
        "spec": _with_absolute_paths({**spec, "endpoint_name": endpoint}, loaded.folder),
        "settings": deployment.effective().model_dump(mode="json"),
        "compute": compute,
        **resolved,
    }
    stream = ws.registry.stream(_KIND, endpoint, deployment.name)
    if before:
        stream.append(document, op="update", expected=before["revision"])
    else:
        stream.update(lambda _: document, "create")
    return show_deployment(ws, deployment.name, endpoint)


def _warn_of_a_compute_to_come(ws: Workspace, compute: str, loaded: Loaded) -> None:
    """A compute may be created after the deployment that names it; a typing error is said at once."""
    try:
        assets.show_compute(ws, compute)
    except NotFound as error:
        file, line = place_of(loaded, "compute")
        where = f"{file}, line {line}" if line else file
        _log.warning(
            "%s: compute: %s Until there is, the deployment cannot be invoked.\n%s", where, error.message, error.hint
        )


def _resolve_model(ws: Workspace, deployment: ModelBatchDeployment, loaded: Loaded) -> dict[str, Any] | None:
    given = deployment.model
    if given is None:
        return None
    if isinstance(given, str):
        with referred_by("model"):
            found = find_asset(ws, "model", parse_ref(given, field="model"))
    else:
        with located(loaded, "model"):
            found = assets.register_model(ws, given, loaded.folder)
    return {key: found[key] for key in _MODEL_FIELDS}


def _resolve_code(
    ws: Workspace, deployment: ModelBatchDeployment, loaded: Loaded, *, validate: bool
) -> dict[str, Any] | None:
    given = deployment.code_configuration
    if given is None:
        return None
    code = local_path(given.code, loaded.folder, field="code_configuration.code")
    if validate:
        check_script(code, given.scoring_script)
    else:
        find_script(code, given.scoring_script)
    snapshot = put_code(ws.root, code)
    check_kept(snapshot.path, given.scoring_script, "code_configuration.scoring_script", code)
    script = os.path.normpath(given.scoring_script)
    return {"digest": snapshot.digest, "size_bytes": snapshot.size_bytes, "scoring_script": script}


def _resolve_environment(ws: Workspace, deployment: ModelBatchDeployment, loaded: Loaded) -> dict[str, Any] | None:
    given = deployment.environment
    if given is None:
        return None
    if isinstance(given, str):
        with referred_by("environment"):
            found = assets.find_environment(ws, parse_ref(given, field="environment"))
    else:
        with located(loaded, "environment"):
            found = assets.register_environment(ws, given, loaded.folder)
        found = {**found, "registered": given.name is not None}
    return {key: found.get(key) for key in _ENVIRONMENT_FIELDS}


def _check_together(ws: Workspace, resolved: Mapping[str, Any]) -> None:
    model, code = resolved["model"], resolved["code"]
    is_mlflow = model is not None and model["type"] == "mlflow_model"
    if is_mlflow and code is None:
        check_can_predict(model_folder(ws.root, model["digest"]) / model["basename"])
    elif is_mlflow and resolved["environment"] is None:
        raise SpecError(
            "'Environment Id' must not be empty: with a code_configuration, an MLflow model needs an environment too.",
            hint="Add environment: azureml:NAME@latest, or remove code_configuration and MLflow predicts by itself.",
            field="environment",
            found=None,
            allowed="an environment",
        )
    elif code is None:
        what = f"Its model is a {model['type']}" if model else "It names no model"
        raise SpecError(
            f"The deployment needs a code_configuration. {what}, so nothing says how to score.",
            hint="Add code_configuration with code: and scoring_script:, or use a model of type mlflow_model.",
            field="code_configuration",
            found=None,
            allowed="code_configuration, or a model of type mlflow_model",
        )


def _check_output(deployment: ModelBatchDeployment) -> None:
    settings = deployment.effective()
    header = output_options(deployment.properties)["output_header"]
    check_header(settings.output_action, str(settings.output_file_name), header)


def _with_absolute_paths(spec: dict[str, Any], folder: Path) -> dict[str, Any]:
    """*spec* with its relative paths made absolute, so that a later update finds them from anywhere."""
    result = dict(spec)
    for section, keys in _PATHS.items():
        if isinstance(result.get(section), dict):
            part = dict(result[section])
            for key in keys:
                if isinstance(part.get(key), str):
                    part[key] = os.path.abspath(folder / Path(part[key].removeprefix("file://")).expanduser())
            result[section] = part
    return result


def _show(ws: Workspace, endpoint: str, name: str, document: Mapping[str, Any]) -> dict[str, Any]:
    spec, model, code, environment = (document[key] for key in ("spec", "model", "code", "environment"))
    return {
        "id": f"{ws.root}/endpoints/{endpoint}/deployments/{name}",
        "name": name,
        "endpoint_name": endpoint,
        "type": "model",
        "description": spec.get("description"),
        "tags": spec.get("tags", {}),
        "properties": spec.get("properties", {}),
        "model": f"azureml:{model['name']}:{model['version']}" if model else None,
        "code_configuration": {
            "code": str(code_file(ws.root, code["digest"])),
            "scoring_script": code["scoring_script"],
        }
        if code
        else None,
        "environment": f"azureml:{environment['name']}:{environment['version'] or 'latest'}" if environment else None,
        "compute": f"azureml:{document['compute']}" if document["compute"] else None,
        "resources": {**spec.get("resources", {}), "instance_count": document["settings"]["instance_count"]},
        "settings": {key: value for key, value in document["settings"].items() if key != "instance_count"},
        "provisioning_state": "Succeeded",
        "revision": document["revision"],
    }
