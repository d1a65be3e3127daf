"""What all assets share: documents from files and flags, immutable versions, references, how they are shown."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.ids import canonical
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import model_folder
from hpcbatch.registry.store import Revision, Stream
from hpcbatch.spec.assets import Asset
from hpcbatch.spec.base import COMMAND_LINE
from hpcbatch.spec.refs import AssetRef
from hpcbatch.spec.yamlfile import Loaded, load

KINDS = {"model": "models", "environment": "environments", "data": "data", "compute": "computes"}
_CREATE = {
    "model": "hpcbatch model create --name {name} --type custom_model --path PATH",
    "environment": "hpcbatch environment create --file environment.yml",
    "data": "hpcbatch data create --name {name} --path PATH",
    "compute": "hpcbatch compute create --name {name} --type slurm --set partition=PARTITION",
}
A = TypeVar("A", bound=Asset)
Source = Path | str | Loaded


def document_from(
    file: Source | None, sets: Sequence[str], flags: Mapping[str, Any], *, paths: Sequence[str] = ()
) -> Loaded:
    """The document (in) *file*, or an empty one, with `--set` and then the flags that are not None put in.

    Flags named in *paths* are relative to the current folder, everything else to the folder of the file.
    """
    loaded = read_source(file) if file is not None else Loaded({}, COMMAND_LINE, {}, Path.cwd())
    loaded = loaded.with_sets(sets)
    given = {key: value for key, value in flags.items() if value is not None}
    for key in paths:
        if isinstance(given.get(key), str) and not _is_remote(given[key]):
            given[key] = os.path.abspath(os.path.expanduser(given[key]))
    overridden = loaded.overridden | {(key,) for key in given}
    return replace(loaded, data={**loaded.data, **given}, overridden=overridden)


def read_source(source: Source) -> Loaded:
    """The document itself, or the one in the YAML file that *source* names."""
    return source if isinstance(source, Loaded) else load(source)


@contextlib.contextmanager
def located(loaded: Loaded, section: str = "") -> Iterator[None]:
    """Give a SpecError about a field (of *section*) of *loaded* the file and the line of that field."""
    try:
        yield
    except SpecError as error:
        if error.fields.get("file") is None and error.fields.get("field"):
            error.fields["field"] = f"{section}.{error.fields['field']}".lstrip(".")
            path = tuple(str(error.fields["field"]).split("."))
            around = [path[:length] for length in range(len(path), 0, -1)]
            overridden = any(one in loaded.overridden for one in around)
            error.fields["file"] = COMMAND_LINE if overridden else loaded.file
            lines = (loaded.lines[one] for one in around if one in loaded.lines)
            error.fields["line"] = None if overridden else next(lines, None)
        raise


def named(asset: A, loaded: Loaded) -> A:
    """*asset*, which must have a name."""
    if asset.name is None:
        hint = "Add `name:` to the file, or --name."
        raise SpecError("name is required.", hint=hint, file=loaded.file, field="name", found=None)
    return asset


def local_path(text: str, folder: Path, *, field: str) -> Path:
    """The existing local file or folder *text*, relative to *folder*."""
    if _is_remote(text):
        raise SpecError(
            f"{field}: {text!r} is not a local path.",
            hint="Copy it to a filesystem of this cluster, and give the path of the copy.",
            field=field,
            found=text,
            allowed="a local file or folder",
        )
    path = Path(os.path.abspath(folder / Path(text.removeprefix("file://")).expanduser()))
    if not path.exists():
        raise SpecError(
            f"{field}: {str(path)!r} does not exist.",
            hint=f"Relative paths start at {str(folder)!r}. Correct {field}, and run the same command again.",
            field=field,
            found=str(path),
            allowed="an existing file or folder",
        )
    return path


def add_version(ws: Workspace, kind: str, asset: Asset, content: Mapping[str, Any]) -> Revision:
    """Register *content* as a version of *asset*: the given one, or the next whole number.

    The same content again is the version that is there. Raises Conflict if the version is there with another content.
    """
    name, wanted = str(asset.name), asset.version
    body = {**content, "description": asset.description, "tags": asset.tags, "properties": asset.properties}
    stream = ws.registry.stream(KINDS[kind], name)

    def change(_before: dict[str, Any] | None) -> dict[str, Any]:
        history = versions_of(stream)
        version = wanted or str(max((int(v) for v in history if v.isdigit()), default=0) + 1)
        same = history.get(wanted) if wanted else next(iter(history.values()), None)
        if same is not None and canonical((same.document or {})["content"]) == canonical(body):
            raise _Already(same)
        if wanted and same is not None:
            raise Conflict(
                f"The {kind} {name}:{wanted} exists already, with another content.",
                hint="Versions do not change. Give another version, or leave it out to get the next one.",
                name=name,
                version=wanted,
            )
        return {"name": name, "version": version, "content": body}

    try:
        return stream.update(change, "create")
    except _Already as already:
        return already.revision


class _Already(Exception):
    """The version is there with the same content."""

    def __init__(self, revision: Revision) -> None:
        super().__init__(revision.number)
        self.revision = revision


def versions_of(stream: Stream) -> dict[str, Revision]:
    """Each version of an asset with the revision that made it, the most recently created first."""
    found: dict[str, Revision] = {}
    for revision in stream.revisions():
        if revision.document is not None:
            found.setdefault(str(revision.document["version"]), revision)
    return found


def find_asset(ws: Workspace, kind: str, ref: AssetRef) -> dict[str, Any]:
    """The asset that *ref* names: its version, or the most recently created one. Raises NotFound with what there is."""
    history = versions_of(ws.registry.stream(KINDS[kind], ref.name))
    if not history:
        raise not_found(kind, ref.name, ws.registry.names(KINDS[kind]))
    if ref.label not in (None, "latest", "default"):
        raise NotFound(
            f"The {kind} {ref.name!r} has no label {ref.label!r}.",
            hint=f"Use azureml:{ref.name}@latest, or a version: {', '.join(history)}.",
            known=list(history),
        )
    if ref.version is None:
        return show_of(ws, next(iter(history.values())))
    if ref.version not in history:
        raise NotFound(
            f"The {kind} {ref.name!r} has no version {ref.version!r}. It has: {', '.join(history)}.",
            hint=f"hpcbatch {kind} show --name {ref.name} --version {next(iter(history))}",
            known=list(history),
        )
    return show_of(ws, history[ref.version])


def list_assets(ws: Workspace, kind: str, name: str | None) -> list[dict[str, Any]]:
    """All versions of the asset *name*, or the newest version of every one, newest first or by name."""
    if name is not None:
        find_asset(ws, kind, AssetRef(name))
        history = versions_of(ws.registry.stream(KINDS[kind], name))
        return [show_of(ws, revision) for revision in history.values()]
    return [find_asset(ws, kind, AssetRef(one)) for one in ws.registry.names(KINDS[kind])]


def show_of(ws: Workspace, revision: Revision) -> dict[str, Any]:
    """The asset version in *revision* as `show` prints it."""
    document = revision.document or {}
    name, version, content = document["name"], document["version"], dict(document["content"])
    shown: dict[str, Any] = {"id": f"azureml:{name}:{version}", "name": name, "version": version, **content}
    if "digest" in content:
        shown["path"] = str(model_folder(ws.root, content["digest"]) / content["basename"])
    shown["creation_context"] = {"created_at": revision.created, "created_by": revision.author}
    return shown


def not_found(kind: str, name: str, known: Sequence[str]) -> NotFound:
    """The NotFound for a named thing of *kind*: what there is instead, and how to make one."""
    there = f"There are: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}." if known else "There are none."
    message = f"The {kind} {name!r} is not registered. {there}"
    return NotFound(message, hint=_CREATE[kind].format(name=name), known=list(known))


def _is_remote(text: str) -> bool:
    return text.startswith(("azureml:", "wasbs:", "abfss:")) or ("://" in text and not text.startswith("file://"))
