"""`hpcbatch configure`: defaults of this user."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import Call, Verb, option


def configure(call: Call) -> Any:
    """Write the given defaults; answer with all of them."""
    from hpcbatch.operations.workspace import configure_defaults

    return configure_defaults(call.args.defaults)


VERBS = (
    Verb(
        "",
        "Set or show your defaults.",
        configure,
        "hpcbatch configure --defaults workspace=/shared/hpcbatch group=cardio",
        (
            option(
                "--defaults",
                "-d",
                nargs="+",
                action="extend",
                default=[],
                metavar="KEY=VALUE",
                help="workspace=FOLDER is used where -w is not given; an empty value forgets it.",
            ),
            option("--list-defaults", "-l", action="store_true", help="Show the defaults (also without arguments)."),
        ),
    ),
)
