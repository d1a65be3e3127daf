"""The options of `invoke` that change the deployment's settings for one job, each with what it is called there."""

from __future__ import annotations

import argparse
from typing import Any

from hpcbatch.cli.grammar import Option, option
from hpcbatch.errors import SpecError

_SETTINGS = {
    "error_threshold": "error_threshold",
    "max_retries": "max_retries",
    "timeout": "timeout_s",
    "output_file_name": "output_file_name",
    "concurrency": "max_concurrency_per_instance",
    "logging_level": "logging_level",
    "groups": "groups",
}

SETTING_OPTIONS: tuple[Option, ...] = (
    option("--error-threshold", type=int, metavar="N", help="Failed files that are too many; -1: never."),
    option("--max-retries", type=int, metavar="N", help="Tries of a mini-batch after the first."),
    option("--timeout", type=float, metavar="SECONDS", help="How long one call of run() may take."),
    option("--output-file-name", metavar="NAME", help="Name of the merged output."),
    option("--concurrency", "--max-concurrency-per-instance", dest="concurrency", type=int, metavar="N",
           help="Processes in each array task."),
    option("--logging-level", choices=("debug", "info", "warning"), metavar="LEVEL", help="debug, info or warning."),
    option("--groups", type=int, metavar="N", help="Into how many groups, that is array tasks, the input is cut."),
    option("--environment-variables", "--env", dest="variables", nargs="+", action="extend", default=[],
           metavar="NAME=VALUE", help="For the scoring script, beside those of the deployment."),
)  # fmt: skip


def settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the flags say, under the names of an invocation's overrides. Raises SpecError for a bad NAME=VALUE."""
    found = {ours: getattr(args, flag) for flag, ours in _SETTINGS.items() if getattr(args, flag) is not None}
    variables = {}
    for one in args.variables:
        name, mark, value = one.partition("=")
        if not (name and mark):
            raise SpecError(
                f"{one!r} is not NAME=VALUE.", hint="For example: --env LEVEL=3", field="--environment-variables",
                found=one, allowed="NAME=VALUE",
            )  # fmt: skip
        variables[name] = value
    return found | ({"environment_variables": variables} if variables else {})
