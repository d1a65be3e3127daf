"""`hpcbatch component`: create, and what all assets have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcbatch.cli.assets import VERSION, asset_verbs
from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option
from hpcbatch.cli.views import Card


def create(call: Call) -> Any:
    """Register a version of the component; its code and those of its steps are kept as they are now."""
    from hpcbatch.operations.components import create_component

    args = call.args
    return create_component(call.workspace, file=args.file, name=args.name, version=args.version, sets=args.sets)


def component_card(shown: Mapping[str, Any]) -> Card:
    """What a person wants to know of a component: what goes in, what comes out, what it runs."""
    fields: list[tuple[str, Any]] = [("type", shown.get("type")), ("display name", shown.get("display_name"))]
    fields += [(f"input {name}", _port(port)) for name, port in (shown.get("inputs") or {}).items()]
    fields += [(f"output {name}", port["type"]) for name, port in (shown.get("outputs") or {}).items()]
    fields.append(("command", shown.get("command")))
    environment = shown.get("environment") or {}
    fields.append(("environment", environment.get("name")))
    jobs = shown.get("jobs") or {}
    fields += [(f"step {name}", _step(jobs[name])) for name in shown.get("order") or jobs]
    fields.append(("description", shown.get("description")))
    title = f"{shown.get('name')} {shown.get('version')}"
    return Card(title, fields=tuple((name, value) for name, value in fields if value))


def _port(port: Mapping[str, Any]) -> str:
    """`number, default 0.5, 0 to 1, optional`."""
    default = port.get("default")
    said = [str(port["type"])]
    said += [f"default {default['path'] if isinstance(default, Mapping) else default}"] if default is not None else []
    said += [f"{key} {port[key]}" for key in ("min", "max") if key in port]
    said += [f"one of {', '.join(port['enum'])}"] if port.get("enum") else []
    return ", ".join([*said, *(["optional"] if port.get("optional") else [])])


def _step(node: Mapping[str, Any]) -> str:
    """`prepare:1 (command) <- clean`."""
    component = node["component"]
    parents = sorted({str(one["step"]) for one in node["inputs"].values() if "step" in one})
    what = component["id"] or component["name"] or "written in place"
    return f"{what} ({node['type']})" + (f" <- {', '.join(parents)}" if parents else "")


def _with_card(verb: Verb) -> Verb:
    return replace(verb, view=component_card) if verb.name in ("show", "update") else verb


VERBS = (
    Verb(
        "create",
        "Register a command, parallel or pipeline component; its code is kept as it is now.",
        create,
        "hpcbatch component create -f components/prepare/prepare.yml\n"
        "hpcbatch component create -f pipeline.yml --version 2",
        (file_option("component", required=True), name_option("component", required=False), VERSION, SET),
        view=component_card,
    ),
    *map(
        _with_card,
        asset_verbs(
            "component",
            "uci_heart_prepare",
            (("Name", "name"), ("Version", "version"), ("Type", "type"), ("Display name", "display_name")),
            plural="components",
            query="version",
        ),
    ),
)
