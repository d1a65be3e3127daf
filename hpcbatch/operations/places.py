"""Where data is that somebody names: an asset, a datastore's path, a URL, or a path of this filesystem."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.errors import SpecError
from hpcbatch.fs import publish
from hpcbatch.operations.versions import find_asset, local_path
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.refs import is_ref, parse_ref

MODEL_TYPES = ("mlflow_model", "custom_model", "triton_model")
_DATASTORE = re.compile(
    r"azureml:/{1,2}(?:subscriptions/.*/|workspaces/.*/)?datastores/([A-Za-z0-9_-]+)/paths/(?P<rest>[^\0]*)\Z"
)
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


@dataclass(frozen=True)
class Place:
    """An absolute path or a URL; `digest` is that of its content where it is known never to change."""

    path: str
    digest: str = ""


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


def readable(path: str, mode: str | None, field: str) -> str:
    """*path*, if a step can read it: files of the cluster, or a URL for a program that takes one (`mode: direct`)."""
    if "://" in path and mode != "direct":
        raise SpecError(
            f"{field}: {path!r} is not on a filesystem that the cluster sees, and a step is given files.",
            hint="Copy it to the shared filesystem and name that; or say mode: direct if the program reads URLs.",
            field=field,
            found=path,
            allowed="a path, an asset, a datastore's path, or mode: direct",
        )
    return path


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
    if kind in MODEL_TYPES:
        found = find_asset(ws, "model", reference)
        return Place(str(found["path"]), str(found.get("digest", "")))
    found = find_asset(ws, "data", reference)
    path = str(found["path"])
    stored = datastore_path(ws, path)
    if stored is None and _URL.match(path):
        return Place(path)
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
