"""Where data is that somebody names: an asset, a datastore's path, a URL, or a path of this filesystem."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcbatch.dataio import addresses, credentials
from hpcbatch.errors import SpecError
from hpcbatch.fs import publish
from hpcbatch.operations.versions import find_asset, local_path, referred_by
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.refs import is_ref, parse_ref

MODEL_TYPES = ("mlflow_model", "custom_model", "triton_model")
_DATASTORE = re.compile(
    r"azureml:/{1,2}(?:subscriptions/.*/|workspaces/.*/)?datastores/([A-Za-z0-9_-]+)/paths/(?P<rest>[^\0]*)\Z"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Place:
    """An absolute path or a URL; `digest` is that of its content where it is known never to change, `options` are the
    storage options of a registered URL.
    """

    path: str
    digest: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def resolve_place(ws: Workspace, text: str, kind: str, folder: Path, *, field: str) -> Place:
    """The data of the type *kind* that *text* names; relative paths start at *folder*.

    Raises SpecError for a path that does not exist or is not of that type, NotFound for an unknown asset.
    """
    stored = datastore_path(ws, text)
    if stored is not None:
        return Place(str(_of_type(stored, kind, text, field)))
    if is_ref(text):
        return _asset(ws, text, kind, field)
    if _URL.match(text) and not text.startswith("file://"):
        return Place(text)
    return Place(str(_of_type(local_path(text, folder, field=field), kind, text, field)))


def storage_options(path: str, kind: str, options: Mapping[str, Any], field: str) -> dict[str, Any]:
    """*options* for the address *path* as a job may keep them: {} for a path of the cluster.

    Raises SpecError for an address that a node cannot read or that carries a secret, for a secret that is written out,
    and for secrets of this shell that would not reach the job.
    """
    if not addresses.is_remote(path):
        return {}
    address = addresses.parse_address(path, field=field, listed=kind != "uri_file")
    checked = credentials.checked_options(options)
    credentials.refuse_implicit(address.protocol, checked)
    return checked


def datastore_path(ws: Workspace, text: str) -> Path | None:
    """The path that `azureml://datastores/NAME/paths/REST` stands for; None if *text* is something else.

    A datastore is the folder, or the symbolic link, `<workspace>/datastores/NAME`.
    """
    match = _DATASTORE.match(text)
    if match is None:
        return None
    rest = os.path.normpath(match["rest"].strip("/") or ".")
    if rest.startswith(".."):
        raise SpecError(
            f"{text!r} leads out of its datastore.", hint="Leave out the `..`.", found=text, allowed="a path without .."
        )
    return ws.root / "datastores" / match[1] / rest


def kept_path(ws: Workspace, text: str) -> str:
    """*text*, or the path that it stands for in a datastore of this workspace.

    The workspace has the datastores whose folder or link is there, and always `workspaceblobstore`, with which each
    workspace of Azure ML begins. Raises SpecError for a path that leads out of its datastore.
    """
    match = _DATASTORE.match(text)
    if match is None or not (match[1] == "workspaceblobstore" or (ws.root / "datastores" / match[1]).is_dir()):
        return text
    return str(datastore_path(ws, text))


def make_datastore(ws: Workspace, path: str) -> None:
    """Make the datastore of this workspace that *path* lies in, if it lies in one: everybody's, as /tmp is.

    Raises FilesystemError.
    """
    stores = ws.root / "datastores"
    if Path(path).is_relative_to(stores) and (below := Path(path).relative_to(stores).parts):
        publish.make_directory(ws.root, 0o755)
        publish.make_directory(stores / below[0], 0o1777)


def _asset(ws: Workspace, text: str, kind: str, field: str) -> Place:
    reference = parse_ref(text, field=field)
    with referred_by(field):
        found = find_asset(ws, "model" if kind in MODEL_TYPES else "data", reference)
    if kind in MODEL_TYPES:
        return Place(str(found["path"]), str(found.get("digest", "")))
    path = str(found["path"])
    stored = datastore_path(ws, path)
    if stored is None and _URL.match(path):
        return Place(path, options=found.get("storage_options") or {})
    path = str(stored or path)
    return Place(str(_of_type(Path(path), kind, text, field)))


def _of_type(path: Path, kind: str, text: str, field: str) -> Path:
    """*path*, which must exist, and be a file or a folder as *kind* says."""
    if not path.exists():
        raise SpecError(
            f"{field}: {text!r} is {str(path)!r}, which does not exist.",
            hint="Put the data there, or name other data.",
            field=field,
            found=str(path),
            allowed="an existing file or folder",
        )
    wanted = {"uri_file": "a file", "uri_folder": "a folder", "mltable": "a folder"}.get(kind)
    if wanted and path.is_dir() != (wanted == "a folder"):
        raise SpecError(
            f"{field}: {str(path)!r} is not {wanted}, as a {kind} must be.",
            hint=f"Name {wanted}, or declare the input as {'uri_folder' if path.is_dir() else 'uri_file'}.",
            field=field,
            found=str(path),
            allowed=wanted,
        )
    return path
