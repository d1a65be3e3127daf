"""What one job may have otherwise than its deployment: every name that it goes by, and which values it takes.

The command line and Python read the same table, so that the same invocation is the same request in both.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.spec.output_options import checked_option

VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
VARIABLE_RULE = "letters, digits and _, not beginning with a digit"
LEVELS = ("warning", "info", "debug")
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}\Z")


def parsed(key: str, value: Any) -> tuple[str, Any] | None:
    """Our name of the setting that *key* is, and *value* as it has to be; None if no setting of a job is called so.

    `settings.` may stand in front of *key*, as in the file of a deployment. Raises SpecError for another value.
    """
    name = key.removeprefix("settings.")
    if name not in SETTINGS:
        return None
    setting, parse = SETTINGS[name]
    return setting, parse(name, value)


def _whole(key: str, value: Any) -> int:
    if isinstance(value, bool) or not _WHOLE_NUMBER.match(str(value)):
        raise SpecError(
            f"{key} is {value!r}, which is not a whole number.", hint=f"For example: --set {key}=10",
            field=key, found=value, allowed="a whole number",
        )  # fmt: skip
    return int(value)


def _seconds(key: str, value: Any) -> float:
    try:
        return float(str(value))
    except ValueError as error:
        raise SpecError(
            f"{key} is {value!r}, which is not a number of seconds.", hint=f"For example: --set {key}=300",
            field=key, found=value, allowed="seconds",
        ) from error  # fmt: skip


def _word(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise SpecError(
            f"{key} is {value!r}, which is no text.", hint=f"For example: --set {key}=VALUE",
            field=key, found=value, allowed="text",
        )  # fmt: skip
    return value


def _level(key: str, value: Any) -> str:
    level = str(value).lower()
    if level not in LEVELS:
        raise SpecError(
            f"{key} is {value!r}; it must be {', '.join(LEVELS[:-1])} or {LEVELS[-1]}.",
            hint=f"For example: --set {key}=debug", field=key, found=value, allowed=", ".join(LEVELS),
        )  # fmt: skip
    return level


def _variables(key: str, value: Any) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise SpecError(
            f"{key} is no mapping.", hint=f"For example: --set {key}.LEVEL=3",
            field=key, found=value, allowed="a mapping",
        )  # fmt: skip
    found = {str(name): "" if each is None else str(each) for name, each in value.items()}
    for name, text in found.items():
        if not VARIABLE.match(name) or "\0" in text:
            raise SpecError(
                f"{key}: {name!r} cannot be an environment variable.", hint=f"For example: --set {key}.LEVEL=3",
                field=f"{key}.{name}", found=name, allowed=VARIABLE_RULE,
            )  # fmt: skip
    return found


def _option(key: str, value: Any) -> str:
    return checked_option(key.rpartition(".")[2], value)


Parse = Callable[[str, Any], Any]
# Azure ML's names first: those of the deployment's file, then those of BatchJob and of `resources`; then ours.
SETTINGS: Mapping[str, tuple[str, Parse]] = {
    "mini_batch_size": ("mini_batch_size", _whole),
    "instance_count": ("instance_count", _whole),
    "compute.instance_count": ("instance_count", _whole),
    "resources.instance_count": ("instance_count", _whole),
    "error_threshold": ("error_threshold", _whole),
    "retry_settings.max_retries": ("max_retries", _whole),
    "retry_settings.timeout": ("timeout_s", _seconds),
    "max_retries": ("max_retries", _whole),
    "timeout_s": ("timeout_s", _seconds),
    "output_file_name": ("output_file_name", _word),
    "output_header": ("output_header", _option),
    "output_input_column": ("output_input_column", _option),
    "properties.hpcbatch.output_header": ("output_header", _option),
    "properties.hpcbatch.output_input_column": ("output_input_column", _option),
    "max_concurrency_per_instance": ("max_concurrency_per_instance", _whole),
    "logging_level": ("logging_level", _level),
    "groups": ("groups", _whole),
    "environment_variables": ("environment_variables", _variables),
}
