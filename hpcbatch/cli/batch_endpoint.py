"""`hpcbatch batch-endpoint`: create, show, list, update, delete, invoke, list-jobs."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli import invoke
from hpcbatch.cli.grammar import (
    FILE_UPDATE,
    GENERIC_UPDATE,
    LIST_LIMITS,
    NO_WAIT,
    SET,
    YES,
    Call,
    Verb,
    confirmed,
    file_option,
    name_option,
    option,
)
from hpcbatch.cli.job import JOB_COLUMNS


def create(call: Call) -> Any:
    """Create or overwrite the endpoint; with only a name it gets Azure's defaults."""
    from hpcbatch.operations.endpoints import create_endpoint

    args = call.args
    return create_endpoint(call.workspace, file=args.file, name=args.name, sets=args.sets)


def show(call: Call) -> Any:
    """The endpoint's document."""
    from hpcbatch.operations.endpoints import show_endpoint

    return show_endpoint(call.workspace, call.args.name)


def list_all(call: Call) -> Any:
    """Every endpoint of the workspace."""
    from hpcbatch.operations.endpoints import list_endpoints

    return list_endpoints(call.workspace)


def update(call: Call) -> Any:
    """Change description, tags or the default deployment; everything else stays."""
    from hpcbatch.operations.endpoints import update_endpoint
    from hpcbatch.spec.edits import additions, removals

    args = call.args
    return update_endpoint(
        call.workspace,
        args.name,
        file=args.file,
        sets=args.sets,
        adds=additions(args.adds),
        removes=removals(args.removes),
        defaults=" ".join(args.defaults) if args.defaults else None,
    )


def delete(call: Call) -> None:
    """Delete the endpoint and its deployments after asking; jobs are kept."""
    from hpcbatch.operations.endpoints import delete_endpoint

    confirmed(call, f"Endpoint {call.args.name!r} and its deployments will be deleted; its jobs are kept.")
    delete_endpoint(call.workspace, call.args.name)


def list_jobs(call: Call) -> Any:
    """The endpoint's jobs, newest first."""
    from hpcbatch.operations import jobs

    args = call.args
    limits = {"max_results": args.max_results, "all_results": args.all_results}
    return jobs.list_jobs(call.workspace, endpoint=args.name, deployment=args.deployment_name, **limits)


_NAME = name_option("batch endpoint")

VERBS = (
    Verb(
        "create",
        "Create a batch endpoint, or overwrite it.",
        create,
        "hpcbatch batch-endpoint create -n heart-batch\n"
        "hpcbatch batch-endpoint create -f endpoint.yml --set tags.team=cardio",
        (name_option("batch endpoint", required=False, type=str.lower), file_option("batch endpoint"), SET, NO_WAIT),
    ),
    Verb(
        "show",
        "Show a batch endpoint.",
        show,
        "hpcbatch batch-endpoint show -n heart-batch --query defaults.deployment_name -o tsv",
        (_NAME,),
    ),
    Verb(
        "list",
        "List the batch endpoints of the workspace.",
        list_all,
        "hpcbatch batch-endpoint list --query '[].name' -o tsv",
        columns=(("Name", "name"), ("Default", "defaults.deployment_name"), ("Description", "description")),
    ),
    Verb(
        "update",
        "Change a batch endpoint: description, tags, default deployment.",
        update,
        "hpcbatch batch-endpoint update -n heart-batch --set defaults.deployment_name=second",
        (
            _NAME,
            FILE_UPDATE,
            option("--defaults", nargs="+", metavar="KEY=VALUE", help='The default: "deployment_name=NAME".'),
            *GENERIC_UPDATE,
            NO_WAIT,
        ),
    ),
    Verb(
        "delete",
        "Delete a batch endpoint and its deployments; its jobs are kept.",
        delete,
        "hpcbatch batch-endpoint delete -n heart-batch --yes",
        (_NAME, YES, NO_WAIT),
    ),
    invoke.VERB,
    Verb(
        "list-jobs",
        "List the jobs that were invoked on a batch endpoint, newest first.",
        list_jobs,
        "hpcbatch batch-endpoint list-jobs -n heart-batch --query '[].name' -o tsv",
        (
            _NAME,
            option("--deployment-name", "-d", metavar="NAME", help="Only the jobs of this deployment."),
            *LIST_LIMITS,
        ),
        columns=JOB_COLUMNS,
    ),
)
