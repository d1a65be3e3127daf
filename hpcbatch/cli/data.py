"""`hpcbatch data`: create, show, list."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import SET, Call, Verb, file_option, name_option, option, version_options


def create(call: Call) -> Any:
    """Register a version of the data: a name for its path; nothing is copied."""
    from hpcbatch.operations.assets import create_data

    args = call.args
    sets = {"name": args.name, "version": args.version, "path": args.path, "type": args.type}
    return create_data(call.workspace, file=args.file, sets=args.sets, **sets)


def show(call: Call) -> Any:
    """One version of the data, by default the latest."""
    from hpcbatch.operations.assets import show_data

    return show_data(call.workspace, call.args.name, version=call.args.version, label=call.args.label)


def list_all(call: Call) -> Any:
    """All data, or the versions of one."""
    from hpcbatch.operations.assets import list_data

    return list_data(call.workspace, name=call.args.name)


VERBS = (
    Verb(
        "create",
        "Register data: a name and a version for a path. Nothing is copied.",
        create,
        "hpcbatch data create --name heart-raw --type uri_folder --path /shared/heart\n"
        "hpcbatch data create -f data.yml",
        (
            name_option("data", required=False),
            option("--version", "-v", metavar="VERSION", help="Default: one more than the highest."),
            option("--path", "-p", metavar="PATH", help="File or folder."),
            option("--type", "-t", metavar="TYPE", help="uri_folder (default) or uri_file."),
            file_option("data"),
            SET,
        ),
    ),
    Verb(
        "show",
        "Show a version of registered data.",
        show,
        "hpcbatch data show --name heart-raw --label latest --query path -o tsv",
        (name_option("data"), *version_options()),
    ),
    Verb(
        "list",
        "List registered data, or the versions of one.",
        list_all,
        "hpcbatch data list -o table",
        (name_option("data", required=False),),
        columns=(("Name", "name"), ("Version", "version"), ("Type", "type"), ("Path", "path")),
    ),
)
