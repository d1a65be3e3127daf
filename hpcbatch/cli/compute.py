"""`hpcbatch compute`: create, show, list, update, delete."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import (
    FILE_UPDATE,
    GENERIC_UPDATE,
    LIST_LIMITS,
    NO_WAIT,
    SET,
    YES,
    Call,
    Option,
    Verb,
    confirmed,
    file_option,
    limited,
    name_option,
    option,
)

_AZURE_FLAGS = (
    "size",
    "tier",
    "min_instances",
    "max_instances",
    "idle_time_before_scale_down",
    "location",
    "description",
)


def create(call: Call) -> Any:
    """Create the compute or overwrite it."""
    from hpcbatch.operations.assets import create_compute

    args = call.args
    flags = _flags(call)
    return create_compute(call.workspace, file=args.file, name=args.name, type=args.type, sets=args.sets, **flags)


def update(call: Call) -> Any:
    """Change the compute; what is not named stays."""
    from hpcbatch.operations.assets import update_compute
    from hpcbatch.spec.edits import Edit, additions, removals

    args = call.args
    edit = Edit(args.sets, additions(args.adds), removals(args.removes))
    return update_compute(call.workspace, args.name, file=args.file, edit=edit, **_flags(call))


def _flags(call: Call) -> dict[str, Any]:
    given = {flag: getattr(call.args, flag, None) for flag in _AZURE_FLAGS}
    return {flag: value for flag, value in given.items() if value is not None}


def show(call: Call) -> Any:
    """The compute's document."""
    from hpcbatch.operations.assets import show_compute

    return show_compute(call.workspace, call.args.name)


def list_all(call: Call) -> Any:
    """Every compute, `local` among them."""
    from hpcbatch.operations.assets import list_computes

    found = list_computes(call.workspace)
    return limited(call, [one for one in found if call.args.type in (None, one["type"])])


def delete(call: Call) -> None:
    """Delete the compute after asking."""
    from hpcbatch.operations.assets import delete_compute

    confirmed(call, f"Compute {call.args.name!r} will be deleted.")
    delete_compute(call.workspace, call.args.name)


_NAME = name_option("compute")
_AZURE_OPTIONS: tuple[Option, ...] = (
    option("--min-instances", type=int, metavar="N", help="Accepted as in az: idle costs nothing here."),
    option("--max-instances", type=int, metavar="N", help="At most this many array tasks at once."),
    option("--tier", metavar="TIER", help="dedicated (default) or low_priority: the preemptible partition."),
    option("--size", "-s", metavar="SIZE", help="Accepted as in az: Slurm settings say what a node is."),
    option("--idle-time-before-scale-down", type=int, metavar="S", help="Accepted as in az."),
    option("--location", "-l", metavar="LOCATION", help="Accepted as in az."),
    option("--description", metavar="TEXT", help="What it is for."),
)

VERBS = (
    Verb(
        "create",
        "Create a compute: a Slurm partition, or this machine.",
        create,
        "hpcbatch compute create -n short --type slurm --max-instances 8 --set partition=short mem=4G time=60\n"
        "hpcbatch compute create -n cpu-cluster --type amlcompute --min-instances 0 --max-instances 5",
        (
            name_option("compute", required=False),
            option("--type", "-t", metavar="TYPE", help="slurm, local or amlcompute (the site's default partition)."),
            *_AZURE_OPTIONS,
            file_option("compute"),
            SET,
            NO_WAIT,
        ),
    ),
    Verb("show", "Show a compute.", show, "hpcbatch compute show -n short", (_NAME,)),
    Verb(
        "list",
        "List the computes; `local`, this machine, is always there.",
        list_all,
        "hpcbatch compute list -o table",
        (option("--type", "-t", metavar="TYPE", help="Only computes of this type."), *LIST_LIMITS),
        columns=(
            ("Name", "name"),
            ("Type", "type"),
            ("Partition", "partition"),
            ("Tier", "tier"),
            ("Max", "max_instances"),
        ),
    ),
    Verb(
        "update",
        "Change a compute; what is not named stays as it is.",
        update,
        "hpcbatch compute update -n short --max-instances 16\n"
        "hpcbatch compute update -n short --set time=120 --add setup 'module load cuda'",
        (_NAME, *_AZURE_OPTIONS, FILE_UPDATE, *GENERIC_UPDATE, NO_WAIT),
    ),
    Verb(
        "delete",
        "Delete a compute.",
        delete,
        "hpcbatch compute delete -n short --yes",
        (_NAME, YES, NO_WAIT),
    ),
)
