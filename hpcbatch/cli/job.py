"""`hpcbatch job`: show, stream, list, download, cancel, resume."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli import job_create, render
from hpcbatch.cli.formats import Columns, at
from hpcbatch.cli.grammar import (
    ARCHIVED,
    GENERIC_UPDATE,
    LIST_LIMITS,
    NO_WAIT,
    WEB,
    Answer,
    Call,
    Verb,
    archived_of,
    edit_of,
    name_option,
    option,
)
from hpcbatch.cli.job_view import job_card, summary_lines

JOB_COLUMNS: Columns = (
    ("Name", "name"),
    ("Status", "status"),
    ("Endpoint", "endpoint"),
    ("Deployment", "deployment"),
    ("Items", "items"),
    ("Created", lambda job: str(at(job, "creation_context.created_at") or "")[5:16].replace("T", " ")),
)


def show(call: Call) -> Any:
    """The job as its files and Slurm tell it now."""
    from hpcbatch.operations.jobs import show_job

    return show_job(call.workspace, call.args.name)


def stream(call: Call) -> Answer:
    """Print the job's log as it grows and a summary at its end; the exit code tells whether it completed."""
    return follow(call, call.args.name)


def follow(call: Call, name: str) -> Answer:
    """What `stream` does, for the job *name*."""
    from hpcbatch.operations import jobs

    try:
        job = jobs.stream_job(call.workspace, name, render.line)
    except KeyboardInterrupt:
        render.story(f"Stopped looking; job {name} goes on. End it: hpcbatch job cancel -n {name}")
        return Answer(None, 130)
    for each in summary_lines(job):
        render.line(each)
    code = jobs.exit_code(job)
    if code:
        render.error(
            f"Job {name} ended as {job.get('status')}. {job.get('detail') or ''}\nSee why: hpcbatch job show -n {name}"
        )
    return Answer(None, code)


def logs(call: Call) -> None:
    """Print what the job's array tasks and merges have logged until now."""
    from hpcbatch.operations import jobs

    for line in jobs.job_log(call.workspace, call.args.name, call.args.mini_batch):
        render.line(line)


def list_all(call: Call) -> Any:
    """The jobs of the workspace, newest first."""
    from hpcbatch.operations.jobs import list_jobs

    limits = {"max_results": call.args.max_results, "all_results": call.args.all_results}
    return list_jobs(call.workspace, archived=archived_of(call), parent_job_name=call.args.parent_job_name, **limits)


def download(call: Call) -> Any:
    """Copy the job's outputs, and with `--all` its logs."""
    from hpcbatch.operations.jobs import download_job

    args = call.args
    return download_job(
        call.workspace, args.name, download_path=args.download_path, output_name=args.output_name, all=args.all
    )


def cancel(call: Call) -> Any:
    """End the job; what it wrote stays where it is."""
    from hpcbatch.operations.jobs import cancel_job

    return cancel_job(call.workspace, call.args.name)


def resume(call: Call) -> Any:
    """Run what is missing again; what is done stays."""
    from hpcbatch.operations.jobs import resume_job

    job = resume_job(call.workspace, call.args.name)
    if not call.args.wait:
        return job
    from hpcbatch.cli.invoke import wait

    return wait(call.workspace, call.args.name)


def update(call: Call) -> Any:
    """Change the job's display name, description, tags or properties."""
    from hpcbatch.operations import job_notes
    from hpcbatch.operations.jobs import noted_job, show_job

    job_notes.update(noted_job(call.workspace, call.args.name), edit_of(call))
    return show_job(call.workspace, call.args.name)


def archive(call: Call, *, archived: bool = True) -> None:
    """Leave the job out of lists, or put it back."""
    from hpcbatch.operations import job_notes
    from hpcbatch.operations.jobs import noted_job

    job_notes.archive(noted_job(call.workspace, call.args.name), archived=archived)


_NAME = name_option("job")
_PARENT = option("--parent-job-name", "-p", metavar="JOB", help="The steps of this pipeline job.")
_EXAMPLE_JOB = "b20261123-101530-k3x9q2"

VERBS = (
    job_create.VERB,
    job_create.VALIDATE,
    Verb(
        "show",
        "Show a job: status, progress, failures first.",
        show,
        f"hpcbatch job show -n {_EXAMPLE_JOB} --query status -o tsv",
        (_NAME, WEB),
        view=job_card,
    ),
    Verb(
        "stream",
        "Follow a job until it has ended; the exit code is its verdict.",
        stream,
        f"hpcbatch job stream -n {_EXAMPLE_JOB}",
        (_NAME,),
    ),
    Verb(
        "logs",
        "Print what a job has logged until now, whole or of one mini-batch.",
        logs,
        f"hpcbatch job logs -n {_EXAMPLE_JOB} --mini-batch 17",
        (
            _NAME,
            option("--mini-batch", type=int, metavar="N", help="Only what this one printed, and how its tries failed."),
        ),
    ),
    Verb(
        "list",
        "List jobs, newest first.",
        list_all,
        "hpcbatch job list --max-results 5 --query \"[?status=='Failed'].name\" -o tsv",
        (*LIST_LIMITS, *ARCHIVED, _PARENT),
        columns=JOB_COLUMNS,
    ),
    Verb(
        "download",
        "Copy the outputs of a finished job to DIR/named-outputs/OUTPUT/.",
        download,
        f"hpcbatch job download -n {_EXAMPLE_JOB} --output-name score --download-path ./results",
        (
            _NAME,
            option("--output-name", metavar="OUTPUT", help="Only this output (`score`)."),
            option("--download-path", "-p", default=".", metavar="DIR", help="Default: the current folder."),
            option("--all", action="store_true", help="Logs, too (DIR/artifacts/)."),
        ),
    ),
    Verb(
        "cancel",
        "End a job. What it finished stays.",
        cancel,
        f"hpcbatch job cancel -n {_EXAMPLE_JOB}",
        (_NAME, NO_WAIT),
        view=job_card,
    ),
    Verb(
        "resume",
        "Go on with an incomplete job: only what is missing runs.",
        resume,
        f"hpcbatch job resume -n {_EXAMPLE_JOB} --wait",
        (_NAME, option("--wait", action="store_true", help="Show progress, return when the job has ended.")),
        view=job_card,
    ),
    Verb(
        "update",
        "Change a job's display name, description, tags or properties.",
        update,
        f"hpcbatch job update -n {_EXAMPLE_JOB} --set tags.paper=figure-2 display_name='The final run'",
        (_NAME, *GENERIC_UPDATE, WEB),
        view=job_card,
    ),
    Verb(
        "archive", "Leave a job out of lists; it stays.", archive, f"hpcbatch job archive -n {_EXAMPLE_JOB}", (_NAME,)
    ),
    Verb(
        "restore",
        "Put an archived job back into lists.",
        lambda call: archive(call, archived=False),
        f"hpcbatch job restore -n {_EXAMPLE_JOB}",
        (_NAME,),
    ),
)
