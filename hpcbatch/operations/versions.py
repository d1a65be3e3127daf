"""What all assets share: documents from files and flags, immutable versions, references, how they are shown."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import islice, takewhile
from pathlib import Path
from typing import Any, TypeVar

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.fs.publish import explained
from hpcbatch.ids import canonical
from hpcbatch.operations.registries import adopted, how_to_map, shared_workspace
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import model_folder
from hpcbatch.registry.store import Revision, Stream
from hpcbatch.spec.assets import Asset, AssetTexts
from hpcbatch.spec.base import COMMAND_LINE, parse
from hpcbatch.spec.edits import Edit
from hpcbatch.spec.refs import AssetRef
from hpcbatch.spec.yamlfile import Loaded, load

KINDS = {
    "model": "models",
    "environment": "environments",
    "data": "data",
    "compute": "computes",
    "component": "components",
}
_CREATE = {
    "model": "hpcbatch model create --name {name} --type custom_model --path PATH",
    "environment": "hpcbatch environment create --file environment.yml",
    "data": "hpcbatch data create --name {name} --path PATH",
    "component": "hpcbatch component create --file component.yml",
    "compute": "hpcbatch compute create --name {name} --type slurm --set partition=PARTITION",
}
TEXTS = ("description", "tags", "properties")
A = TypeVar("A", bound=Asset)
Source = Path | str | Loaded


class Archived(Enum):
    """What a list does with what was archived."""

    HIDDEN = "hidden"
    INCLUDED = "included"
    ONLY = "only"

    def lists(self, is_archived: bool) -> bool:
        """Whether the list holds what is (not) archived."""
        return self is Archived.INCLUDED or is_archived == (self is Archived.ONLY)


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
    """Give a SpecError or a NotFound about a field (of *section*) of *loaded* the file and the line of that field."""
    try:
        yield
    except (SpecError, NotFound) as error:
        if error.fields.get("file") is None and error.fields.get("field"):
            if section and error.message.startswith(f"{error.fields['field']}:"):
                error.message = f"{section}.{error.message}"
            error.fields["field"] = f"{section}.{error.fields['field']}".lstrip(".")
            error.fields["file"], error.fields["line"] = place_of(loaded, str(error.fields["field"]))
        raise


@contextlib.contextmanager
def referred_by(field: str) -> Iterator[None]:
    """Give a NotFound the *field* of a document that refers to what is not there."""
    try:
        yield
    except NotFound as error:
        error.fields["field"] = field
        error.message = f"{field}: {error.message}"
        raise


def place_of(loaded: Loaded, field: str) -> tuple[str, int | None]:
    """The file and the line of the dotted *field* of *loaded*, or the command line, if that says it."""
    path = tuple(field.split("."))
    around = [path[:length] for length in range(len(path), 0, -1)]
    if any(one in loaded.overridden for one in around):
        return COMMAND_LINE, None
    return loaded.file, next((loaded.lines[one] for one in around if one in loaded.lines), None)


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
    path = Path(os.path.abspath(folder / Path(text.removeprefix("file:").removeprefix("//")).expanduser()))
    with explained(path):
        is_there = path.exists()
    if not is_there:
        raise SpecError(
            f"{field}: {str(path)!r} does not exist.",
            hint=f"Relative paths start at {str(folder)!r}. Correct {field}, and run the same command again.",
            field=field,
            found=str(path),
            allowed="an existing file or folder",
        )
    return path


def add_version(ws: Workspace, kind: str, asset: Asset, content: Mapping[str, Any]) -> AssetVersion:
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
        if same is not None and canonical(same.content) == canonical(body):
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
        revision = stream.update(change, "create")
    except _Already as already:
        return already.version
    return AssetVersion(revision, revision)


@dataclass(frozen=True)
class AssetVersion:
    """One version of an asset: the revision that made it, and the one that says what it is now."""

    made: Revision
    now: Revision

    @property
    def content(self) -> dict[str, Any]:
        """Type, path and texts."""
        return dict((self.now.document or {})["content"])

    @property
    def is_archived(self) -> bool:
        """Whether lists leave it out."""
        return bool((self.now.document or {}).get("archived"))


class _Already(Exception):
    """The version is there with the same content."""

    def __init__(self, version: AssetVersion) -> None:
        super().__init__(version.now.number)
        self.version = version


def versions_of(stream: Stream) -> dict[str, AssetVersion]:
    """Each version of an asset, the most recently created first; what was changed later does not count for that."""
    found: dict[str, AssetVersion] = {}
    for revision in stream.revisions():
        if revision.document is not None:
            version = str(revision.document["version"])
            found[version] = AssetVersion(revision, found[version].now if version in found else revision)
    newest = sorted(found, key=lambda version: found[version].made.number, reverse=True)
    return {version: found[version] for version in newest}


def find_asset(ws: Workspace, kind: str, ref: AssetRef) -> dict[str, Any]:
    """The asset that *ref* names: its version, or the most recently created one. Raises NotFound with what there is.

    A reference to a registry is looked up in the workspace that stands for it, else in this one.
    """
    other = shared_workspace(ref)
    if other is not None:
        return adopted(ws, other, kind, find_asset(other, kind, replace(ref, registry=None)))
    try:
        return show_of(ws, _find(ws, kind, ref))
    except NotFound as error:
        if ref.registry:
            error.hint += f"\nOr say which workspace stands for the registry {ref.registry}: {how_to_map(ref)}"
        raise


def update_asset(ws: Workspace, kind: str, ref: AssetRef, edit: Edit) -> dict[str, Any]:
    """Change description, tags or properties of one version, never what it holds. Raises NotFound, SpecError."""

    def change(before: Mapping[str, Any]) -> dict[str, Any]:
        texts = {key: before["content"].get(key) for key in TEXTS}
        source = Loaded(edit.applied(texts), COMMAND_LINE, {}, Path.cwd(), overridden=edit.paths)
        checked = parse(AssetTexts, source)
        return {**before, "content": {**before["content"], **checked.model_dump()}}

    return _change_version(ws, kind, ref, change, "update")


def archive_asset(ws: Workspace, kind: str, ref: AssetRef, *, archived: bool = True) -> None:
    """Leave the version (without one, every version) out of lists, or put it back. References to it go on working."""
    history = _history(ws, kind, ref.name)
    versions = [_version_of(_find(ws, kind, ref))] if ref.version or ref.label else list(history)
    for version in versions:
        if history[version].is_archived != archived:
            one = AssetRef(ref.name, version)
            _change_version(ws, kind, one, lambda before: {**before, "archived": archived}, "archive")


def _change_version(
    ws: Workspace, kind: str, ref: AssetRef, change: Callable[[Mapping[str, Any]], dict[str, Any]], op: str
) -> dict[str, Any]:
    """Commit change(the document of the version that *ref* names), whatever happened meanwhile to other versions."""
    version = _version_of(_find(ws, kind, ref))
    one = AssetRef(ref.name, version)
    stream = ws.registry.stream(KINDS[kind], ref.name)
    stream.update(lambda _newest: change(dict(_find(ws, kind, one).now.document or {})), op)
    return find_asset(ws, kind, one)


def _version_of(found: AssetVersion) -> str:
    return str((found.now.document or {})["version"])


def _history(ws: Workspace, kind: str, name: str) -> dict[str, AssetVersion]:
    history = versions_of(ws.registry.stream(KINDS[kind], name))
    if not history:
        raise not_found(kind, name, ws.registry.names(KINDS[kind]))
    return history


def _find(ws: Workspace, kind: str, ref: AssetRef) -> AssetVersion:
    history = _history(ws, kind, ref.name)
    if ref.label not in (None, "latest", "default"):
        raise NotFound(
            f"The {kind} {ref.name!r} has no label {ref.label!r}.",
            hint=f"Use azureml:{ref.name}@latest, or a version: {', '.join(history)}.",
            known=list(history),
        )
    if ref.version is None:
        return next(iter(history.values()))
    if ref.version not in history:
        raise NotFound(
            f"The {kind} {ref.name!r} has no version {ref.version!r}. It has: {', '.join(history)}.",
            hint=f"hpcbatch {kind} show --name {ref.name} --version {next(iter(history))}",
            known=list(history),
        )
    return history[ref.version]


def list_assets(
    ws: Workspace, kind: str, name: str | None, archived: Archived = Archived.HIDDEN
) -> list[dict[str, Any]]:
    """All versions of the asset *name*, or the newest version of every one, newest first or by name."""
    if name is not None:
        return [show_of(ws, one) for one in _history(ws, kind, name).values() if archived.lists(one.is_archived)]
    newest = []
    for each in ws.registry.names(KINDS[kind]):
        listed = (one for one in _history(ws, kind, each).values() if archived.lists(one.is_archived))
        newest += [show_of(ws, one) for one in islice(listed, 1)]
    return newest


def show_of(ws: Workspace, found: AssetVersion) -> dict[str, Any]:
    """The version of an asset as `show` prints it."""
    document = found.now.document or {}
    name, version, content = document["name"], document["version"], found.content
    shown: dict[str, Any] = {"id": f"azureml:{name}:{version}", "name": name, "version": version, **content}
    if "digest" in content:
        shown["path"] = str(model_folder(ws.root, content["digest"]) / content["basename"])
    shown["creation_context"] = _made_and_changed(found.made, found.now)
    if found.is_archived:
        shown["archived"] = True
    return shown


def creation_context(stream: Stream) -> dict[str, str]:
    """When and by whom what *stream* names was created and, if it was, last changed; {} if it is not there.

    What had the name before it was deleted does not count.
    """
    life = list(takewhile(lambda one: one.document is not None, stream.revisions()))
    return _made_and_changed(life[-1], life[0]) if life else {}


def _made_and_changed(made: Revision, now: Revision) -> dict[str, str]:
    found = {"created_at": made.created, "created_by": made.author}
    if now.number != made.number:
        found |= {"last_modified_at": now.created, "last_modified_by": now.author}
    return found


def not_found(kind: str, name: str, known: Sequence[str]) -> NotFound:
    """The NotFound for a named thing of *kind*: what there is instead, and how to make one."""
    there = f"There are: {', '.join(known[:20])}{', ...' if len(known) > 20 else ''}." if known else "There are none."
    message = f"The {kind} {name!r} is not registered. {there}"
    return NotFound(message, hint=_CREATE[kind].format(name=name), known=list(known))


def _is_remote(text: str) -> bool:
    return text.startswith(("azureml:", "wasbs:", "abfss:")) or ("://" in text and not text.startswith("file://"))
