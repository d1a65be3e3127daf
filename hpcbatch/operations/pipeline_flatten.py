"""From a pipeline's body and the values of its inputs to steps in an order in which they can run. Pure.

A pipeline component as a step disappears: its steps are named `outer.inner` and are bound to what surrounds it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.pipeline_graph import overridden
from hpcbatch.operations.places import storage_options
from hpcbatch.records.pipeline import PipelineInput, StepInput, StepOutput
from hpcbatch.spec.bindings import binding_of, expressions, substituted
from hpcbatch.spec.ports import LITERALS, LiteralProblem, check_literal

Body = Mapping[str, Any]


@dataclass(frozen=True)
class FlatStep:
    """One command or parallel step with everything that is said about it. `computes`: the nearest first."""

    name: str
    display_name: str
    component: str
    body: Body
    identity: Body  # what the component says, without what the step says over it
    inputs: Mapping[str, StepInput]
    outputs: Mapping[str, StepOutput]
    computes: tuple[str, ...]


@dataclass(frozen=True)
class _Scope:
    """A pipeline while it is flattened: what its inputs are, where its outputs go, and what is around it."""

    body: Body
    given: Mapping[str, StepInput]
    wanted: Mapping[str, StepOutput]
    prefix: str
    computes: tuple[str, ...]
    values: Mapping[str, PipelineInput]


def flatten(body: Body, values: Mapping[str, PipelineInput]) -> list[FlatStep]:
    """The steps of *body* in topological order; steps that could go in any order keep that of the file.

    *values* are those of its inputs; an input that is missing there has no value. Raises SpecError for a step that
    needs one, and for a literal that does not fit the step's declaration.
    """
    given = {
        name: StepInput(value.type, "input", name, value.digest, direct=value.direct) for name, value in values.items()
    }
    wanted = {name: StepOutput(port["type"], pipeline_output=name) for name, port in body["outputs"].items()}
    computes = tuple(one for one in (body.get("compute"),) if one)
    return _ordered(list(_steps(_Scope(body, given, wanted, "", computes, values))))


def unwritten_outputs(body: Body) -> list[str]:
    """The outputs of the pipeline that no step writes."""
    written = {value.get("pipeline_output") for node in body["jobs"].values() for value in node["outputs"].values()}
    return sorted(set(body["outputs"]) - written)


def _steps(scope: _Scope) -> Iterator[FlatStep]:
    for name in scope.body["order"]:
        node = scope.body["jobs"][name]
        body = node["component"]["body"]
        inputs = {
            key: found for key, port in body["inputs"].items() if (found := _input(scope, name, key, port)) is not None
        }
        outputs = {key: _output(scope, node["outputs"].get(key, {}), port) for key, port in body["outputs"].items()}
        computes = (*_compute(scope, name, node), *scope.computes)
        if body["type"] == "pipeline":
            inner = (*computes[:1], *((body["compute"],) if body.get("compute") else ()), *computes[1:])
            yield from _steps(_Scope(body, inputs, outputs, f"{scope.prefix}{name}.", inner, scope.values))
            continue
        yield FlatStep(
            name=f"{scope.prefix}{name}",
            display_name=str(node.get("display_name") or body.get("display_name") or name),
            component=str(node["component"]["id"] or "anonymous"),
            body=overridden(body, node.get("overrides", {})),
            identity=body,
            inputs=inputs,
            outputs=outputs,
            computes=computes,
        )


def _compute(scope: _Scope, step: str, node: Mapping[str, Any]) -> tuple[str, ...]:
    """The compute that the step names, which may be the text of an input of the pipeline."""
    given = node.get("compute")
    if not given:
        return ()
    found = _template(scope, str(given), f"jobs.{scope.prefix}{step}.compute").value if expressions(given) else given
    return (str(found).removeprefix("azureml:"),)


def _input(scope: _Scope, step: str, name: str, port: Mapping[str, Any]) -> StepInput | None:
    """What the input *name* of *step* is; its default if nothing else; None for an optional one without a value."""
    value = scope.body["jobs"][step]["inputs"].get(name, {"kind": "nothing"})
    field = f"jobs.{scope.prefix}{step}.inputs.{name}"
    found = _found(scope, value, field)
    if found is None:
        found = _default(port, field)
    if found is None:
        if port.get("optional"):
            return None
        raise _problem(field, f"the input {name!r} ({port['type']}) has no value", None, f"a {port['type']}")
    direct = found.direct or "direct" in (value.get("mode"), port.get("mode"))
    return _fitting(replace(found, type=port["type"], direct=direct), port, scope, field)


def _found(scope: _Scope, value: Mapping[str, Any], field: str) -> StepInput | None:
    match value["kind"]:
        case "literal":
            return StepInput("string", "literal", value["value"])
        case "path":
            return _data(value, value["type"], field)
        case "input":
            return scope.given.get(value["name"])
        case "step_output":
            return StepInput("", "step", _producer(scope.body, value["step"], value["name"], scope.prefix))
        case "step_input":
            port = scope.body["jobs"][value["step"]]["component"]["body"]["inputs"][value["name"]]
            return _input(scope, value["step"], value["name"], port)
        case "template":
            return _template(scope, value["text"], field)
    return None


def _data(given: Mapping[str, Any], kind: str, field: str) -> StepInput:
    options = storage_options(given["path"], kind, given.get("storage_options") or {}, field)
    return StepInput(kind, "path", given["path"], given.get("digest", ""), options)


def _default(port: Mapping[str, Any], field: str) -> StepInput | None:
    if "default" not in port:
        return None
    given = port["default"]
    if isinstance(given, Mapping):
        return _data(given, port["type"], field)
    return StepInput(port["type"], "literal", str(given))


def _template(scope: _Scope, text: str, field: str) -> StepInput:
    """Text with literals of the pipeline in it."""
    texts: dict[str, str] = {}
    for one in expressions(text):
        binding = binding_of(one)
        source = scope.given.get(binding.name) if binding is not None else None
        if source is None or source.type not in LITERALS:
            raise _problem(field, f"${{{{{one}}}}} has no text", text, "inputs of the pipeline that are literals")
        texts[one] = _text_of(source, scope)
    return StepInput("string", "literal", substituted(text, texts))


def _text_of(source: StepInput, scope: _Scope) -> str:
    return scope.values[source.value].value if source.kind == "input" else source.value


def _fitting(found: StepInput, port: Mapping[str, Any], scope: _Scope, field: str) -> StepInput:
    """*found*, if it fits *port*; a literal in the spelling that its type has."""
    if port["type"] not in LITERALS or found.kind == "step":
        return found
    try:
        text = check_literal(port, _text_of(found, scope))
    except LiteralProblem as problem:
        raise _problem(field, problem.message, _text_of(found, scope), problem.allowed) from problem
    return replace(found, value=text) if found.kind == "literal" else found


def _output(scope: _Scope, value: Mapping[str, Any], port: Mapping[str, Any]) -> StepOutput:
    name = value.get("register_as", "")
    target = value.get("pipeline_output")
    if target is not None:
        outer = scope.wanted[target]
        return replace(outer, type=port["type"], register_as=name or outer.register_as)
    return StepOutput(port["type"], path=value.get("path"), register_as=name)


def _producer(body: Body, step: str, output: str, prefix: str) -> str:
    """The flat name of the step, with its output, that makes the *output* of *step*."""
    inner = body["jobs"][step]["component"]["body"]
    if inner["type"] != "pipeline":
        return f"{prefix}{step}.{output}"
    for name, node in inner["jobs"].items():
        for key, value in node["outputs"].items():
            if value.get("pipeline_output") == output:
                return _producer(inner, name, key, f"{prefix}{step}.")
    raise _problem(
        f"jobs.{prefix}{step}.outputs.{output}", "no step inside writes it", output, "an output that is written"
    )


def _ordered(steps: list[FlatStep]) -> list[FlatStep]:
    """*steps* so that each stands after those it reads from."""
    waits = {one.name: {i.value.rpartition(".")[0] for i in one.inputs.values() if i.kind == "step"} for one in steps}
    found: list[FlatStep] = []
    done: set[str] = set()
    rest = list(steps)
    while rest:
        ready = [one for one in rest if waits[one.name] <= done]
        if not ready:
            names = ", ".join(one.name for one in rest[:10])
            raise _problem("jobs", f"the steps wait for each other: {names}", names, "a graph without circles")
        found += ready
        done.update(one.name for one in ready)
        rest = [one for one in rest if one.name not in done]
    return found


def _problem(field: str, text: str, found: Any, allowed: str) -> SpecError:
    hint = f"Allowed: {allowed}. Correct it, and run the same command again."
    return SpecError(f"{field}: {text}.", hint=hint, field=field, found=found, allowed=allowed)
