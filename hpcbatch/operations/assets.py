"""Models, environments, data assets, computes and environment maps: register once, look up by reference."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcbatch.dataio import addresses, credentials
from hpcbatch.environments.requirements import of_conda
from hpcbatch.environments.resolve import interpreter
from hpcbatch.errors import SpecError
from hpcbatch.operations.downloads import copy_out
from hpcbatch.operations.places import kept_path
from hpcbatch.operations.registries import shared_workspace
from hpcbatch.operations.versions import (
    Source,
    add_version,
    document_from,
    find_asset,
    list_assets,
    local_path,
    located,
    named,
    not_found,
    show_of,
)
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import put_model
from hpcbatch.spec.assets import Asset, Data, Environment, Model
from hpcbatch.spec.base import parse
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.edits import Edit, merge_documents
from hpcbatch.spec.mltable import mltable_paths
from hpcbatch.spec.refs import AssetRef
from hpcbatch.spec.yamlfile import load

ANONYMOUS = "azureml_anonymous"


def create_model(
    ws: Workspace,
    *,
    file: Source | None = None,
    name: str | None = None,
    version: str | None = None,
    path: str | None = None,
    type: str | None = None,
    sets: Sequence[str] = (),
    **more: Any,
) -> dict[str, Any]:
    """Copy a model file or folder into the workspace as the next (or the given) version of *name*."""
    flags = {"name": name, "version": version, "path": path, "type": type, **more}
    loaded = document_from(file, sets, flags, paths=("path",))
    model = named(parse(Model, loaded), loaded)
    with located(loaded):
        return register_model(ws, model, loaded.folder)


def register_model(ws: Workspace, model: Model, folder: Path) -> dict[str, Any]:
    """Register the parsed *model*, whose relative path starts at *folder*; without a name it is not listed anywhere."""
    source = local_path(model.path, folder, field="path")
    if model.type == "mlflow_model" and not (source / "MLmodel").is_file():
        raise SpecError(
            f"{str(source)!r} holds no MLmodel file, so it is no mlflow_model.",
            hint="Give the folder that holds MLmodel, or use --type custom_model.",
            field="path",
            found=str(source),
            allowed="a folder with a file MLmodel",
        )
    snapshot = put_model(ws.root, source)
    content = {
        "type": model.type,
        "digest": snapshot.digest,
        "basename": snapshot.basename,
        "is_folder": snapshot.is_folder,
        "size_bytes": snapshot.size_bytes,
        "file_count": snapshot.file_count,
        "flavors": model.flavors,
        "stage": model.stage,
    }
    if model.name is None:
        return {"name": ANONYMOUS, "version": snapshot.digest, **content, **_texts(model)}
    return show_of(ws, add_version(ws, "model", model, content))


def show_model(ws: Workspace, name: str, *, version: str | None = None, label: str | None = None) -> dict[str, Any]:
    """The model *name*: the given version, or the newest."""
    return find_asset(ws, "model", AssetRef(name, version, label))


def list_models(ws: Workspace, name: str | None = None) -> list[dict[str, Any]]:
    """The newest version of every model, or all versions of the model *name*."""
    return list_assets(ws, "model", name)


def download_model(ws: Workspace, ref: AssetRef, folder: str) -> dict[str, Any]:
    """Copy the model's file or folder to `<folder>/<name>/`, as az lays it out; a file of that name is replaced."""
    found = find_asset(ws, "model", ref)
    source = Path(found["path"])
    base = Path(os.path.abspath(os.path.expanduser(folder))) / found["name"]
    files = [Path(at) / name for at, _, names in os.walk(source) for name in sorted(names)] or [source]
    copied = [copy_out(each, base / each.relative_to(source.parent)) for each in files]
    return {"name": found["name"], "version": found["version"], "download_path": str(base), "files": copied}


def create_environment(
    ws: Workspace, *, file: Source | None = None, sets: Sequence[str] = (), **flags: Any
) -> dict[str, Any]:
    """Register an environment; `python:` says which interpreter has it here."""
    loaded = document_from(file, sets, flags, paths=("python", "conda_file"))
    environment = named(parse(Environment, loaded), loaded)
    with located(loaded):
        return register_environment(ws, environment, loaded.folder)


def register_environment(ws: Workspace, environment: Environment, folder: Path) -> dict[str, Any]:
    """Register the parsed *environment*; one without a name is returned without being listed."""
    conda, where, source = environment.conda_file, folder, f"environment {environment.name or 'without a name'!r}"
    if isinstance(conda, str):
        file = local_path(conda, folder, field="conda_file")
        conda, where, source = load(file).data, file.parent, str(file)
    requirements = of_conda(conda, where, source) if conda else None
    python = environment.python
    if python is not None:
        python = os.path.abspath(folder / Path(python).expanduser())
        interpreter(python, f"environment {environment.name or 'without a name'!r}")
    content = {
        "image": environment.image,
        "build": environment.build.model_dump(exclude_none=True) if environment.build else None,
        "conda_file": conda,
        "os_type": environment.os_type,
        "python": python,
        "requirements": requirements.document() if requirements else None,
    }
    if environment.name is None:
        return {"name": ANONYMOUS, "version": "1", **content, **_texts(environment)}
    return show_of(ws, add_version(ws, "environment", environment, content))


def show_environment(
    ws: Workspace, name: str, *, version: str | None = None, label: str | None = None
) -> dict[str, Any]:
    """The environment *name*: the given version, or the newest."""
    return find_asset(ws, "environment", AssetRef(name, version, label))


def list_environments(ws: Workspace, name: str | None = None) -> list[dict[str, Any]]:
    """The newest version of every environment, or all versions of *name*."""
    return list_assets(ws, "environment", name)


def find_environment(ws: Workspace, ref: AssetRef) -> dict[str, Any]:
    """The environment *ref*; if nobody registered that name, only the name, for an environment map to match."""
    if shared_workspace(ref) is None and ws.registry.stream("environments", ref.name).latest() is None:
        return {"name": ref.name, "version": ref.version, "registered": False}
    return {**find_asset(ws, "environment", ref), "registered": True}


def map_environment(ws: Workspace, glob: str, python: str) -> dict[str, Any]:
    """From now on, environments whose name or image matches *glob* run with *python*. A known glob keeps its place."""
    if not glob or len(glob) > 1000:
        hint = "For example: hpcbatch environment map 'sklearn-*' --python /path/to/venv"
        raise SpecError("The pattern is empty or too long.", hint=hint, found=glob, allowed="a glob")
    path = os.path.abspath(os.path.expanduser(python))
    interpreter(path, f"environment map {glob!r}")

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        maps = list((before or {}).get("maps", []))
        entry = {"glob": glob, "python": path}
        at = next((index for index, one in enumerate(maps) if one["glob"] == glob), None)
        if at is not None:
            maps[at] = entry
        else:
            # first match wins, so what matches everything stays behind what was named
            maps.insert(next((i for i, one in enumerate(maps) if one["glob"] == "*"), len(maps)), entry)
        return {"maps": maps}

    ws.registry.stream("environment-maps", "default").update(change, "map")
    return {"glob": glob, "python": path}


def list_environment_maps(ws: Workspace) -> list[dict[str, Any]]:
    """The environment maps, in the order in which they are tried."""
    latest = ws.registry.stream("environment-maps", "default").latest()
    return [dict(one) for one in latest.document["maps"]] if latest and latest.document else []


def create_data(ws: Workspace, *, file: Source | None = None, sets: Sequence[str] = (), **flags: Any) -> dict[str, Any]:
    """Register a named pointer to files. Nothing is copied; an address is not asked for what is there.

    Raises SpecError for an address that carries a secret, and for storage options that do.
    """
    loaded = document_from(file, sets, flags, paths=("path",))
    data = named(parse(Data, loaded), loaded)
    with located(loaded):
        data = data.model_copy(update={"path": kept_path(ws, data.path)})
        content: dict[str, Any] = {"type": data.type, "path": data.path}
        if addresses.is_remote(data.path):
            addresses.parse_address(data.path, field="path", listed=data.type == "uri_folder")
            content["storage_options"] = credentials.checked_options(data.storage_options)
        else:
            source = _data_path(data, loaded.folder)
            content["path"] = str(source)
            if data.type == "mltable":
                content["paths"] = mltable_paths(source)
    return show_of(ws, add_version(ws, "data", data, content))


def show_data(ws: Workspace, name: str, *, version: str | None = None, label: str | None = None) -> dict[str, Any]:
    """The data asset *name*: the given version, or the newest."""
    return find_asset(ws, "data", AssetRef(name, version, label))


def list_data(ws: Workspace, name: str | None = None) -> list[dict[str, Any]]:
    """The newest version of every data asset, or all versions of *name*."""
    return list_assets(ws, "data", name)


def create_compute(
    ws: Workspace,
    *,
    file: Source | None = None,
    name: str | None = None,
    type: str | None = None,
    sets: Sequence[str] = (),
    **azure_flags: Any,
) -> dict[str, Any]:
    """Say what the compute *name* is; an existing one is replaced."""
    loaded = document_from(file, sets, {"name": name, "type": type, **azure_flags}, paths=())
    compute = parse(Compute, loaded)
    document = compute.model_dump(mode="json", exclude_none=True)
    revision = ws.registry.stream("computes", compute.name).update(lambda before: document, "create")
    return _show_compute(ws, dict(revision.document or {}))


def show_compute(ws: Workspace, name: str) -> dict[str, Any]:
    """The compute *name*. `local` is always there."""
    latest = ws.registry.stream("computes", name).latest()
    if latest is not None:
        return _show_compute(ws, dict(latest.document or {}))
    if name == "local":
        return _show_compute(ws, {"name": "local", "type": "local", "tier": "dedicated"})
    raise not_found("compute", name, sorted({*ws.registry.names("computes"), "local"}))


def compute_kind(shown: Mapping[str, Any]) -> str:
    """`slurm` or `local`: what the compute *shown* is here; an `amlcompute` is Slurm where sbatch is on PATH."""
    if shown["type"] == "amlcompute":
        return "slurm" if shutil.which("sbatch") else "local"
    return str(shown["type"])


def list_computes(ws: Workspace) -> list[dict[str, Any]]:
    """Every compute, `local` included."""
    return [show_compute(ws, name) for name in sorted({*ws.registry.names("computes"), "local"})]


def update_compute(
    ws: Workspace, name: str, *, file: Source | None = None, edit: Edit | None = None, **azure_flags: Any
) -> dict[str, Any]:
    """Change what *file*, the flags and *edit* say of the compute; everything else stays as it was."""
    show_compute(ws, name)
    given = document_from(file, (), azure_flags)
    changed = {key: value for key, value in given.data.items() if key not in ("name", "$schema")}
    edit = edit or Edit()
    if not (changed or edit):
        hint = f"hpcbatch compute update --name {name} --max-instances 8"
        raise SpecError("Nothing to change was given.", hint=hint)

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        merged = merge_documents(before or {"name": name, "type": "local"}, changed)
        compute = parse(Compute, edit.on(replace(given, data={**merged, "name": name})))
        return compute.model_dump(mode="json", exclude_none=True)

    revision = ws.registry.stream("computes", name).update(change, "update")
    return _show_compute(ws, dict(revision.document or {}))


def delete_compute(ws: Workspace, name: str) -> None:
    """Forget the compute *name*. Jobs that run on it are not touched.

    Raises SpecError for `local`, which is always there; what was registered under that name can be deleted.
    """
    show_compute(ws, name)
    stream = ws.registry.stream("computes", name)
    if stream.latest() is None:
        raise SpecError(
            f"{name!r} is this machine, which is always there: there is nothing to delete.",
            hint="Which others there are: hpcbatch compute list -o table", field="name", found=name,
        )  # fmt: skip
    stream.update(lambda before: None, "delete")


def _data_path(data: Data, folder: Path) -> Path:
    source = local_path(data.path, folder, field="path")
    if source.is_dir() != (data.type != "uri_file"):
        other = "uri_folder" if source.is_dir() else "uri_file"
        message = f"{str(source)!r} is not a {data.type}."
        raise SpecError(message, hint=f"Use --type {other}.", field="type", found=data.type, allowed=other)
    return source


def _show_compute(ws: Workspace, document: dict[str, Any]) -> dict[str, Any]:
    return {"id": f"{ws.root}/computes/{document['name']}", **document, "provisioning_state": "Succeeded"}


def _texts(asset: Asset) -> dict[str, Any]:
    return {"description": asset.description, "tags": asset.tags, "properties": asset.properties}
