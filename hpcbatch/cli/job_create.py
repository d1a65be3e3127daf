"""`hpcbatch job create`: run a pipeline, or one command, from its YAML."""

from __future__ import annotations

from hpcbatch.cli import render
from hpcbatch.cli.grammar import SET, WEB, Answer, Call, Verb, file_option, name_option, option
from hpcbatch.cli.invoke import CHAINING, invoked_card, rehearsed, wait


def create(call: Call) -> Answer:
    """Start the job and return at once; with `--stream` print its log, with `--wait` its progress, until it ended."""
    from hpcbatch.operations.job_create import requested_job
    from hpcbatch.operations.pipeline_dry_run import dry_run_pipeline
    from hpcbatch.operations.pipelines import start_pipeline

    args = call.args
    request = requested_job(
        call.workspace, file=args.file, sets=args.sets, name=args.name, experiment=args.experiment_name,
        dependency=args.dependency, needs_slurm=args.parsable and not args.dry_run,
    )  # fmt: skip
    if args.dry_run:
        return rehearsed(dry_run_pipeline(call.workspace, request))
    job = start_pipeline(call.workspace, request, say=render.note)
    for each in job.get("warnings") or ():
        render.warning(each)
    if args.parsable:
        from hpcbatch.operations.pipeline_jobs import end_id

        return Answer(end_id(job["name"], call.workspace), form="tsv")
    if args.stream:
        from hpcbatch.cli.job import follow

        render.note(f"Job {job['name']}")
        return follow(call, job["name"])
    if args.wait:
        return wait(call.workspace, job["name"])
    return Answer(job)


VERB = Verb(
    "create",
    "Start a pipeline job (or a command job) from its YAML. Returns at once.",
    create,
    "hpcbatch job create -f pipeline-job.yml --set inputs.input_data.path=data/unlabeled\n"
    "hpcbatch job create -f pipeline-job.yml --stream",
    (
        file_option("job", required=True),
        name_option("job; the same name again never starts a second one", required=False),
        SET,
        option("--stream", "-s", action="store_true", help="Follow the job until it has ended."),
        option("--wait", action="store_true", help="Show progress, return when the job has ended: 0 if it completed."),
        option("--experiment-name", metavar="NAME", help="The experiment that the job is filed under."),
        *CHAINING,
        option("--save-as", "-a", metavar="PATH", help="Accepted as in az: `job show -o yaml` prints the job."),
        option("--skip-validation", action="store_true", help="Accepted as in az: what is wrong is said anyway."),
        WEB,
    ),
    view=invoked_card,
    details="--set takes any field of the file: inputs.NAME=VALUE, inputs.NAME.path=PATH,\n"
    "settings.force_rerun=true, settings.default_compute=NAME, jobs.STEP.compute=NAME.",
)


def validate(call: Call) -> dict[str, object]:
    """Look at a job's file as `create` would; start nothing."""
    from hpcbatch.operations.job_create import validate_job

    return validate_job(call.workspace, file=call.args.file, sets=call.args.sets)


VALIDATE = Verb(
    "validate",
    "Look at the file of a job as `create` would, and start nothing.",
    validate,
    "hpcbatch job validate -f pipeline-job.yml",
    (file_option("job", required=True), SET),
)
