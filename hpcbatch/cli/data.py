"""`hpcbatch data`: create, and what all assets have."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.assets import VERSION, asset_verbs
from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option


def create(call: Call) -> Any:
    """Register a version of the data: a name for its path; nothing is copied."""
    from hpcbatch.operations.assets import create_data

    args = call.args
    flags = {key: getattr(args, key) for key in ("name", "version", "path", "type", "description")}
    return create_data(call.workspace, file=args.file, sets=args.sets, **flags)


VERBS = (
    Verb(
        "create",
        "Register data: a name and a version for a path. Nothing is copied.",
        create,
        "hpcbatch data create --name heart-raw --type uri_folder --path /shared/heart\n"
        "hpcbatch data create -f data.yml",
        (
            name_option("data", required=False),
            VERSION,
            option("--path", "-p", metavar="PATH", help="File or folder."),
            option("--type", "-t", metavar="TYPE", help="uri_folder (default) or uri_file."),
            option("--description", "-d", metavar="TEXT", help="For people."),
            file_option("data"),
            SET,
        ),
    ),
    *asset_verbs(
        "data",
        "heart-raw",
        (("Name", "name"), ("Version", "version"), ("Type", "type"), ("Path", "path")),
        plural="registered data",
        query="path",
    ),
)
