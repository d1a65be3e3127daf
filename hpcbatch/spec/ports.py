"""Inputs and outputs of components and pipelines: their types, and which values fit them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hpcbatch.spec.base import Document, FreeMapping, Text, TextMapping, lowered, wrong

LITERALS = ("string", "integer", "number", "boolean")
ASSETS = ("uri_folder", "uri_file", "mltable", "mlflow_model", "custom_model", "triton_model", "path")
_ALIASES = {"float": "number"}  # what the service, and `invoke` with it, calls a number

_WHOLE = re.compile(r"[-+]?[0-9]+\Z")
_BOOLEANS = {"true": "True", "false": "False"}
# Reserved by Azure ML: an input becomes an environment variable there (pipeline job YAML, "inputs").
RESERVED = frozenset(("path", "ld_library_path", "user", "logname", "home", "pwd", "shell"))
_NAME_RULE = "letters, digits, '_' and '-', beginning with a letter or '_'"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,254}\Z")


def _type(value: Any) -> Any:
    word = lowered(value)
    return _ALIASES.get(word, word) if isinstance(word, str) else word


def _names(value: Any) -> Any:
    """The mapping, whose keys must be usable as `${{inputs.KEY}}`."""
    if value is None:
        return {}
    for name in value if isinstance(value, Mapping) else ():
        if not _NAME.match(name):
            raise wrong(f"{name[:80]!r} cannot name an input or output", _NAME_RULE)
        if name.lower() in RESERVED:
            raise wrong(f"{name!r} is a reserved name", f"a name other than {', '.join(sorted(RESERVED))}")
    return value


PortType = Annotated[
    Literal[
        "string", "integer", "number", "boolean",
        "uri_folder", "uri_file", "mltable", "mlflow_model", "custom_model", "triton_model", "path",
    ],
    BeforeValidator(_type),
]  # fmt: skip
InputMode = Annotated[
    Literal["ro_mount", "rw_mount", "mount", "download", "direct", "eval_mount", "eval_download", "link"] | None,
    BeforeValidator(lowered),
]
OutputMode = Annotated[
    Literal["rw_mount", "mount", "upload", "direct", "link"] | None, BeforeValidator(lowered)
]  # fmt: skip


class LiteralProblem(Exception):
    """A value does not fit its declaration: *message* says why, *allowed* what would."""

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.message, self.allowed = message, allowed


def literal_text(kind: str, value: Any) -> str:
    """The text that a placeholder of the type *kind* becomes. Raises LiteralProblem.

    A boolean becomes `True` or `False` and a number stays as it was spelled, as in Azure ML (`str()` in its SDK).
    """
    text = str(getattr(value, "source", value))
    if isinstance(value, list | Mapping) or value is None:
        raise LiteralProblem(f"{str(value)[:80]!r} is not a {kind}", f"a {kind}")
    if "\0" in text:
        raise LiteralProblem("it holds a NUL character", "text without NUL")
    if kind == "boolean":
        if text.lower() not in _BOOLEANS:
            raise LiteralProblem(f"{text[:80]!r} is not a boolean", "true or false")
        return _BOOLEANS[text.lower()]
    if kind == "integer" and (isinstance(value, bool) or not _WHOLE.match(text)):
        raise LiteralProblem(f"{text[:80]!r} is not an integer", "a whole number")
    if kind == "number" and (isinstance(value, bool) or not _is_number(text)):
        raise LiteralProblem(f"{text[:80]!r} is not a number", "a number")
    return text


def _is_number(text: str) -> bool:
    try:
        return not math.isnan(float(text)) and "_" not in text
    except ValueError:
        return False


def check_literal(port: Mapping[str, Any], value: Any) -> str:
    """The text of *value* for *port* (`type`, `min`, `max`, `enum`). Raises LiteralProblem if it does not fit."""
    kind = str(port["type"])
    text = literal_text(kind, value)
    if kind in ("integer", "number"):
        least, most = port.get("min"), port.get("max")
        if least is not None and float(text) < float(least):
            raise LiteralProblem(f"{text} is less than the min {least}", f">= {least}")
        if most is not None and float(text) > float(most):
            raise LiteralProblem(f"{text} is more than the max {most}", f"<= {most}")
    words = port.get("enum")
    if words and text not in words:
        raise LiteralProblem(f"{text[:80]!r} is none of its enum", ", ".join(words))
    return text


class InputPort(Document):
    """One declared input: its type, whether it may be left out, and which values it takes."""

    type: PortType
    description: str | None = None
    default: str | bool | float | int | None = None
    optional: bool = False
    min: str | float | int | None = None
    max: str | float | int | None = None
    enum: list[Text] | None = None
    mode: InputMode = None
    datastore: str | None = None
    path: str | None = None  # of a pipeline's input: the data that it has until it is given other
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _values_as_spelled(cls, data: Any) -> Any:
        """A number keeps its spelling: `default: 1.10` is `1.10`."""
        if not isinstance(data, Mapping):
            return data
        return {
            key: str(one.source) if key in ("default", "min", "max") and hasattr(one, "source") else one
            for key, one in data.items()
        }

    @model_validator(mode="after")
    def _fits_itself(self) -> InputPort:
        if self.type not in LITERALS:
            for key in ("min", "max", "enum"):
                if getattr(self, key) is not None:
                    raise wrong(f"{key} is for literals, and this is a {self.type}", f"no {key}")
            return self
        if self.path is not None:
            raise wrong(f"a {self.type} has no path", "default: VALUE, or a type that is data")
        try:
            self._check()
        except LiteralProblem as problem:
            raise wrong(problem.message, problem.allowed) from problem
        return self

    def _check(self) -> None:
        for bound in (self.min, self.max):
            if bound is not None and self.type not in ("integer", "number"):
                raise LiteralProblem(f"min and max are for numbers, and this is a {self.type}", "no min, no max")
            if bound is not None:
                literal_text("number", bound)
        for word in self.enum or ():
            literal_text(self.type, word)
        if self.default is not None:
            check_literal(self.shape(), self.default)

    def shape(self) -> dict[str, Any]:
        """The port as it is kept: plain values, nothing that says nothing."""
        found = self.model_dump(exclude_none=True, exclude_defaults=True)
        if self.enum:
            found["enum"] = [literal_text(self.type, word) for word in self.enum]
        return {**found, "type": self.type}


class OutputPort(Document):
    """One declared output."""

    type: PortType = "uri_folder"
    description: str | None = None
    mode: OutputMode = None
    path: str | None = None
    name: Text | None = None
    version: Text | None = None
    early_available: bool | None = None
    is_control: bool | None = None
    datastore: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)

    def shape(self) -> dict[str, Any]:
        """The port as it is kept."""
        return {**self.model_dump(exclude_none=True, exclude_defaults=True), "type": self.type}


def _present_output(value: Any) -> Any:
    """`outputs:` of a pipeline may leave a name empty (`model:`): a folder."""
    named = _names(value)
    if isinstance(named, Mapping):
        return {name: {} if one is None else one for name, one in named.items()}
    return named


InputPorts = Annotated[dict[str, InputPort], BeforeValidator(_names)]
OutputPorts = Annotated[dict[str, OutputPort], BeforeValidator(_present_output)]
