"""Read YAML as a careful reader would: plain data, no surprises, and the line of every field."""

from __future__ import annotations

import copy
import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import yaml

from hpcbatch.errors import FileDamaged, SpecError
from hpcbatch.fs.publish import filesystem_error
from hpcbatch.fs.scan import read_document

MAX_BYTES = 1 << 20
MAX_ALIASES = 100
MAX_DEPTH = 20
MAX_NODES = 50_000
_OPEN_FILE = re.compile(r"-|/dev/stdin|/(?:dev|proc/self)/fd/([0-9]{1,6})")

FieldPath = tuple[str | int, ...]


@dataclass(frozen=True)
class Loaded:
    """A YAML document: its data, where it came from, and the line (1-based) of each field.

    `overridden` are fields from the command line, `written_as` maps a normalised field to what the user wrote.
    """

    data: dict[str, Any]
    file: str
    lines: Mapping[FieldPath, int]
    folder: Path
    overridden: frozenset[FieldPath] = frozenset()
    written_as: Mapping[FieldPath, FieldPath] = field(default_factory=dict)

    def with_sets(self, sets: Sequence[str]) -> Loaded:
        """The same document after `--set KEY=VALUE ...`; relative paths in values still start at the YAML's folder."""
        paths = frozenset(split_set(one)[0] for one in sets)
        return replace(self, data=apply_sets(self.data, sets), overridden=self.overridden | paths)


class SourceInt(int):
    """A whole number that remembers how it was spelled: `version: 007` is the version "007"."""

    source: str


class SourceFloat(float):
    """A number that remembers how it was spelled: `version: 1.10` is the version "1.10"."""

    source: str


def load(path: Path | str) -> Loaded:
    """The YAML file *path*. `-`, /dev/stdin and a shell's `<(...)` are read as they come; relative paths in them start
    where one stands.

    Raises SpecError with file, line and field for what is no mapping of plain data.
    """
    if stream := _OPEN_FILE.fullmatch(str(path)):
        name = "stdin" if int(stream[1] or 0) == 0 else str(path)
        return loads(_rest_of(int(stream[1] or 0), name), name, Path.cwd())
    path = Path(path).expanduser()
    try:
        raw = read_document(path.resolve(), MAX_BYTES)
    except FileNotFoundError as error:
        message = f"{str(path)!r} does not exist."
        raise SpecError(message, hint="Check the path given to --file.", file=str(path)) from error
    except FileDamaged as error:
        raise SpecError(
            f"{error.message} A YAML file is a plain file of at most {MAX_BYTES} bytes.",
            hint="Check the path given to --file.",
            file=str(path),
            allowed=f"at most {MAX_BYTES} bytes",
        ) from error
    except OSError as error:
        raise filesystem_error(error, path) from error
    return loads(raw, str(path), path.resolve().parent)


@functools.cache  # an invocation reads its document more than once, which a pipe allows only once
def _rest_of(fd: int, name: str) -> bytes:
    try:
        with os.fdopen(os.dup(fd), "rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise filesystem_error(error, Path(name)) from error
    if len(raw) > MAX_BYTES:
        allowed = f"at most {MAX_BYTES} bytes"
        message = f"There are more than {MAX_BYTES} bytes."
        raise SpecError(message, hint="Check the command before the pipe.", file=name, allowed=allowed)
    return raw


def loads(raw: bytes, file: str, folder: Path) -> Loaded:
    """The YAML document *raw*, named *file* in errors; relative paths in it start at *folder*."""
    try:
        text = raw.decode("utf-8-sig")
        loader = _Loader(text)
        node = loader.get_single_node()
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        _refuse("This is not UTF-8 text.", file, line, found=raw[error.start : error.end].hex(), allowed="UTF-8")
    except _Refused as error:
        _refuse(error.text, file, error.line, found=error.found, allowed=error.allowed)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = f"This is not valid YAML: {error.problem or error.context}."
        _refuse(problem, file, mark.line + 1 if mark else None, found=error.problem, allowed="valid YAML")
    except yaml.YAMLError as error:
        _refuse(f"This is not valid YAML: {error}.", file, 1, found=None, allowed="valid YAML")
    reader = _Reader()
    try:
        data = {} if node is None else reader.value(node, ())
    except _Refused as error:
        _refuse(error.text, file, error.line, found=error.found, allowed=error.allowed, field=error.field)
    if not isinstance(data, dict):
        text = "The document must be a mapping of `field: value` lines."
        _refuse(text, file, 1, found=type(data).__name__, allowed="mapping")
    return Loaded(data, file, reader.lines, folder)


def dump(data: Any) -> str:
    """*data* as YAML text in the order it has."""
    plain = json.loads(json.dumps(data, default=str))
    return str(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, default_flow_style=False))


def split_set(text: str) -> tuple[FieldPath, str]:
    """`a.b=c=d` is (("a", "b"), "c=d"). Raises SpecError if there is no key or no `=`."""
    key, equals, value = text.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts):
        raise SpecError("usage: --set KEY=VALUE [KEY=VALUE ...]", found=text, allowed="KEY=VALUE", field=key)
    return parts, value


def apply_sets(data: Mapping[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """A copy of *data* with each `a.b=c` of *sets* applied. Values stay strings; missing parents are made."""
    result: dict[str, Any] = copy.deepcopy(dict(data))
    for text in sets:
        parts, value = split_set(text)
        at: dict[str, Any] = result
        for depth, part in enumerate(parts[:-1], start=1):
            below = at.get(str(part))
            if below is None:
                below = at[str(part)] = {}
            if not isinstance(below, dict):
                name = ".".join(map(str, parts[:depth]))
                raise SpecError(
                    f"--set {text}: {name} is {below!r}, which has no fields.",
                    hint=f"Set the whole of it instead: --set {name}=VALUE",
                    field=name,
                    found=below,
                    allowed="a mapping",
                )
            at = below
        at[str(parts[-1])] = value
    return result


def _refuse(text: str, file: str, line: int | None, *, found: Any, allowed: Any, field: str = "") -> NoReturn:
    hint = f"Correct {file}" + (f", line {line}" if line else "") + ", and run the same command again."
    raise SpecError(text, hint=hint, file=file, line=line, field=field, found=found, allowed=allowed)


class _Refused(Exception):
    def __init__(self, text: str, node: yaml.Node | yaml.Event, found: Any, allowed: Any, path: FieldPath = ()) -> None:
        super().__init__(text)
        self.text, self.found, self.allowed = text, found, allowed
        self.line = node.start_mark.line + 1 if node.start_mark else None
        self.field = ".".join(map(str, path))


class _Loader(yaml.SafeLoader):
    """Composes nodes only; tags, many aliases and deep nesting are refused while they are read."""

    yaml_implicit_resolvers = {}  # noqa: RUF012  # the class attribute that PyYAML reads
    _aliases = 0
    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # the stubs leave it out
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _Refused("This is nested too deeply.", event, f"more than {MAX_DEPTH} levels", f"{MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            self._aliases += 1
            if self._aliases > MAX_ALIASES:
                found = f"more than {MAX_ALIASES}"
                raise _Refused("There are too many aliases.", event, found, f"{MAX_ALIASES} aliases")
        elif getattr(event, "tag", None) is not None:
            raise _Refused(f"YAML tags such as {event.tag} are not allowed.", event, event.tag, "no tags")
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_BOOL = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]{1,400}\Z")
_OTHER_INT = re.compile(r"0(?:o[0-7]{1,99}|x[0-9a-fA-F]{1,99})\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_SPECIAL_FLOAT = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def _scalar(text: str) -> Any:
    """The value of a plain scalar by YAML 1.2's core rules: `no`, `1:30` and `2026-01-01` are strings."""
    if _NULL.match(text):
        return None
    if _BOOL.match(text):
        return text.lower() == "true"
    if _INT.match(text) or _OTHER_INT.match(text):
        number = SourceInt(int(text) if _INT.match(text) else int(text, 0))
        number.source = text
        return number
    if _FLOAT.match(text) or _SPECIAL_FLOAT.match(text):
        real = SourceFloat(text.replace(".", "", 1) if _SPECIAL_FLOAT.match(text) else text)
        real.source = text
        return real
    return text


def _characters(node: yaml.ScalarNode, path: FieldPath) -> str:
    """The text of *node*, in which two escapes as JSON writes them may be the halves of one character."""
    text = str(node.value)
    if not any("\ud800" <= c <= "\udfff" for c in text):
        return text
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError as error:
        raise _Refused("This is half of a character.", node, ascii(text), "whole characters", path) from error


class _Reader:
    """Turns nodes into data and remembers the line of every field."""

    def __init__(self) -> None:
        self.lines: dict[FieldPath, int] = {}
        self._nodes = 0

    def value(self, node: yaml.Node, path: FieldPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            allowed = f"{MAX_NODES} values, {MAX_DEPTH} levels"
            raise _Refused("This expands to too many values or levels.", node, "more", allowed, path)
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node.value) if node.style is None else _characters(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, index)) for index, child in enumerate(node.value)]
        return self._mapping(node, path)

    def _mapping(self, node: yaml.Node, path: FieldPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, child in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _Refused("A field name must be plain text.", key, key.id, "text", path)
            name = _characters(key, path)
            if name in result:
                before = self.lines[(*path, name)]
                text = f"{name!r} is given twice; the first time in line {before}."
                raise _Refused(text, key, name, "each field once", (*path, name))
            self.lines[(*path, name)] = key.start_mark.line + 1
            result[name] = self.value(child, (*path, name))
        return result
