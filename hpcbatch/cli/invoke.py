"""`hpcbatch batch-endpoint invoke`: start a job, and with `--wait` see it through."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from hpcbatch.cli import progress, render
from hpcbatch.cli.grammar import SET, Answer, Call, Verb, option
from hpcbatch.cli.invoke_flags import SETTING_OPTIONS, settings_of
from hpcbatch.cli.invoke_request import DATA_TYPES, Given, document_of, request_of, target_of
from hpcbatch.cli.views import Card, card_of
from hpcbatch.errors import SpecError

if TYPE_CHECKING:
    from hpcbatch.operations.workspace import Workspace

INTERRUPTED = 130
REFUSED = 4
_SHOWN = ("name", "status", "endpoint", "deployment", "items", "mini_batches", "job_directory")


def invoke(call: Call) -> Answer:
    """Start a job and return at once; with `--wait`, return when it has ended, its verdict as exit code."""
    args, given = call.args, given_of(call.args)
    workspace = call.workspace
    pipeline = _pipeline(workspace, given)
    if args.dry_run:
        return rehearsed(_rehearse_pipeline(workspace, given, *pipeline) if pipeline else _rehearse(workspace, given))
    if args.parsable and not pipeline:
        _refuse_without_slurm(workspace, given)
    if pipeline:
        job = start_pipeline(workspace, given, *pipeline, needs_slurm=args.parsable)
    else:
        job = start_model(workspace, given)
    for each in job.get("warnings") or ():
        render.warning(each)
    if args.parsable:
        id_of = _pipeline_end if pipeline else _merge_id
        return Answer(id_of(workspace, job["name"]), form="tsv")
    return wait(workspace, job["name"]) if args.wait else Answer(job)


def given_of(args: argparse.Namespace) -> Given:
    """What the parsed arguments say. Raises SpecError for an empty one, as an unset shell variable makes it."""
    for flag in ("name", "deployment_name", "input", "output_path", "job_name", "file"):
        if getattr(args, flag) == "":
            name = f"--{flag.replace('_', '-')}"
            raise SpecError(
                f"{name} is empty.", hint=f"Is the shell variable set? Give it a value, or leave {name} out.",
                field=name, found="", allowed="a value",
            )  # fmt: skip
    return Given(
        endpoint=args.name,
        deployment=args.deployment_name,
        input=args.input,
        input_type=args.input_type,
        inputs=args.inputs,
        outputs=args.outputs,
        output_path=args.output_path,
        mini_batch_size=args.mini_batch_size,
        instance_count=args.instance_count,
        job_name=args.job_name,
        experiment_name=args.experiment_name,
        file=args.file,
        sets=tuple(args.sets),
        settings=settings_of(args),
        dependency=args.dependency,
    )


def _rehearse(workspace: Workspace, given: Given) -> dict[str, Any]:
    from hpcbatch.operations.dry_run import dry_run

    return dry_run(workspace, request_of(given))


def _rehearse_pipeline(workspace: Workspace, given: Given, endpoint: str, deployment: str | None) -> dict[str, Any]:
    from hpcbatch.cli.pipeline_request import pipeline_invocation
    from hpcbatch.operations.pipeline_dry_run import dry_run_pipeline
    from hpcbatch.operations.pipeline_invoke import pipeline_request

    return dry_run_pipeline(workspace, pipeline_request(workspace, pipeline_invocation(given, endpoint, deployment)))


def rehearsed(found: dict[str, Any]) -> Answer:
    """The answer to a dry run: an error code, and a warning for each script, where Slurm would refuse one."""
    refused = [one for one in found.get("test_only", ()) if not one["accepted"]]
    for one in refused:
        render.warning(f"Slurm would refuse {one['name']}: {one['said']}")
    return Answer(found, REFUSED if refused else 0)


def _refuse_without_slurm(workspace: Workspace, given: Given) -> None:
    """`--parsable` has nothing to print where the job is not on Slurm: said before the job is started."""
    from hpcbatch.operations.resolve import resolve_deployment

    if resolve_deployment(workspace, *target_of(given, document_of(given))).compute.kind != "slurm":
        raise SpecError(
            "--parsable prints a Slurm job id, and this deployment's compute is this machine.",
            hint="For the name of the job: --query name -o tsv", field="--parsable",
        )  # fmt: skip


def _merge_id(workspace: Workspace, name: str) -> str:
    from hpcbatch.operations.jobs import find_job
    from hpcbatch.rounds.dependents import merge_id

    return merge_id(find_job(workspace, name))


def _pipeline_end(workspace: Workspace, name: str) -> str:
    from hpcbatch.operations.pipeline_jobs import end_id

    return end_id(name, workspace)


def _pipeline(workspace: Workspace, given: Given) -> tuple[str, str | None] | None:
    """The endpoint and the deployment that are invoked, if that deployment is of type pipeline."""
    from hpcbatch.operations.resolve import deployment_type

    target = target_of(given, document_of(given))
    return target if deployment_type(workspace, *target) == "pipeline" else None


def start_pipeline(
    workspace: Workspace, given: Given, endpoint: str, deployment: str | None, *, needs_slurm: bool = False
) -> dict[str, Any]:
    """Start the job of a pipeline deployment."""
    from hpcbatch.cli.pipeline_request import pipeline_invocation
    from hpcbatch.operations.pipeline_invoke import invoke_pipeline

    asked = pipeline_invocation(given, endpoint, deployment, needs_slurm=needs_slurm)
    return invoke_pipeline(workspace, asked, say=render.note)


def start_model(workspace: Workspace, given: Given) -> dict[str, Any]:
    """Start the job of a model deployment."""
    from hpcbatch.operations.invoke import invoke as start

    return start(workspace, request_of(given), say=render.note)


def wait(workspace: Workspace, name: str) -> Answer:
    """Show the job's progress until it has ended. Ctrl-C leaves the job running and says so."""
    from hpcbatch.operations import jobs

    render.note(f"Job {name}")
    try:
        with progress.reporter() as report:
            job = jobs.wait_job(workspace, name, on_progress=report)
    except KeyboardInterrupt:
        render.story(
            f"Stopped waiting; job {name} goes on without you.\n"
            f"See it:    hpcbatch job show -n {name}\n"
            f"Follow it: hpcbatch job stream -n {name}\n"
            f"End it:    hpcbatch job cancel -n {name}"
        )
        return Answer(None, INTERRUPTED)
    code = jobs.exit_code(job)
    if code:
        ended_badly(job)
    return Answer(job, code)


def ended_badly(job: dict[str, Any]) -> None:
    """Say on stderr why a job did not complete: the reason, then the first failures with what the script said."""
    from hpcbatch.cli.job_view import failure_lines

    name = job["name"]
    lines = [f"Job {name} ended as {job.get('status')}. {job.get('detail') or ''}".rstrip()]
    lines += failure_lines(job.get("progress") or {}, detail=lines[0])
    render.error("\n".join([*lines, f"See more: hpcbatch job show -n {name}"]))


def invoked_card(job: dict[str, Any]) -> Card:
    """What a person wants to know after an invoke: the name, and how to go on."""
    from hpcbatch.cli.job_view import ENDED, job_card

    if job.get("dry_run"):
        return _rehearsal_card(job)
    if job.get("status") in ENDED:
        return job_card(job)
    name = job["name"]
    card = card_of({key: job.get(key) for key in _SHOWN})
    commands = (("Follow", f"hpcbatch job stream -n {name}"), ("Look", f"hpcbatch job show -n {name}"),
                ("Fetch", f"hpcbatch job download -n {name}"))  # fmt: skip
    return Card(card.title, card.status, fields=card.fields, commands=commands)


def _rehearsal_card(found: dict[str, Any]) -> Card:
    """The numbers, what Slurm says, and how to see the scripts."""
    plain = {
        key: value for key, value in found.items() if not isinstance(value, list | dict | None) and key != "dry_run"
    }
    if "windows" in found:
        plain["array tasks"] = " + ".join(str(one["array_tasks"]) for one in found["windows"])
        plain["slurm calls"] = ", ".join(f"{count} x {name}" for name, count in found["slurm_calls"].items())
    if "submissions" in found:
        plain["slurm jobs"] = plain.pop("slurm_jobs")
        plain["slurm calls"] = ", ".join(f"{count} x {name}" for name, count in found["slurm_calls"].items() if count)
    if "first_items" in found:
        plain |= {f"first item{'s' * (len(found['first_items']) > 1)}": ", ".join(found["first_items"])}
    said = tuple((one["name"], one["said"]) for one in found.get("test_only", ()))
    scripts = (("Scripts", "the same command with: --query 'scripts[].text' -o tsv"),) if said else ()
    news = ("Nothing was made and nothing was submitted.", *_graph(found))
    return Card("dry run", news=news, fields=(*plain.items(), *said), commands=scripts)


def _graph(found: dict[str, Any]) -> list[str]:
    """The steps of a pipeline, each below what it reads from, and the submission that it is in."""
    if "jobs" not in found:
        return []
    from hpcbatch.pipeline.drawing import Node, as_text

    arrays = {step: one for one in found.get("submissions", ()) for step in one["steps"] if len(one["steps"]) > 1}
    notes = {step: f"array {one['name'].rpartition('.')[2]}" for step, one in arrays.items()}
    steps = found["jobs"].items()
    return as_text([Node(name, s["compute"], notes.get(name, ""), tuple(s["depends_on"])) for name, s in steps])


CHAINING = (
    option("--dependency", metavar="LIST", help="What Slurm waits for before the first array task: afterok:123."),
    option("--dry-run", action="store_true", help="Say what would be made and submitted, and do nothing of it."),
    option(
        "--parsable",
        action="store_true",
        help="Print the id of the Slurm job that ends the job, for --dependency=afterok: of others.",
    ),
)
VERB = Verb(
    "invoke",
    "Start a job that scores the input. Returns at once.",
    invoke,
    "hpcbatch batch-endpoint invoke -n heart-batch --input ./data --query name -o tsv\n"
    "hpcbatch batch-endpoint invoke -n heart-batch -d second --input ./one.csv --input-type uri_file --wait\n"
    "hpcbatch batch-endpoint invoke -n heart-batch --input './data/**/*.csv' --set output_file_name=scores.csv\n"
    "hpcbatch batch-endpoint invoke -n heart-batch --input s3://bucket/data --output-path s3://bucket/scores --dry-run",
    (
        option("--name", "-n", metavar="NAME", help="Name of the batch endpoint (else the file's)."),
        option("--deployment-name", "-d", metavar="NAME", help="The deployment. Default: the endpoint's default."),
        option("--input", metavar="PATH", help="Folder, file, pattern or address to score."),
        option("--input-type", choices=DATA_TYPES, metavar="TYPE", help="uri_folder (default) or uri_file."),
        option("--inputs", metavar="JSON", help='Like inputs in --file, as JSON: \'{"x": {"path": ...}}\'.'),
        option("--outputs", metavar="JSON", help="Like outputs in --file, as JSON."),
        option("--output-path", metavar="PATH", help="Folder or address for the results. Default: the job's folder."),
        option("--mini-batch-size", "-m", type=int, metavar="N", help="Files for each call of run()."),
        option("--instance-count", "-c", type=int, metavar="N", help="Array tasks that run at once."),
        option("--job-name", metavar="NAME", help="Name of the job; the same name again never starts a second one."),
        option("--experiment-name", metavar="NAME", help="The experiment that the job is filed under."),
        option("--file", "-f", metavar="PATH", help="YAML with inputs, outputs, deployment."),
        SET,
        *SETTING_OPTIONS,
        *CHAINING,
        option("--wait", action="store_true", help="Show progress, return when the job has ended: 0 if it completed."),
    ),
    view=invoked_card,
    details="--set takes, for this job only: mini_batch_size, instance_count,\n"
    "error_threshold, retry_settings.max_retries, retry_settings.timeout,\n"
    "output_file_name, output_header, output_input_column, max_concurrency_per_instance, logging_level, groups,\n"
    "environment_variables.NAME, inputs.NAME.path, inputs.NAME.type,\n"
    "outputs.NAME.path, storage_options.NAME (docs/how-to/read-from-object-stores.md).",
)
