"""`hpcbatch batch-endpoint invoke`: start a job, and with `--wait` see it through."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpcbatch.cli import progress, render
from hpcbatch.cli.grammar import SET, Answer, Call, Verb, option
from hpcbatch.cli.invoke_request import DATA_TYPES, Given, request_of
from hpcbatch.cli.views import Card, card_of

if TYPE_CHECKING:
    from hpcbatch.operations.workspace import Workspace

INTERRUPTED = 130
_SHOWN = ("name", "status", "endpoint", "deployment", "items", "mini_batches", "job_directory")


def invoke(call: Call) -> Answer:
    """Start a job and return at once; with `--wait`, return when it has ended, its verdict as exit code."""
    from hpcbatch.operations.invoke import invoke as start

    args = call.args
    request = request_of(
        Given(
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
        )
    )
    workspace = call.workspace
    job = start(workspace, request)
    for each in job.get("warnings") or ():
        render.warning(each)
    return wait(workspace, job["name"]) if args.wait else Answer(job)


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
    lines += failure_lines(job.get("progress") or {})
    render.error("\n".join([*lines, f"See more: hpcbatch job show -n {name}"]))


def invoked_card(job: dict[str, Any]) -> Card:
    """What a person wants to know after an invoke: the name, and how to go on."""
    from hpcbatch.cli.job_view import ENDED, job_card

    if job.get("status") in ENDED:
        return job_card(job)
    name = job["name"]
    card = card_of({key: job.get(key) for key in _SHOWN})
    commands = (("Follow", f"hpcbatch job stream -n {name}"), ("Look", f"hpcbatch job show -n {name}"),
                ("Fetch", f"hpcbatch job download -n {name}"))  # fmt: skip
    return Card(card.title, card.status, fields=card.fields, commands=commands)


VERB = Verb(
    "invoke",
    "Start a job that scores the input. Returns at once.",
    invoke,
    "hpcbatch batch-endpoint invoke -n heart-batch --input ./data --query name -o tsv\n"
    "hpcbatch batch-endpoint invoke -n heart-batch -d second --input ./one.csv --input-type uri_file --wait\n"
    "hpcbatch batch-endpoint invoke -n heart-batch --input ./data --set output_file_name=scores.csv mini_batch_size=5",
    (
        option("--name", "-n", metavar="NAME", help="Name of the batch endpoint (else the file's)."),
        option("--deployment-name", "-d", metavar="NAME", help="The deployment. Default: the endpoint's default."),
        option("--input", metavar="PATH", help="Folder or file to score."),
        option("--input-type", choices=DATA_TYPES, metavar="TYPE", help="uri_folder (default) or uri_file."),
        option("--inputs", metavar="JSON", help='Like inputs in --file, as JSON: \'{"x": {"path": ...}}\'.'),
        option("--outputs", metavar="JSON", help="Like outputs in --file, as JSON."),
        option("--output-path", metavar="PATH", help="Folder for the results. Default: inside the job's directory."),
        option("--mini-batch-size", "-m", type=int, metavar="N", help="Files for each call of run()."),
        option("--instance-count", "-c", type=int, metavar="N", help="Array tasks that run at once."),
        option("--job-name", metavar="NAME", help="Name of the job; the same name again never starts a second one."),
        option("--experiment-name", metavar="NAME", help="The experiment that the job is filed under."),
        option("--file", "-f", metavar="PATH", help="YAML with inputs, outputs, deployment."),
        SET,
        option("--wait", action="store_true", help="Show progress, return when the job has ended: 0 if it completed."),
    ),
    view=invoked_card,
    details="--set takes, for this job only: mini_batch_size, instance_count,\n"
    "error_threshold, retry_settings.max_retries, retry_settings.timeout,\n"
    "output_file_name, max_concurrency_per_instance, logging_level, groups,\n"
    "environment_variables.NAME, inputs.NAME.path, inputs.NAME.type,\n"
    "outputs.NAME.path.",
)
