"""Settings of a deployment that one job has otherwise, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.operations.output_format import check_header
from hpcbatch.operations.resolve import ResolvedSettings
from hpcbatch.records.job import CAPTURED, OUTPUT_FILES, SHARED
from hpcbatch.records.rows import row_format
from hpcbatch.spec.deployment import plain_file_name
from hpcbatch.spec.job_settings import SETTINGS
from hpcbatch.spec.output_options import OPTIONS, checked_option

_POSITIVE = ("mini_batch_size", "instance_count", "max_concurrency_per_instance", "groups")


def overridden(settings: ResolvedSettings, overrides: Mapping[str, Any]) -> tuple[ResolvedSettings, int | None]:
    """The settings of this job, and how many groups were asked for. Raises SpecError for what is impossible."""
    values = dict(overrides)
    for key in _POSITIVE:
        if key in values:
            values[key] = _whole(key, values[key], least=1)
    for key, least in (("error_threshold", -1), ("max_retries", 0)):
        if key in values:
            values[key] = _whole(key, values[key], least=least)
    if "timeout_s" in values:
        values["timeout_s"] = _seconds(values["timeout_s"])
    if "output_file_name" in values:
        values["output_file_name"] = plain_file_name(str(values["output_file_name"]))
    if "environment_variables" in values:
        values["environment_variables"] = {**settings.environment_variables, **values["environment_variables"]}
    groups = values.pop("groups", None)
    known = sorted({setting for setting, _ in SETTINGS.values()})
    for key, value in values.items():
        if key not in known:
            raise SpecError(
                f"{key!r} cannot be set for one job.",
                hint=f"Settings that can: {', '.join(known)}",
                field=key,
                found=value,
                allowed=", ".join(known),
            )
    for key in OPTIONS:
        if key in values:
            values[key] = checked_option(key, values[key])
    result = replace(settings, **values)
    _check_format(result)
    _check_output_files(result.environment_variables)
    return result, groups


def _check_format(settings: ResolvedSettings) -> None:
    """The format that the output's name asks for has to be possible here."""
    check_header(settings.output_action, settings.output_file_name, settings.output_header)
    is_parquet = settings.output_action == "append_row" and row_format(settings.output_file_name) == "parquet"
    if is_parquet and find_spec("pyarrow") is None:
        raise SpecError(
            f"{settings.output_file_name!r} is to be Parquet, and pyarrow is not installed beside hpcbatch.",
            hint="pip install 'hpcbatch[arrow]'",
            field="output_file_name", found=settings.output_file_name, allowed=".csv, .jsonl",
        )  # fmt: skip


def _check_output_files(variables: Mapping[str, str]) -> None:
    """What becomes of files that scripts write is one of two things."""
    wanted = variables.get(OUTPUT_FILES, CAPTURED)
    if wanted not in (CAPTURED, SHARED):
        raise SpecError(
            f"{OUTPUT_FILES} is {wanted!r}.",
            hint=f"Leave it out, or give all scripts one folder: environment_variables.{OUTPUT_FILES}={SHARED}",
            field=f"environment_variables.{OUTPUT_FILES}",
            found=wanted,
            allowed=f"{CAPTURED}, {SHARED}",
        )


def _whole(key: str, value: Any, *, least: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise SpecError(
            f"{key} is {value!r}; it must be a whole number of at least {least}.",
            hint=f"For example: --set {key}={max(1, least)}",
            field=key,
            found=str(value),
            allowed=f">= {least}",
        )
    return number


def _seconds(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise SpecError(
            f"timeout is {value!r}; it must be a number of seconds above 0.",
            hint="For example: --set retry_settings.timeout=300",
            field="retry_settings.timeout",
            found=str(value),
            allowed="> 0",
        )
    return number
