"""What the previews of 2021 wrote otherwise, in today's words: files of that time are still in use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hpcbatch.spec.base import lowered
from hpcbatch.spec.yamlfile import Loaded

_TYPES = {"command_job": "command", "pipeline_job": "pipeline", "sweep_job": "sweep", "parallel_job": "parallel"}
_INPUT_KEYS = {"data": None, "dataset": None, "folder": "uri_folder", "file": "uri_file"}
_PLACEHOLDER = re.compile(r"(?<![{$])\{(inputs|outputs)\.([A-Za-z_][A-Za-z0-9_-]*)\}(?!\})")


def modern(loaded: Loaded) -> Loaded:
    """The component, step or job in *loaded* as it is written today."""
    data = dict(loaded.data)
    if "job_type" in data and "type" not in data:
        data["type"] = lowered(data.pop("job_type"))
    kind = lowered(data.get("type"))
    if kind in ("component", "component_job"):
        del data["type"]
    elif isinstance(kind, str) and kind in _TYPES:
        data["type"] = _TYPES[kind]
    if isinstance(data.get("code"), Mapping) and data["code"].keys() == {"local_path"}:
        data["code"] = data["code"]["local_path"]
    if isinstance(data.get("compute"), Mapping) and "target" in data["compute"]:
        target = dict(data["compute"])
        data["compute"] = target.pop("target")
        given = data.get("resources")
        if target and isinstance(given, Mapping | None):
            data["resources"] = {**target, **(given or {})}
    if isinstance(data.get("inputs"), Mapping):
        data["inputs"] = {name: _input(value) for name, value in data["inputs"].items()}
    if isinstance(data.get("command"), str):
        data["command"] = _command(data["command"], data)
    return replace(loaded, data=data)


def _input(value: Any) -> Any:
    if not isinstance(value, Mapping) or "path" in value:
        return value
    for key, kind in _INPUT_KEYS.items():
        if isinstance(value.get(key), str):
            rest = {one: given for one, given in value.items() if one != key}
            return {**({"type": kind} if kind else {}), **rest, "path": value[key]}
    return value


def _command(text: str, data: Mapping[str, Any]) -> str:
    """`{inputs.x}` was the placeholder; braces around anything that is not declared stay."""

    def today(match: re.Match[str]) -> str:
        declared = data.get(match[1])
        known = isinstance(declared, Mapping) and match[2] in declared
        return f"${{{{{match[1]}.{match[2]}}}}}" if known else match[0]

    return _PLACEHOLDER.sub(today, text)
