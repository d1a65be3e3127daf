"""JSON schemas of the documents that users write, for editors: what completes and underlines while one types.

A schema takes every document that hpcbatch takes, in the words of today; what only a look at the whole document shows
(two fields that exclude each other, a name that does not exist) is said by the command itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic.json_schema import GenerateJsonSchema
from pydantic_core import core_schema

from hpcbatch.spec.assets import Data, Environment, Model
from hpcbatch.spec.base import READ_ONLY, Document
from hpcbatch.spec.component import KINDS, NOT_RUN, CommandComponent, ParallelComponent, PipelineComponent
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.deployment import ModelBatchDeployment, Settings
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.pipeline import PipelineBatchDeployment, PipelineJob

Schema = dict[str, Any]

_DIALECT = "http://json-schema.org/draft-07/schema#"  # what the YAML servers of editors read
_SCALAR: Schema = {"type": ["string", "number", "boolean"]}
_FREE: Schema = {"type": ["object", "null"]}
# What the validators that run before a type let pass beyond it, by their name.
_WIDER: Mapping[str, Callable[[Schema], Schema]] = {
    "_spelled": lambda _: _SCALAR,
    "_version": lambda inner: {"anyOf": [inner, {"type": "number"}]},
    "_text_mapping": lambda _: {
        "type": ["object", "null"],
        "additionalProperties": {"type": [*_SCALAR["type"], "null"]},
    },
    "_empty_mapping": lambda _: _FREE,
    "_names": lambda inner: {"anyOf": [inner, {"type": "null"}]},
    "<lambda>": lambda inner: {"anyOf": [inner, {"type": "null"}]},  # an empty `settings:`
    "_setup": lambda inner: {"anyOf": [inner, {"type": "string"}]},
    "_size": lambda inner: {"anyOf": [inner, {"type": "integer"}]},
}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_ANY_CASE = ("lowered", "_lower", "_type", "_script_level")


class _ForEditors(GenerateJsonSchema):
    """Pydantic's schema of a model, with what our validators let pass beyond its types."""

    schema_dialect = _DIALECT

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Schema:
        inner = self.generate_inner(schema["schema"])
        name = getattr(schema["function"]["function"], "__name__", "")
        if name in _ANY_CASE:
            return _any_case(inner)
        return _WIDER[name](inner) if name in _WIDER else inner

    def int_schema(self, schema: core_schema.IntSchema) -> Schema:
        return {"anyOf": [super().int_schema(schema), {"type": "string", "pattern": r"^\s*[-+]?[0-9]+\s*$"}]}

    def float_schema(self, schema: core_schema.FloatSchema) -> Schema:
        return {
            "anyOf": [
                super().float_schema(schema),
                {"type": "string", "pattern": r"^\s*[-+]?[0-9.]+(e[-+]?[0-9]+)?\s*$"},
            ]
        }

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """A default is for people to see; null, an empty mapping and an empty list tell nothing."""
        found = super().default_schema(schema)
        return {key: one for key, one in found.items() if key != "default" or one not in (None, {}, [])}


def _any_case(inner: Schema) -> Schema:
    """Words as Azure ML compares them: `append_row` is `AppendRow` and `append-row` too; editors offer the first."""
    words = [word for one in (inner, *inner.get("anyOf", ())) for word in (*one.get("enum", ()), one.get("const"))]
    forms = ["[_-]?".join(_any_letters(part) for part in word.split("_")) for word in words if word]
    return {"anyOf": [inner, {"type": "string", "pattern": f"^({'|'.join(forms)})$"}]}


def _any_letters(word: str) -> str:
    return "".join(f"[{one.lower()}{one.upper()}]" if one.isalpha() else re.escape(one) for one in word)


def _of(model: type[Document], *also: str) -> Schema:
    """The schema of *model*; its own name and its endpoint's may come from the command line, and Azure ML's output
    has fields that are read and not used. *also* are fields that an older form has.
    """
    schema = model.model_json_schema(schema_generator=_ForEditors)
    extra: Schema = dict.fromkeys((*READ_ONLY, *also), True)
    required = [name for name in schema.pop("required", ()) if name not in ("name", "endpoint_name")]
    schema["properties"] = {**extra, **schema["properties"]}
    return {**schema, **({"required": required} if required else {})}


def _endpoint() -> Schema:
    return _of(BatchEndpoint)


def _deployment() -> Schema:
    """By `type`; without one it is the form of old, whose settings may stand at the root."""
    model, pipeline = _of(ModelBatchDeployment), _of(PipelineBatchDeployment)
    older = _of(ModelBatchDeployment)
    settings = Settings.model_json_schema(schema_generator=_ForEditors)["properties"]
    older["properties"] = {**settings, **older["properties"]}
    graph = {"anyOf": [{"required": ["component"]}, {"required": ["job_definition"]}]}
    return _choice(
        "A deployment of a model or of a pipeline.",
        [
            (_says("type", "model"), _typed(model, "model")),
            ({"anyOf": [_says("type", "pipeline"), graph]}, _typed(pipeline, "pipeline")),
        ],
        older,
    )


def _component() -> Schema:
    kinds: list[tuple[type[Document], str]] = [
        (CommandComponent, "command"),
        (ParallelComponent, "parallel"),
        (PipelineComponent, "pipeline"),
    ]
    cases = [(_says("type", kind), _typed(_of(model, "job_type"), kind)) for model, kind in kinds]
    others = {"type": "object", "properties": {"type": _any_case({"enum": [*KINDS]})}}
    return _choice(f"A component. Kept and not run: {', '.join(NOT_RUN)}.", cases, others)


def _job() -> Schema:
    """A pipeline; a job of one command becomes one of one step, whose fields are those of a step."""
    graph = {"anyOf": [_says("type", "pipeline"), {"required": ["jobs"]}, {"required": ["component"]}]}
    others = {"type": "object", "properties": {"type": _any_case({"enum": [*KINDS]})}}
    return _choice("A pipeline job.", [(graph, _typed(_of(PipelineJob, "job_type"), "pipeline"))], others)


def _says(field: str, word: str) -> Schema:
    return {"properties": {field: _any_case({"const": word})}, "required": [field]}


def _typed(schema: Schema, word: str) -> Schema:
    schema["properties"]["type"] = _any_case({"const": word})
    return schema


def _choice(description: str, cases: list[tuple[Schema, Schema]], otherwise: Schema) -> Schema:
    """The first case that a document is like decides; the definitions of all of them stand at the root."""
    definitions: Schema = {}
    at = otherwise
    for part in (otherwise, *(schema for _, schema in cases)):
        definitions.update(part.pop("$defs", {}))
    for like, schema in reversed(cases):
        at = {"if": like, "then": schema, "else": at}
    return {"description": description, "type": "object", **at, "$defs": definitions}


KINDS_OF_DOCUMENTS: Mapping[str, Callable[[], Schema]] = {
    "batch-endpoint": _endpoint,
    "batch-deployment": _deployment,
    "component": _component,
    "job": _job,
    "model": lambda: _of(Model),
    "data": lambda: _of(Data),
    "environment": lambda: _of(Environment, "docker"),
    "compute": lambda: _of(Compute, "priority"),
}


def schema_of(kind: str) -> Schema:
    """The JSON schema (draft 7) of the documents of *kind*, a key of `KINDS_OF_DOCUMENTS`."""
    found: Schema = _bounded({"$schema": _DIALECT, "title": f"hpcbatch {kind}", **KINDS_OF_DOCUMENTS[kind]()})
    return found


def _bounded(schema: Any) -> Any:
    """*schema* with the bounds in JSON schema's words; behind a validator, pydantic leaves them in Python's."""
    if isinstance(schema, list):
        return [_bounded(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        _BOUNDS.get(key, key) if isinstance(one, int | float) else key: _bounded(one) for key, one in schema.items()
    }
