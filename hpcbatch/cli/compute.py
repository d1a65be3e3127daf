"""`hpcbatch compute`: create, show, list, delete."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.grammar import NO_WAIT, SET, YES, Call, Verb, confirmed, file_option, name_option, option

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
    flags = {flag: getattr(args, flag) for flag in _AZURE_FLAGS if getattr(args, flag) is not None}
    return create_compute(call.workspace, file=args.file, name=args.name, type=args.type, sets=args.sets, **flags)


def show(call: Call) -> Any:
    """The compute's document."""
    from hpcbatch.operations.assets import show_compute

    return show_compute(call.workspace, call.args.name)


def list_all(call: Call) -> Any:
    """Every compute, `local` among them."""
    from hpcbatch.operations.assets import list_computes

    return list_computes(call.workspace)


def delete(call: Call) -> None:
    """Delete the compute after asking."""
    from hpcbatch.operations.assets import delete_compute

    confirmed(call, f"Compute {call.args.name!r} will be deleted.")
    delete_compute(call.workspace, call.args.name)


_NAME = name_option("compute")

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
            option("--min-instances", type=int, metavar="N", help="Accepted as in az: idle costs nothing here."),
            option("--max-instances", type=int, metavar="N", help="At most this many array tasks at once."),
            option("--tier", metavar="TIER", help="dedicated (default) or low_priority: the preemptible partition."),
            option("--size", "-s", metavar="SIZE", help="Accepted as in az: Slurm settings say what a node is."),
            option("--idle-time-before-scale-down", type=int, metavar="S", help="Accepted as in az."),
            option("--location", "-l", metavar="LOCATION", help="Accepted as in az."),
            option("--description", metavar="TEXT", help="What it is for."),
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
        columns=(
            ("Name", "name"),
            ("Type", "type"),
            ("Partition", "partition"),
            ("Tier", "tier"),
            ("Max", "max_instances"),
        ),
    ),
    Verb(
        "delete",
        "Delete a compute.",
        delete,
        "hpcbatch compute delete -n short --yes",
        (_NAME, YES, NO_WAIT),
    ),
)
