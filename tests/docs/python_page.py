"""docs/reference/python.md from what `import hpcbatch` offers: signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import hpcbatch
from hpcbatch import BatchClient, HpcBatchError
from hpcbatch.client.entity import Entity, Part
from tests.docs.markdown import code, table

OF_EVERY_ENTITY = ("load", "dump", "id", "shown")
INTRODUCTION = """\
What `import hpcbatch` offers. By task: [use it from Python](../how-to/use-from-python.md). Entities have the fields of
the [YAML](yaml.md); errors and their exit codes: [errors](exit-codes.md#errors). Azure ML's names, for notebooks that
come from there: `hpcbatch.client.azure`."""


def page() -> str:
    """The page, without the note that it is generated."""
    parts = ["# Python", INTRODUCTION, *_class(BatchClient)]
    for name, kind in collections():
        parts += [f"## client.{name}", _text(kind), _members(kind)]
    entities: list[str] = []
    for name in hpcbatch.__all__:
        value = getattr(hpcbatch, name)
        if value is BatchClient or (inspect.isclass(value) and issubclass(value, HpcBatchError)):
            continue
        if inspect.isclass(value) and issubclass(value, Entity):
            entities.append(value.__name__)
        parts += (
            _class(value) if inspect.isclass(value) else [f"## {name}", code(_signature(name, value)), _text(value)]
        )
    rows = [(_title(name, member), _text(member)) for name, member in _public(Entity) if name in OF_EVERY_ENTITY]
    told = f"{', '.join(map(code, entities))} have, beside their fields:"
    return "\n\n".join([*parts, "## Entities", told, table(("", "what it is"), rows)]) + "\n"


def collections() -> Iterator[tuple[str, type]]:
    """The properties of a client that hold things, with their classes."""
    for name, member in vars(BatchClient).items():
        if isinstance(member, property):
            kind = get_type_hints(member.fget)["return"]
            if kind.__module__.startswith("hpcbatch."):
                yield name, kind


def _class(kind: type) -> list[str]:
    is_made_by_users = "ws" not in inspect.signature(kind).parameters
    signature = [code(_signature(kind.__name__, kind))] if is_made_by_users else []
    return [f"## {kind.__name__}", *signature, _text(kind), _members(kind)]


def _members(kind: type) -> str:
    rows = [(_title(name, member), _text(member)) for name, member in _public(kind, without=(Entity, Part))]
    return table(("", "what it is"), rows) if rows else "What it has: the arguments above, as attributes."


def _public(kind: type, without: tuple[type, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Methods and properties of ours, those of base classes after the class's own."""
    seen: set[str] = set()
    for each in kind.__mro__:
        if not each.__module__.startswith("hpcbatch.") or each in without:
            continue
        for name, member in vars(each).items():
            is_ours = isinstance(member, property | classmethod | staticmethod) or inspect.isfunction(member)
            if is_ours and not name.startswith("_") and name not in seen:
                seen.add(name)
                yield name, member


def _title(name: str, member: Any) -> str:
    if isinstance(member, property):
        returns = inspect.signature(member.fget).return_annotation
        return code(f".{name}: {returns}")
    function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
    return code(_signature(f".{name}", function))


class _Plain(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    shown = [
        each.replace(annotation=_Plain(each.annotation) if isinstance(each.annotation, str) else each.annotation)
        for each in signature.parameters.values()
        if each.name not in ("self", "cls")
    ]
    returns = signature.return_annotation
    plain = signature.replace(
        parameters=shown, return_annotation=_Plain(returns) if isinstance(returns, str) else returns
    )
    return f"{name}{str(plain).replace('<factory>', '...').removesuffix(' -> None')}"


def _text(value: Any) -> str:
    """The docstring in one paragraph; `*name*` becomes code."""
    words = " ".join((inspect.getdoc(value) or "").split())
    return re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"`\1`", words)
