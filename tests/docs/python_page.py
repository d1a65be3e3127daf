"""docs/reference/python.md from what `import hpcbatch` offers: signatures and docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any, get_type_hints

import hpcbatch
from hpcbatch import BatchClient, HpcBatchError
from tests.docs.markdown import code, table

INTRODUCTION = """\
What `import hpcbatch` offers. By task: [use it from Python](../how-to/use-from-python.md). Entities have the fields of the
[YAML](yaml.md); errors and their exit codes: [errors](exit-codes.md#errors). Names of Azure ML's SDK for notebooks that come
from there: `hpcbatch.client.azure`."""


def page() -> str:
    """The page, without the note that it is generated."""
    parts = ["# Python", INTRODUCTION, *_class(BatchClient)]
    for name, kind in collections():
        parts += [f"## client.{name}", _text(kind), _members(kind)]
    for name in hpcbatch.__all__:
        value = getattr(hpcbatch, name)
        if value is BatchClient or (inspect.isclass(value) and issubclass(value, HpcBatchError)):
            continue
        parts += _class(value) if inspect.isclass(value) else [f"## {name}", code(_signature(name, value)), _text(value)]
    return "\n\n".join(parts) + "\n"


def collections() -> Iterator[tuple[str, type]]:
    """The properties of a client that hold things, with their classes."""
    for name, member in vars(BatchClient).items():
        if isinstance(member, property):
            kind = get_type_hints(member.fget)["return"]
            if kind.__module__.startswith("hpcbatch."):
                yield name, kind


def _class(kind: type) -> list[str]:
    return [f"## {kind.__name__}", code(_signature(kind.__name__, kind)), _text(kind), _members(kind)]


def _members(kind: type) -> str:
    rows = [(_title(name, member), _text(member)) for name, member in _public(kind)]
    return table(("", "what it is"), rows) if rows else "It has its fields only."


def _public(kind: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties of ours, those of base classes after the class's own."""
    seen: set[str] = set()
    for each in kind.__mro__:
        if not each.__module__.startswith("hpcbatch."):
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


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    hidden = {"self", "cls"}
    shown = [each for each in signature.parameters.values() if each.name not in hidden]
    text = str(signature.replace(parameters=shown)).replace("'", "").replace(" = <factory>", " = ...")
    text = re.sub(r"<factory>", "...", text)
    return f"{name}{text.removesuffix(' -> None')}"


def _text(value: Any) -> str:
    """The docstring in one paragraph; `*name*` becomes code."""
    words = " ".join((inspect.getdoc(value) or "").split())
    return re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"`\1`", words)
