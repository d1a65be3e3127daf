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
from hpcbatch.spec.pipeline import (
    CommandStep,
    InputValue,
    OutputValue,
    ParallelStep,
    PipelineBatchDeployment,
    PipelineJob,
    PipelineStep,
    Step,
)

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
    "_present_output": lambda inner: {
        **inner,
        "type": ["object", "null"],
        "additionalProperties": {"anyOf": [inner["additionalProperties"], {"type": "null"}]},
    },
    "<lambda>": lambda inner: {"anyOf": [inner, {"type": "null"}]},  # an empty `settings:`
    "_setup": lambda inner: {"anyOf": [inner, {"type": "string"}]},
    "_size": lambda inner: {"anyOf": [inner, {"type": "integer"}]},
}
_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
_ANY_CASE = {"lowered": (), "_lower": (), "_type": (), "_script_level": ("warn",)}  # and words that are not offered
# What the previews of 2021 said otherwise (spec/preview.py); editors do not offer it.
_OLDER_TYPES = {kind: (f"{kind}_job",) for kind in ("command", "parallel", "pipeline", "sweep")}
_OLDER_CODE: Schema = {"type": "object", "required": ["local_path"]}
_OLDER_COMPUTE: Schema = {"type": "object", "required": ["target"]}
_OLDER_INPUTS = ("data", "dataset", "folder", "file")


class _ForEditors(GenerateJsonSchema):
    """Pydantic's schema of a model, with what our validators let pass beyond its types."""

    schema_dialect = _DIALECT

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> Schema:
        inner = self.generate_inner(schema["schema"])
        name = getattr(schema["function"]["function"], "__name__", "")
        if name in _ANY_CASE:
            return _any_case(inner, *_ANY_CASE[name])
        return _WIDER[name](inner) if name in _WIDER else inner

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        found = super().model_schema(schema)
        if schema["cls"] is Environment:
            found["properties"]["docker"] = True  # as the previews of 2021 had it
        return found

    def int_schema(self, schema: core_schema.IntSchema) -> Schema:
        return {"anyOf": [super().int_schema(schema), {"type": "string", "pattern": r"^\s*[-+]?[0-9_]+(\.0*)?\s*$"}]}

    def bool_schema(self, schema: core_schema.BoolSchema) -> Schema:
        spelled = ["true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "0", "1"]
        _, words = _any_case({"enum": spelled})["anyOf"]
        return {"anyOf": [super().bool_schema(schema), {"enum": [0, 1]}, words]}

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


def _any_case(inner: Schema, *also: str) -> Schema:
    """Words as Azure ML compares them: `append_row` is `AppendRow` and `append-row` too; editors offer the first, and
    none of *also*.
    """
    words = [word for one in (inner, *inner.get("anyOf", ())) for word in (*one.get("enum", ()), one.get("const"))]
    forms = ["[_-]?".join(_any_letters(part) for part in word.split("_")) for word in (*words, *also) if word]
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
    kinds: list[tuple[type[Document], str]] = [(ParallelComponent, "parallel"), (CommandComponent, "command")]
    cases = [(_says("type", kind), _typed(_older(_of(model, "job_type")), kind)) for model, kind in kinds]
    pipeline = _typed(_with_steps(_older(_of(PipelineComponent, "job_type"))), "pipeline")
    typeless = (_without("type", "job_type", "jobs", "task"), cases[-1][1])
    cases += [(_says("type", "pipeline"), pipeline), typeless]
    return _choice(f"A component. Kept and not run: {', '.join(NOT_RUN)}.", cases, _others())


def _job() -> Schema:
    """A pipeline; a job of one command becomes one of one step, whose fields are those of a step."""
    command = _typed(_older(_valued(_of(CommandStep, "job_type"))), "command")
    pipeline = _older(_valued(_with_steps(_of(PipelineJob, "job_type"))))
    pipeline["properties"]["type"] = _word("pipeline", "component", "component_job")
    graph = {"anyOf": [_says("type", "pipeline"), {"required": ["jobs"]}, {"required": ["component"]}]}
    cases = [
        (_says("type", "command"), command),
        (graph, pipeline),
        (_without("type", "job_type"), command),
    ]
    return _choice("A pipeline job, or a job of one command.", cases, _others("command", "pipeline"))


def _with_steps(schema: Schema) -> Schema:
    """The *schema* of a graph, with that of its steps: by `type`; without one a step is a command."""
    kinds: list[tuple[type[Step], str]] = [
        (ParallelStep, "parallel"), (PipelineStep, "pipeline"), (CommandStep, "command")
    ]  # fmt: skip
    cases = [(_says("type", kind), _typed(_older(_valued(_of(model, "job_type"))), kind)) for model, kind in kinds]
    within = {"properties": {"component": {"type": "object"}}, "required": ["component"]}  # it may have the type
    plain = {"allOf": [_without("type", "job_type", "jobs", "task", "trial"), {"not": within}]}
    step = _choice("A step.", [*cases, (plain, cases[-1][1])], _others())
    definitions = {**schema.pop("$defs", {}), **step.pop("$defs"), "Step": step}
    jobs = schema["properties"]["jobs"]
    graph = next((one for one in jobs.get("anyOf", ()) if one.get("type") == "object"), jobs)
    graph["additionalProperties"] = {"$ref": "#/$defs/Step"}
    return {**schema, "$defs": definitions}


def _valued(schema: Schema) -> Schema:
    """The *schema* of a job or step, whose inputs and outputs are values: each a scalar, or a mapping."""
    given, said = _of(InputValue, *_OLDER_INPUTS), _of(OutputValue)
    given["type"], said["type"] = [*_SCALAR["type"], "object", "null"], ["string", "object", "null"]
    schema["properties"]["inputs"] = {**_FREE, "additionalProperties": {"$ref": "#/$defs/InputValue"}}
    schema["properties"]["outputs"] = {**_FREE, "additionalProperties": {"$ref": "#/$defs/OutputValue"}}
    return {**schema, "$defs": {**schema.get("$defs", {}), "InputValue": given, "OutputValue": said}}


def _older(schema: Schema) -> Schema:
    """*schema* with the mappings that the previews of 2021 had for `code` and `compute`."""
    for field, form in (("code", _OLDER_CODE), ("compute", _OLDER_COMPUTE)):
        if field in schema["properties"]:
            schema["properties"][field] = {"anyOf": [schema["properties"][field], form]}
    return schema


def _others(*words: str) -> Schema:
    """Of another type than the cases, or of none that is seen here: anything, if its type is of *words* (or KINDS)."""
    older = [word for kind in words or _OLDER_TYPES for word in _OLDER_TYPES[kind]]
    kinds = _any_case({"enum": [*(words or KINDS)]}, "component", "component_job", *older)
    return {"type": "object", "properties": {"type": {"anyOf": [*kinds["anyOf"], {"type": "null"}]}}}


def _without(*fields: str) -> Schema:
    return {"not": {"anyOf": [{"required": [field]} for field in fields]}}


def _says(field: str, word: str) -> Schema:
    return {"properties": {field: _word(word)}, "required": [field]}


def _typed(schema: Schema, word: str) -> Schema:
    schema["properties"]["type"] = _word(word)
    return schema


def _word(word: str, *also: str) -> Schema:
    return _any_case({"const": word}, *_OLDER_TYPES.get(word, ()), *also)


def _choice(description: str, cases: list[tuple[Schema, Schema]], otherwise: Schema) -> Schema:
    """The first case that a document is like decides; the definitions of all of them stand at the root."""
    definitions: Schema = {}
    at = otherwise
    for part in (otherwise, *(schema for _, schema in cases)):
        definitions.update(part.pop("$defs", {}))
    for like, schema in reversed(cases):
        definitions[schema["title"]] = schema
        at = {"if": like, "then": {"$ref": f"#/$defs/{schema['title']}"}, "else": at}
    return {"description": description, "type": "object", **at, "$defs": definitions}


KINDS_OF_DOCUMENTS: Mapping[str, Callable[[], Schema]] = {
    "batch-endpoint": _endpoint,
    "batch-deployment": _deployment,
    "component": _component,
    "job": _job,
    "model": lambda: _of(Model),
    "data": lambda: _of(Data),
    "environment": lambda: _of(Environment),
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
