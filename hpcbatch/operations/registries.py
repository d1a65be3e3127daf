"""References of the form azureml://registries/NAME/...: which workspace stands for a registry; copies from there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.workspace import Workspace, read_config
from hpcbatch.registry.snapshots import adopt_code, model_folder, put_model
from hpcbatch.spec.refs import AssetRef

KEY = "registries."


def shared_workspace(ref: AssetRef) -> Workspace | None:
    """The workspace that `configure --defaults registries.NAME=FOLDER` set for the registry of *ref*; None if none is.

    Raises SpecError if nothing was ever registered there.
    """
    folder = read_config().get(f"{KEY}{ref.registry}") if ref.registry else None
    if not folder:
        return None
    found = Workspace(Path(str(folder)).expanduser())
    if not (found.root / "registry").is_dir():
        raise SpecError(
            f"The folder {str(found.root)!r}, which stands for the registry {ref.registry!r}, is no workspace.",
            hint=f"Name another: {how_to_map(ref)}", found=str(found.root), allowed="a workspace",
        )  # fmt: skip
    return found


def how_to_map(ref: AssetRef) -> str:
    """The command that says which workspace stands for the registry of *ref*."""
    return f"hpcbatch configure --defaults {KEY}{ref.registry}=/path/to/workspace"


def adopted(ws: Workspace, other: Workspace, kind: str, shown: Mapping[str, Any]) -> dict[str, Any]:
    """What *other* shows, with the files it needs copied into *ws*: what is done to them there changes nothing here."""
    found = dict(shown)
    if kind == "model":
        snapshot = put_model(ws.root, Path(found["path"]))
        found["digest"] = snapshot.digest
        found["path"] = str(model_folder(ws.root, snapshot.digest) / snapshot.basename)
    for digest in sorted(set(_codes(shown))):
        adopt_code(ws.root, other.root, digest)
    return found


def _codes(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        code = value.get("code")
        if isinstance(code, Mapping) and "digest" in code:
            yield str(code["digest"])
        for one in value.values():
            yield from _codes(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _codes(one)
