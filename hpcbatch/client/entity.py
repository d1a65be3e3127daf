"""What entities have in common: fields that are set, YAML in and out, and where they came from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, Self

from hpcbatch.client import html
from hpcbatch.errors import Conflict
from hpcbatch.fs.publish import create_once
from hpcbatch.operations.versions import document_from
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.base import Document, parse
from hpcbatch.spec.yamlfile import Loaded, dump

PathLike = str | os.PathLike[str]
_READ_ONLY = {"scoring_uri", "openapi_uri", "kind"}


@dataclass(repr=False)
class Part:
    """A group of fields. Those that are None or empty say nothing: the deployment's or the site's default holds.

    `more` holds fields of the YAML that have no attribute here.
    """

    more: dict[str, Any] = field(default_factory=dict, kw_only=True)

    _parts: ClassVar[Mapping[str, type[Part]]] = {}

    def __post_init__(self) -> None:
        for name, kind in self._parts.items():
            value = getattr(self, name)
            if isinstance(value, Mapping):
                setattr(self, name, kind.of(value))

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Self:
        """The group that *data* describes; what has no attribute here is kept in `more`."""
        known = {one.name for one in fields(cls) if one.init and one.name != "more"}
        given = {key: value for key, value in data.items() if key in known}
        return cls(**given, more={key: value for key, value in data.items() if key not in known})

    def document(self) -> dict[str, Any]:
        """The fields that are set, under the names that they have in the YAML."""
        found = {one.name: plain(getattr(self, one.name)) for one in fields(self) if not one.name.startswith("_")}
        found.update(found.pop("more"))
        return {key: value for key, value in found.items() if value is not None and value not in ({}, [])}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in self.document().items())})"


def plain(value: Any) -> Any:
    """*value* as YAML can hold it."""
    if isinstance(value, Part):
        return value.document()
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Origin:
    """Where an entity comes from: a YAML file, or a workspace, which showed it; else nowhere."""

    source: Loaded | None = None
    root: Path | None = None
    shown: Mapping[str, Any] = field(default_factory=dict)
    document: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, repr=False)
class Entity(Part):
    """What endpoints, deployments, assets and computes have."""

    name: str | None = None
    description: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    _origin: Origin = field(default_factory=Origin, init=False, compare=False)

    _spec: ClassVar[type[Document]]
    _paths: ClassVar[tuple[str, ...]] = ()

    @property
    def id(self) -> str | None:
        """What it is called in the workspace that it came from; None before that."""
        return self._origin.shown.get("id")

    @property
    def shown(self) -> Mapping[str, Any]:
        """Everything that the workspace said about it when it was got, read-only fields included; else empty."""
        return self._origin.shown

    @classmethod
    def load(cls, path: PathLike, **changes: Any) -> Self:
        """The entity in the YAML file *path*, with *changes* to its fields.

        Its relative paths become absolute: it means the same wherever it is used. Raises SpecError with file and line.
        """
        return cls.from_document(document_from(os.fspath(path), (), {key: plain(one) for key, one in changes.items()}))

    @classmethod
    def from_document(cls, loaded: Loaded) -> Self:
        """The entity in *loaded*. Raises SpecError with file and line."""
        loaded = cls._normalised(loaded)
        parsed = parse(cls._spec, loaded).model_dump(mode="json", exclude_unset=True, exclude_none=True)
        entity = cls.of(_rooted(parsed, cls._paths, loaded.folder))
        return entity.coming_from(Origin(source=loaded))

    @classmethod
    def from_workspace(cls, ws: Workspace, shown: Mapping[str, Any]) -> Self:
        """The entity that `show` said *shown* of."""
        known = cls._spec.model_fields.keys() - _READ_ONLY
        entity = cls.of({key: value for key, value in shown.items() if key in known and value != ""})
        return entity.coming_from(Origin(root=ws.root, shown=shown, document=entity.document()))

    def coming_from(self, origin: Origin) -> Self:
        """This entity, which remembers *origin* from now on."""
        self._origin = origin
        return self

    def dump(self, path: PathLike | None = None) -> str:
        """The YAML that loads back as this entity, written to *path* if that is given. Raises Conflict if it exists."""
        text = dump(self.document())
        if path is not None and not create_once(Path(path).expanduser(), text.encode(), 0o644):
            raise Conflict(f"{os.fspath(path)!r} exists; nothing was written.", hint="Choose another name.")
        return text

    def loaded(self) -> Loaded:
        """The document that an operation takes; relative paths in it start at the current folder."""
        return self.loaded_part(self.document())

    def loaded_part(self, document: Mapping[str, Any]) -> Loaded:
        """As `loaded`, of a part of the document."""
        source = self._origin.source or Loaded({}, f"{type(self).__name__} {self.name!r}", {}, Path.cwd())
        data = _rooted(document, self._paths, Path.cwd())
        return replace(source, data=data, folder=Path.cwd(), overridden=frozenset())

    def before(self, ws: Workspace) -> Mapping[str, Any] | None:
        """The document as it was got from *ws*; None if it was not, or has another name now."""
        same = self._origin.root == ws.root and self._origin.shown.get("name") == self.name
        return self._origin.document if same else None

    def as_reference(self) -> str | None:
        """`azureml:NAME:VERSION`, if a workspace has it as it stands here; else None."""
        return self.id if self._origin.root and self._origin.document == self.document() else None

    def _repr_html_(self) -> str:
        values = {**self.shown, **self.document()}
        for key in ("id", "name"):
            values.pop(key, None)
        return html.card(type(self).__name__, str(self.name or ""), html.flat(values))

    @classmethod
    def _normalised(cls, loaded: Loaded) -> Loaded:
        return loaded


def _rooted(data: Mapping[str, Any], paths: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """*data* with the local paths in its fields *paths* (dotted) made absolute from *folder*."""
    result = dict(data)
    for path in paths:
        head, _, rest = path.partition(".")
        value = result.get(head)
        if rest and isinstance(value, Mapping):
            result[head] = _rooted(value, (rest,), folder)
        elif not rest and isinstance(value, str) and value and "://" not in value and not value.startswith("azureml:"):
            result[head] = os.path.abspath(folder / Path(value).expanduser())
    return result
