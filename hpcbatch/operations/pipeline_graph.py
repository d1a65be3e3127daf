"""Whether a component makes sense: every binding has two ends, every value fits, no step waits for itself. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

from hpcbatch.errors import SpecError
from hpcbatch.pipeline.command import optional_groups, placeholders
from hpcbatch.spec.bindings import binding_of, expressions
from hpcbatch.spec.component import NOT_RUN, bytes_of
from hpcbatch.spec.ports import LITERALS, LiteralProblem, check_literal

Body = Mapping[str, Any]
Node = Mapping[str, Any]


def check_body(body: Body) -> None:
    """Raises SpecError, whose `field` is relative to the component, for the first thing that cannot work."""
    _refuse_text_outputs(body)
    if body["type"] == "command":
        _check_text(body, str(body["command"]), "command")
    elif body["type"] == "parallel":
        _check_parallel(body)
    elif body["type"] == "pipeline":
        _check_pipeline(body)


def infer_ports(body: dict[str, Any]) -> None:
    """Give each step that is written in place, without a component, the ports that its bindings and values have."""
    inferred = {name: node for name, node in body["jobs"].items() if node["component"].get("inferred")}
    for node in inferred.values():
        ports = node["component"]["body"]["outputs"]
        for name, value in node["outputs"].items():
            bound = body["outputs"].get(value.get("pipeline_output"), {})
            ports[name] = {"type": value.get("type") or bound.get("type") or "uri_folder"}
        for text in _texts(node["component"]["body"]):
            for kind, name in placeholders(text):
                if kind == "outputs":
                    ports.setdefault(name, {"type": "uri_folder"})
    for node in inferred.values():
        node["component"]["body"]["inputs"].update(
            {name: _inferred(body, value) for name, value in node["inputs"].items()}
        )


def _texts(body: Body) -> list[str]:
    if body["type"] == "command":
        return [str(body["command"])]
    task = body.get("task", {})
    return [str(task.get("program_arguments") or ""), str(task.get("append_row_to") or "")]


def _inferred(body: Body, value: Mapping[str, Any], *, depth: int = 0) -> dict[str, Any]:
    """The port that *value* implies for the input that has it."""
    if value.get("type"):
        return {"type": value["type"]}
    kind = value["kind"]
    if kind == "literal":
        return {"type": value["literal_type"]}
    if kind == "input" and value["name"] in body["inputs"]:
        port = body["inputs"][value["name"]]
        return {key: port[key] for key in ("type", "optional") if key in port}
    node = body["jobs"].get(value.get("step"))
    if kind == "step_output" and node is not None:
        port = node["component"]["body"]["outputs"].get(value["name"], {})
        return {"type": port.get("type", "uri_folder")}
    if kind == "step_input" and node is not None and depth < len(body["jobs"]):
        port = node["component"]["body"]["inputs"].get(value["name"])
        if port is not None:
            return {"type": port["type"]}
        there = node["inputs"].get(value["name"])
        if there is not None:
            return _inferred(body, there, depth=depth + 1)
    return {"type": "string", "optional": True} if kind == "nothing" else {"type": "string"}


def overridden(body: Body, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """*body* with what the step says over it; environment variables, resources and a task are merged."""
    result = {**body, **overrides}
    for key in ("environment_variables", "resources", "task", "retry_settings"):
        if key in overrides:
            result[key] = {**(body.get(key) or {}), **overrides[key]}
    return result


def _check_pipeline(body: Body) -> None:
    writers: dict[str, str] = {}
    for step, node in body["jobs"].items():
        if node["type"] in NOT_RUN:
            continue
        at = f"jobs.{step}"
        _check_inputs(body, at, node)
        if node["type"] == "parallel":
            _check_what_is_run(overridden(node["component"]["body"], node.get("overrides", {})), f"{at}.")
        for name, value in node["outputs"].items():
            _check_output(body, f"{at}.outputs.{name}", node, name, value)
            target = value.get("pipeline_output")
            if target is None:
                continue
            if target in writers:
                _refuse(
                    f"{at}.outputs.{name}", f"the output {target!r} is written by {writers[target]} already",
                    target, "one step for each output of the pipeline",
                )  # fmt: skip
            writers[target] = f"jobs.{step}.outputs.{name}"
    _check_order(body)


def refuse_two_places(computes: Mapping[str, tuple[str, str]]) -> None:
    """Raises SpecError if *computes*, name and kind for each step, are both of this machine and of Slurm."""
    kinds: dict[str, tuple[str, str]] = {}
    for step, (name, kind) in computes.items():
        kinds.setdefault(kind, (step, name))
    if len(kinds) > 1:
        (here, this), (there, other) = kinds["local"], kinds["slurm"]
        _refuse(
            f"jobs.{here}.compute",
            f"step {here!r} runs on {this}, this machine, and step {there!r} on {other}, a Slurm cluster; one job runs "
            "in one place",
            this, "computes of one type; steps that name none run on settings.default_compute",
        )  # fmt: skip


def _check_inputs(body: Body, at: str, node: Node) -> None:
    ports = node["component"]["body"]["inputs"]
    for name, value in node["inputs"].items():
        _check_value(body, f"{at}.inputs.{name}", ports[name], value)
    for name, port in ports.items():
        given = node["inputs"].get(name, {"kind": "nothing"})
        if given["kind"] == "nothing" and "default" not in port and not port.get("optional"):
            _refuse(f"{at}.inputs.{name}", f"the input {name!r} ({port['type']}) has no value", None, _wanted(port))


def _wanted(port: Mapping[str, Any]) -> str:
    return f"a value of type {port['type']}, or a ${{{{ }}}} binding"


def _check_value(body: Body, field: str, port: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    is_data = port["type"] not in LITERALS
    kind = value["kind"]
    if kind == "literal" and is_data:
        _refuse(
            field, f"{value['value'][:80]!r} is a literal, and the input a {port['type']}", value["value"], "a path"
        )
    if kind == "literal":
        try:
            check_literal(port, _spelled(value))
        except LiteralProblem as problem:
            _refuse(field, problem.message, value["value"], problem.allowed)
    if kind == "path" and not is_data:
        _refuse(field, f"{value['path'][:80]!r} is a path, and the input a {port['type']}", value["path"], "a literal")
    source = _source(body, field, value)
    if source is not None and (source["type"] in LITERALS) == is_data:
        found = source["type"]
        _refuse(field, f"it is bound to a {found}, and the input is a {port['type']}", found, f"a {port['type']}")


def _spelled(value: Mapping[str, Any]) -> Any:
    """The literal as YAML had it: `true` is no number, and `"true"` may be a boolean."""
    return value["value"] == "True" if value["literal_type"] == "boolean" else value["value"]


def _source(body: Body, field: str, value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The port at the other end of a binding; None for other values and where it is not known."""
    kind = value["kind"]
    if kind == "template":
        for one in expressions(value["text"]):
            binding = binding_of(one)
            if binding is None or binding.kind != "input":
                _refuse(
                    field,
                    f"{value['text']!r} puts data into text",
                    value["text"],
                    "${{parent.inputs.NAME}} of literals",
                )
            _of_input(body, field, binding.name)
        return None
    if kind == "input":
        return _of_input(body, field, value["name"])
    if kind not in ("step_output", "step_input"):
        return None
    node = body["jobs"].get(value["step"])
    if node is None:
        _unknown(field, f"there is no step {value['step']!r}", value["step"], body["jobs"])
    if node["type"] in NOT_RUN:
        return None
    side = "outputs" if kind == "step_output" else "inputs"
    ports: Mapping[str, Mapping[str, Any]] = node["component"]["body"][side]
    if value["name"] not in ports:
        _unknown(field, f"step {value['step']!r} has no {side[:-1]} {value['name']!r}", value["name"], ports)
    return ports[value["name"]]


def _of_input(body: Body, field: str, name: str) -> Mapping[str, Any]:
    port: Mapping[str, Any] | None = body["inputs"].get(name)
    if port is None:
        _unknown(field, f"the pipeline has no input {name!r}", name, body["inputs"])
    return port


def _check_output(body: Body, field: str, node: Node, name: str, value: Mapping[str, Any]) -> None:
    ports = node["component"]["body"]["outputs"]
    if name not in ports:
        _unknown(field, f"the component has no output {name!r}", name, ports)
    target = value.get("pipeline_output")
    if target is not None and target not in body["outputs"]:
        _unknown(field, f"the pipeline has no output {target!r}", target, body["outputs"])


def _check_order(body: Body) -> None:
    """Refuse steps that wait for each other."""
    waits = {step: sorted(set(_parents(node))) for step, node in body["jobs"].items()}
    done: set[str] = set()
    for start in waits:
        _walk(start, waits, done)


def _walk(start: str, waits: Mapping[str, list[str]], done: set[str]) -> None:
    """Visit *start* and what it waits for, without recursion: pipelines may be long chains."""
    path: list[tuple[str, Iterator[str]]] = []
    if start not in done:
        path.append((start, iter(waits[start])))
    while path:
        step, rest = path[-1]
        follower = next(rest, None)
        if follower is None:
            done.add(step)
            path.pop()
        elif follower in (names := [one for one, _ in path]):
            circle = [*names[names.index(follower) :], follower]
            text = f"the steps wait for each other: {' <- '.join(circle)}"
            _refuse(f"jobs.{step}.inputs", text, circle, "a graph without circles")
        elif follower not in done and follower in waits:
            path.append((follower, iter(waits[follower])))


def _parents(node: Node) -> Iterator[str]:
    for value in node["inputs"].values():
        if value["kind"] in ("step_output", "step_input"):
            yield value["step"]


def _check_text(body: Body, text: str, field: str) -> None:
    """Every placeholder of a command is declared, and only what may be missing stands in `$[[ ]]`."""
    for kind, name in placeholders(text):
        if name not in body[kind]:
            _unknown(field, f"it uses ${{{{{kind}.{name}}}}}, which is not declared", name, body[kind])
    for group in optional_groups(text):
        for name in group:
            port = body["inputs"][name]
            if not port.get("optional"):
                _refuse(field, f"$[[ ]] holds the input {name!r}, which is not optional", name, "optional inputs")


def _check_parallel(body: Body) -> None:
    _check_what_is_run(body, "")
    for key, kind in (("input_data", "inputs"), ("append_row_to", "outputs")):
        text = body.get(key) if key == "input_data" else body.get("task", {}).get(key)
        if not text:
            continue
        named = list(placeholders(str(text)))
        field = key if key == "input_data" else f"task.{key}"
        if len(named) != 1 or named[0][0] != kind:
            _refuse(field, f"{text!r} names no {kind[:-1]}", text, f"${{{{{kind}.NAME}}}}")
        if named[0][1] not in body[kind]:
            _unknown(field, f"there is no {kind[:-1]} {named[0][1]!r}", named[0][1], body[kind])
    _check_text(body, str(body.get("task", {}).get("program_arguments") or ""), "task.program_arguments")


def _check_what_is_run(body: Body, at: str) -> None:
    """Refuse what Azure ML's parallel steps can and ours cannot, and what neither can."""
    task, size = body.get("task") or {}, str(body.get("mini_batch_size") or "")
    if task.get("type") == "model":
        _refuse(f"{at}task.type", "a model without a script is not run", "model", "run_function, with an entry_script")
    if not task.get("entry_script"):
        _refuse(f"{at}task.entry_script", "it is missing", None, "SCRIPT.py with init() and run(mini_batch)")
    if size and "${{" not in size and not (size.isdecimal() and int(size)) and not bytes_of(size):
        _refuse(f"{at}mini_batch_size", f"{size!r} is no size", size, "a number of files, or 10kb, 5mb, 1gb")


def _refuse_text_outputs(body: Body) -> None:
    """An output that is a number or a text is a preview of Azure ML; here a file says it."""
    if body["type"] in NOT_RUN:
        return
    for name, port in body["outputs"].items():
        if port["type"] in LITERALS:
            _refuse(
                f"outputs.{name}.type",
                f"an output of the type {port['type']} is not possible: declare it as uri_file, write the value into "
                "that file, and read it in the next step",
                port["type"], "uri_file, uri_folder, mltable, mlflow_model, custom_model",
            )  # fmt: skip


def _unknown(field: str, text: str, name: str, known: Iterable[str]) -> NoReturn:
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1)
    guess = f". Did you mean {close[0]!r}?" if close else ""
    _refuse(
        field, f"{text}{guess.rstrip('?') + '?' if guess else ''}", name, ", ".join(names) or "none: there are none"
    )


def _refuse(field: str, text: str, found: Any, allowed: str) -> NoReturn:
    end = "" if text.endswith("?") else "."
    raise SpecError(
        f"{field}: {text}{end}",
        hint=f"Allowed: {allowed}. Correct it, and run the same command again.",
        field=field,
        found=found,
        allowed=allowed,
    )
