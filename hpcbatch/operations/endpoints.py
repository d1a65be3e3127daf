"""Endpoints: the stable names under which deployments are invoked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.operations.versions import Source, creation_context, document_from, read_source
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.store import Revision
from hpcbatch.spec.base import COMMAND_LINE, parse
from hpcbatch.spec.edits import Edit, merge_documents
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.yamlfile import Loaded

_KIND = "endpoints"


def create_endpoint(
    ws: Workspace, *, file: Source | None = None, name: str | None = None, sets: Sequence[str] = ()
) -> dict[str, Any]:
    """Make the endpoint, or overwrite this user's endpoint of that name; its default deployment stays unless given.

    Raises Conflict if the name belongs to another user's endpoint, or differs from an existing one only in case.
    """
    loaded = document_from(file, sets, {"name": name})
    endpoint = parse(BatchEndpoint, loaded)
    _refuse_the_names_of_others(ws, endpoint.name)
    document = _document(endpoint)

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        kept = (before or {}).get("defaults", {})
        return {**document, "defaults": document["defaults"] or kept}

    ws.registry.stream(_KIND, endpoint.name).update(change, "create")
    return show_endpoint(ws, endpoint.name)


def show_endpoint(ws: Workspace, name: str) -> dict[str, Any]:
    """The endpoint *name* as Azure ML shows it. Raises NotFound with the endpoints that exist."""
    actual = endpoint_name(ws, name)
    stream = ws.registry.stream(_KIND, actual)
    latest = stream.latest()
    document: Mapping[str, Any] = (latest.document if latest else None) or {}
    uri = f"hpcbatch://{ws.root}/endpoints/{actual}"
    return {
        "id": f"{ws.root}/endpoints/{actual}",
        "name": actual,
        "description": document.get("description"),
        "tags": document.get("tags", {}),
        "properties": document.get("properties", {}),
        "auth_mode": document.get("auth_mode", "aad_token"),
        "defaults": {"deployment_name": document.get("defaults", {}).get("deployment_name")},
        "provisioning_state": "Succeeded",
        "scoring_uri": uri,
        "openapi_uri": None,
        "location": document.get("location") or "",
        "creation_context": creation_context(stream),
    }


def list_endpoints(ws: Workspace) -> list[dict[str, Any]]:
    """Every endpoint, by name."""
    return [show_endpoint(ws, name) for name in ws.registry.names(_KIND)]


def update_endpoint(
    ws: Workspace,
    name: str,
    *,
    file: Source | None = None,
    sets: Sequence[str] = (),
    adds: Sequence[str] = (),
    removes: Sequence[str] = (),
    defaults: str | Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Change description, tags, properties or defaults; the rest stays. A new default deployment must exist."""
    actual = endpoint_name(ws, name)
    given = read_source(file) if file is not None else Loaded({}, COMMAND_LINE, {}, Path.cwd())
    changed = {key: value for key, value in given.data.items() if key not in ("name", "$schema")}
    edit = Edit([*sets, *_defaults(defaults)], adds, removes)

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        if before is None:
            raise _missing(ws, name)
        merged = edit.on(replace(given, data=merge_documents(before, changed)))
        document = _document(parse(BatchEndpoint, merged))
        default = document["defaults"].get("deployment_name")
        if default and default != before.get("defaults", {}).get("deployment_name"):
            require_deployment(ws, actual, default)
        return document

    if not (changed or edit):
        hint = f"hpcbatch batch-endpoint update --name {name} --set description=TEXT"
        raise SpecError("Nothing to change was given.", hint=hint)
    if ("name",) in edit.paths:
        raise SpecError("An endpoint keeps its name.", hint="Create another endpoint instead.", field="name")
    ws.registry.stream(_KIND, actual).update(change, "update")
    return show_endpoint(ws, actual)


def delete_endpoint(ws: Workspace, name: str) -> None:
    """Delete the endpoint and its deployments. Jobs, models and code stay."""
    actual = endpoint_name(ws, name)
    for deployment in ws.registry.names("deployments", actual):
        ws.registry.stream("deployments", actual, deployment).update(lambda before: None, "delete")
    ws.registry.stream(_KIND, actual).update(lambda before: None, "delete")


def endpoint_name(ws: Workspace, name: str) -> str:
    """The existing endpoint *name*, whatever its case. Raises NotFound."""
    if ws.registry.stream(_KIND, name).latest() is not None:
        return name
    for known in ws.registry.names(_KIND):
        if known.lower() == name.lower():
            return known
    raise _missing(ws, name)


def require_deployment(ws: Workspace, endpoint: str, name: str) -> None:
    """Raises NotFound, with the ones there are, unless the endpoint has a deployment *name*."""
    known = ws.registry.names("deployments", endpoint)
    if name in known:
        return
    if not known:
        raise NotFound(
            f"No deployment exists for this endpoint: {endpoint}.",
            hint=f"hpcbatch batch-deployment create --endpoint-name {endpoint} --file deployment.yml",
            known=[],
        )
    raise NotFound(
        f"Deployment name {name} not found for this endpoint. {endpoint} has: {', '.join(known)}.",
        hint=f"hpcbatch batch-deployment list --endpoint-name {endpoint}",
        known=known,
    )


def set_default_deployment(ws: Workspace, endpoint: str, deployment: str | None) -> None:
    """Invocations of *endpoint* that name no deployment go to *deployment* from now on (None = nowhere)."""

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        if before is None:
            raise _missing(ws, endpoint)
        return {**before, "defaults": {"deployment_name": deployment} if deployment else {}}

    ws.registry.stream(_KIND, endpoint).update(change, "set-default")


def _document(endpoint: BatchEndpoint) -> dict[str, Any]:
    document = endpoint.model_dump(mode="json", exclude={"scoring_uri", "openapi_uri", "kind"})
    document["defaults"] = {key: value for key, value in (document["defaults"] or {}).items() if value}
    return document


def _refuse_the_names_of_others(ws: Workspace, name: str) -> None:
    owner = _owner(ws, name)
    if owner is not None and owner.author_uid != os.geteuid():
        raise _taken(name, f"There is an endpoint {name!r} already; it belongs to {owner.author}.")
    for known in ws.registry.names(_KIND):
        if known != name and known.lower() == name.lower():
            raise _taken(known, f"There is an endpoint {known!r} already; names may not differ in case only.")


def _owner(ws: Workspace, name: str) -> Revision | None:
    """The revision that made the endpoint, since it was last deleted."""
    first = None
    for revision in ws.registry.stream(_KIND, name).revisions():
        if revision.document is None:
            break
        first = revision
    return first


def _taken(name: str, message: str) -> Conflict:
    command = f"hpcbatch batch-endpoint update --name {name} --file endpoint.yml"
    return Conflict(message, hint=f"Choose another name, or change that one: {command}", name=name)


def _missing(ws: Workspace, name: str) -> NotFound:
    known = ws.registry.names(_KIND)
    there = f"There are: {', '.join(known[:20])}." if known else f"There are none in {ws.root}."
    return NotFound(
        f"The endpoint {name!r} does not exist. {there}",
        hint=f"hpcbatch batch-endpoint create --name {name}",
        known=known,
    )


def _defaults(given: str | Mapping[str, str] | None) -> list[str]:
    if given is None:
        return []
    pairs = given.split() if isinstance(given, str) else [f"{key}={value}" for key, value in given.items()]
    for one in pairs:
        if "=" not in one:
            raise SpecError(
                f"--defaults {one!r} is not KEY=VALUE.", hint=f"For example: --defaults deployment_name={one}",
                field="defaults", found=one, allowed="deployment_name=NAME",
            )  # fmt: skip
    return [f"defaults.{one}" for one in pairs]
