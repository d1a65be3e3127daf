"""`hpcbatch batch-deployment`: create, show, list, update, delete, list-jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcbatch.cli.grammar import (
    ENDPOINT_NAME,
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
    """Create or overwrite the deployment; its code and its model are kept as they are now."""
    from hpcbatch.operations.deployments import create_deployment

    args = call.args
    return create_deployment(
        call.workspace,
        file=args.file,
        name=args.name,
        endpoint=args.endpoint_name,
        sets=args.sets,
        set_default=args.set_default,
        skip_script_validation=args.skip_script_validation,
    )


def show(call: Call) -> Any:
    """The deployment's document, and which Python it would run with now."""
    from hpcbatch.operations.deployments import show_deployment
    from hpcbatch.operations.resolve import chosen_environment

    args = call.args
    shown = show_deployment(call.workspace, args.name, args.endpoint_name)
    if shown["type"] != "model":
        return shown
    return shown | {"interpreter": chosen_environment(call.workspace, args.endpoint_name, args.name)}


def list_all(call: Call) -> Any:
    """Every deployment of the endpoint."""
    from hpcbatch.operations.deployments import list_deployments

    return list_deployments(call.workspace, call.args.endpoint_name)


def update(call: Call) -> Any:
    """Change the deployment; what is not named stays."""
    from hpcbatch.operations.deployments import update_deployment
    from hpcbatch.spec.edits import additions, removals

    args = call.args
    return update_deployment(
        call.workspace,
        args.name,
        args.endpoint_name,
        file=args.file,
        sets=args.sets,
        adds=additions(args.adds),
        removes=removals(args.removes),
        skip_script_validation=args.skip_script_validation,
    )


def delete(call: Call) -> None:
    """Delete the deployment after asking; jobs are kept."""
    from hpcbatch.operations.deployments import delete_deployment

    args = call.args
    confirmed(call, f"Deployment {args.name!r} of endpoint {args.endpoint_name!r} will be deleted; its jobs are kept.")
    delete_deployment(call.workspace, args.name, args.endpoint_name)


def list_jobs(call: Call) -> Any:
    """The deployment's jobs, newest first."""
    from hpcbatch.operations import jobs

    args = call.args
    limits = {"max_results": args.max_results, "all_results": args.all_results}
    return jobs.list_jobs(call.workspace, endpoint=args.endpoint_name, deployment=args.name, **limits)


def model_in_short(deployment: Mapping[str, Any]) -> str:
    """`heart:3`; a model that only this deployment has shows the beginning of its digest, a pipeline its component."""
    if deployment.get("type") == "pipeline":
        return str(deployment.get("component") or "pipeline").removeprefix("azureml:")
    name, _, version = str(deployment.get("model") or "").removeprefix("azureml:").rpartition(":")
    return f"inline {version[:12]}" if name == "azureml_anonymous" else f"{name}:{version}".strip(":")


def compute_in_short(deployment: Mapping[str, Any]) -> str:
    """The compute by its name; of a pipeline, where steps run that name none."""
    found = deployment.get("compute") or (deployment.get("settings") or {}).get("default_compute")
    return str(found or "").removeprefix("azureml:")


_NAME = name_option("deployment")
_SKIP = option("--skip-script-validation", action="store_true", help="Do not look into the scoring script.")

VERBS = (
    Verb(
        "create",
        "Create a deployment under an endpoint, or overwrite it.",
        create,
        "hpcbatch batch-deployment create -f deployment.yml -e heart-batch --set-default\n"
        "hpcbatch batch-deployment create -f deployment.yml --set settings.mini_batch_size=5 compute=short",
        (
            file_option("deployment", required=True),
            name_option("deployment (else the file's)", required=False),
            option("--endpoint-name", "-e", metavar="NAME", help="Name of the batch endpoint (else the file's)."),
            SET,
            option("--set-default", action="store_true", help="Make it the endpoint's default deployment."),
            _SKIP,
            NO_WAIT,
        ),
    ),
    Verb(
        "show",
        "Show a deployment.",
        show,
        "hpcbatch batch-deployment show -n first -e heart-batch",
        (_NAME, ENDPOINT_NAME),
    ),
    Verb(
        "list",
        "List the deployments of an endpoint.",
        list_all,
        "hpcbatch batch-deployment list -e heart-batch -o table",
        (ENDPOINT_NAME,),
        columns=(
            ("Name", "name"),
            ("Model", model_in_short),
            ("Compute", compute_in_short),
            ("Description", "description"),
        ),
    ),
    Verb(
        "update",
        "Change a deployment; what is not named stays as it is.",
        update,
        "hpcbatch batch-deployment update -n first -e heart-batch --set settings.mini_batch_size=20",
        (_NAME, ENDPOINT_NAME, FILE_UPDATE, *GENERIC_UPDATE, _SKIP, NO_WAIT),
    ),
    Verb(
        "delete",
        "Delete a deployment; its jobs are kept.",
        delete,
        "hpcbatch batch-deployment delete -n first -e heart-batch --yes",
        (_NAME, ENDPOINT_NAME, YES, NO_WAIT),
    ),
    Verb(
        "list-jobs",
        "List the jobs of a deployment, newest first.",
        list_jobs,
        "hpcbatch batch-deployment list-jobs -n first -e heart-batch --query '[].name' -o tsv",
        (_NAME, ENDPOINT_NAME, *LIST_LIMITS),
        columns=JOB_COLUMNS,
    ),
)
