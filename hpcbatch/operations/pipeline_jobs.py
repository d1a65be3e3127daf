"""Pipeline jobs: start, show, follow, fetch, end and continue them, from their files and one look at the queue."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, NotFound, SchedulerError, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.follow import until_nothing_is_new
from hpcbatch.fs.owned import user_name
from hpcbatch.operations.downloads import copy_out
from hpcbatch.operations.pipeline_graph import refuse_two_places
from hpcbatch.operations.pipeline_status import describe, describe_step, status_of
from hpcbatch.operations.places import make_datastore
from hpcbatch.operations.progress import Progress
from hpcbatch.operations.status import TERMINAL, Queue
from hpcbatch.operations.workspace import Workspace, make_jobs_folder, refuse_for_sbatch
from hpcbatch.pipeline.graph import COMPLETED, ENDS
from hpcbatch.records.pipeline import PipelineRecord, PipelineStep
from hpcbatch.rounds import local as supervisors
from hpcbatch.scheduler.environment import require
from hpcbatch.steps import local, outcome, pipelinedir
from hpcbatch.steps.ahead import reuse_ahead
from hpcbatch.steps.logs import StepLogs
from hpcbatch.steps.pipelinedir import CANCELED_FILE, PipelineDir

OLD_SUPERVISOR_S = 10.0


@dataclass(frozen=True)
class Found:
    """A pipeline job, or one step of it: a child job."""

    job: PipelineDir
    step: PipelineStep | None = None


def checked_record(record: PipelineRecord, folder: Path) -> None:
    """Raises SpecError for a job of *record* at *folder* that cannot be run where its steps are to run."""
    refuse_two_places({step.name: (step.compute.name, step.compute.kind) for step in record.steps})
    if record.steps[0].compute.kind == "slurm":
        refuse_for_sbatch(folder)


def refuse_without_slurm(record: PipelineRecord) -> None:
    """Raises SpecError for a job that no Slurm job could wait for."""
    if record.steps[0].compute.kind != "slurm":
        raise SpecError(
            "--parsable prints a Slurm job id, and the compute of this pipeline is this machine.",
            hint="For the name of the job: --query name -o tsv", field="--parsable",
        )  # fmt: skip


def create_and_start(
    ws: Workspace, record: PipelineRecord, codes: Mapping[str, bytes], *, always_submit: bool = False
) -> dict[str, Any]:
    """Seal a job directory for *record* with the code snapshots *codes* (digest to zip), and submit it; with
    *always_submit* also where every step was run before.

    Idempotent by the job's name: the same request finds its job and finishes submitting it; another request under the
    name is a Conflict. Raises SpecError, FilesystemError, SchedulerError.
    """
    folder = ws.jobs / record.user / record.name
    checked_record(record, folder)
    make_jobs_folder(ws)
    of_steps = [output.path for step in record.steps for output in step.outputs.values() if output.path]
    for path in (*(output.path for output in record.outputs.values()), *of_steps):
        make_datastore(ws, path)
    if not pipelinedir.create(folder, record, codes):
        _same(pipelinedir.open_pipeline(folder), record)
    return describe(_submitted(pipelinedir.open_pipeline(folder), always=always_submit))


def find(ws: Workspace, name: str) -> Found | None:
    """The pipeline job *name*, or the step that *name* (`<job>.<step>`) is; None if it is neither."""
    mine = user_name()  # first: nobody else's job may stand in for one's own
    for user in sorted(scan.names(ws.jobs), key=lambda user: (user != mine, user)):
        with suppress(PermissionError):
            names = scan.names(ws.jobs / user)
            parts = name.split(".")
            for end in range(len(parts), 0, -1):
                job_name, step = ".".join(parts[:end]), ".".join(parts[end:])
                if job_name not in names or not pipelinedir.is_pipeline(ws.jobs / user / job_name):
                    continue
                job = pipelinedir.open_pipeline(ws.jobs / user / job_name)
                if not step:
                    return Found(job)
                for each in job.record.steps:
                    if each.name == step:
                        return Found(job, each)
    return None


def show(found: Found) -> dict[str, Any]:
    """The job with the state of every step, or one step with its log's place."""
    return describe_step(found.job, found.step) if found.step is not None else describe(found.job)


def brief(job: PipelineDir, queue: Queue) -> dict[str, Any]:
    """The job for a list: what `show` says, without its steps."""
    return describe(job, status_of(job, queue), steps=False)


def children(ws: Workspace, name: str) -> list[dict[str, Any]]:
    """The steps of the pipeline job *name* as jobs. Raises NotFound; [] for a job that has none."""
    found = find(ws, name)
    if found is None or found.step is not None:
        return []
    return list(describe(found.job)["jobs"].values())


def cancel(found: Found) -> dict[str, Any]:
    """Ask for the end of the job; one that has ended is left as it is. A single step cannot be ended."""
    job = found.job
    if found.step is not None:
        raise SpecError(
            f"{found.step.name!r} is a step; what can be canceled is its job.",
            hint=f"hpcbatch job cancel --name {job.record.name}", found=found.step.name, allowed="the name of a job",
        )  # fmt: skip
    if job.verdict() is None:
        pipelinedir.publish_document(job.root / CANCELED_FILE, {"by": user_name(), "at": time.time()})
        if _is_local(job):
            pid = supervisors.living_in(job.rounds_folder)
            with suppress(ProcessLookupError):
                if pid:
                    os.kill(pid, signal.SIGTERM)
        else:
            from hpcbatch.scheduler import slurm_commands

            ids = sorted({e.array_job_id for e in slurm_commands.queue(job.record.slurm_name)})
            if ids:
                slurm_commands.call(["scancel", "--quiet", *ids])
    return describe(job)


def resume(found: Found) -> dict[str, Any]:
    """Run what did not complete, in a new round; steps that completed are not run again.

    Does nothing to a job that is running or Completed. Raises Conflict for one that was canceled.
    """
    job = found.job
    status = status_of(job)
    if status.word in ("Completed", "Running", "Queued", "Finalizing", "Preparing"):
        if status.word != "Completed" and not _is_local(job):
            _go_on_submitting(job)
        return describe(job)
    if job.canceled():
        raise Conflict(f"Job {job.record.name!r} was canceled.", hint="Create it again.")
    if status.word == "Failed" or (status.word != "NotStarted" and not _is_local(job)):
        _wait_for_the_last_supervisor(job)
        _next_round(job)
    submit(job)
    return describe(job)


def _go_on_submitting(job: PipelineDir) -> None:
    """Submit what a limit on submitted jobs, or a kill, kept back before."""
    from hpcbatch.steps.submission import is_whole, submit_round

    if not is_whole(job, job.rounds()[-1]):
        try:
            submit_round(job, job.rounds()[-1])
        except SchedulerError as error:
            if not error.fields.get("limit"):  # the steps that are in the way go on themselves
                raise


def _wait_for_the_last_supervisor(job: PipelineDir) -> None:
    """Until the one that wrote the verdict has ended, too: it knows nothing of the new round."""
    end = time.monotonic() + OLD_SUPERVISOR_S
    while _is_local(job) and supervisors.living_in(job.rounds_folder) and time.monotonic() < end:
        time.sleep(0.02)


def _next_round(job: PipelineDir) -> None:
    current = job.rounds()[-1]
    results = job.results()
    gone = {"status": "Failed", "detail": outcome.DIED, "ended": outcome.stamp()}
    for step in job.record.steps:
        if step.name not in results:  # whoever may still run it must not be heard any more
            job.publish_result(step.name, current, gone)
    results = job.results()
    left = [s.name for s in job.record.steps if results[s.name]["status"] != COMPLETED]
    pipelinedir.add_round(job, current + 1, left)
    if not left:
        outcome.finish(job, current + 1)


def submit(job: PipelineDir, *, always: bool = False) -> None:
    """Hand the newest round to the compute, unless (but for *always*) every step of it was run before. Does nothing
    that was done.
    """
    if job.verdict() is not None:
        return
    require(job.record.name, job.record.travelling)
    current = job.rounds()[-1]
    # What the job waits for may change what its steps read.
    ahead = not always and not (job.record.dependency and current == 0)
    if ahead and not reuse_ahead(job, current) and outcome.finish(job, current) is not None:
        return
    if _is_local(job):
        local.start(job)
        return
    from hpcbatch.steps.submission import submit_round  # submitit, only where Slurm is used

    submit_round(job, current)


def wait(
    found: Found, *, on_progress: Callable[[Progress], None], poll_s: float = 1.0, slurm_poll_s: float = 15.0
) -> dict[str, Any]:
    """Block until a terminal state; the last `show`. Files are read every *poll_s*, Slurm is asked rarely."""
    job, began = found.job, time.monotonic()
    known: dict[str, dict[str, Any]] = {}
    status, asked = status_of(job), time.monotonic()
    while status.word not in TERMINAL and status.word != "NotStarted":
        on_progress(_progress(job, status.word, began, known))
        if found.step is not None and found.step.name in job.results(known):
            return show(found)
        time.sleep(poll_s)
        if _is_local(job) or time.monotonic() - asked > slurm_poll_s or job.verdict() is not None:
            status, asked = status_of(job), time.monotonic()
    on_progress(_progress(job, status.word, began, known))
    return show(found)


def _progress(job: PipelineDir, word: str, began: float, known: dict[str, dict[str, Any]]) -> Progress:
    results = job.results(known)
    failed = sum(result["status"] == "Failed" for result in results.values())
    count, ended = len(job.record.steps), len(results)
    return Progress(count, ended, failed, count, ended, time.monotonic() - began, 0.0, None, word, "steps")


def stream(found: Found, emit: Callable[[str], None], *, poll_s: float = 0.5) -> dict[str, Any]:
    """Emit the logs of the steps as they grow, as `az ml job stream` frames them, until a terminal state."""
    job = found.job
    emit(f"RunId: {job.record.name}" if found.step is None else f"RunId: {job.record.name}.{found.step.name}")
    emit(f"Web View: file://{job.root}")
    follower = StepLogs(job, found.step.name if found.step else None)

    def follow(_: Progress) -> None:
        for line in follower.lines():
            emit(line)

    last = wait(found, on_progress=follow, poll_s=poll_s)
    for line in until_nothing_is_new(follower.lines):
        emit(line)
    return last


def log_lines(found: Found) -> list[str]:
    """The lines that the steps have printed until now, each file's under its name."""
    follower = StepLogs(found.job, found.step.name if found.step else None)
    return list(until_nothing_is_new(follower.lines))


def download(found: Found, *, download_path: str, output_name: str | None, all: bool) -> dict[str, Any]:
    """Copy outputs to `<download_path>/named-outputs/<output>/`, with *all* the logs and artifacts of the steps too.

    Raises NotFound for an output that the job does not have, SpecError for a job that has not ended.
    """
    shown = show(found)
    name = str(shown["name"])
    if output_name is not None and output_name not in shown["outputs"]:
        known = ", ".join(shown["outputs"]) or "none"
        raise NotFound(
            f"Job {name!r} has no output named {output_name!r}.", hint=f"It has: {known}", known=list(shown["outputs"])
        )
    if shown["status"] not in {*TERMINAL, *ENDS}:
        raise SpecError(
            f"Job {name!r} is {shown['status']}; outputs can be downloaded when it is {', '.join(TERMINAL[:3])}.",
            hint=f"Wait for it: hpcbatch job stream --name {name}",
            found=shown["status"], allowed=", ".join(TERMINAL),
        )  # fmt: skip
    base = Path(os.path.abspath(os.path.expanduser(download_path)))
    copied = []
    for output, about in shown["outputs"].items():
        if output_name in (None, output) and about.get("path"):
            pairs = _files(Path(about["path"]))
            copied += [copy_out(source, base / "named-outputs" / output / inside) for source, inside in pairs]
    if all:
        copied += [copy_out(source, base / "artifacts" / inside) for source, inside in _artifacts(found)]
    return {"name": name, "status": shown["status"], "download_path": str(base), "files": copied}


def _files(path: Path) -> Iterator[tuple[Path, Path]]:
    if path.is_file():
        yield path, Path(path.name)
    for folder, _, names in os.walk(path):
        for name in sorted(names):
            full = Path(folder) / name
            yield full, full.relative_to(path)


def _artifacts(found: Found) -> Iterator[tuple[Path, Path]]:
    for step, attempts in found.job.attempts().items():
        if found.step is not None and found.step.name != step:
            continue
        for attempt in attempts:
            names = [attempt.log, attempt.path / "command.txt"]
            yield from ((each, Path(step) / attempt.path.name / each.name) for each in names if each.is_file())
            for source, inside in _files(attempt.path / "artifacts"):
                yield source, Path(step) / attempt.path.name / inside


def _is_local(job: PipelineDir) -> bool:
    return job.record.steps[0].compute.kind == "local"


def end_id(name: str, ws: Workspace) -> str:
    """The Slurm job that ends the pipeline job *name*: what others may depend on. Raises NotFound without one."""
    from hpcbatch.steps.submission import end_id as id_of

    found = find(ws, name)
    number = id_of(found.job) if found is not None else ""
    if not number:
        raise NotFound(
            f"No Slurm job ends job {name!r}: it has ended, or a limit on submitted jobs leaves no room for one.",
            hint=f"Look at it: hpcbatch job show --name {name}", known=[],
        )  # fmt: skip
    return number


def _submitted(job: PipelineDir, *, always: bool) -> PipelineDir:
    if job.canceled():
        return job
    try:
        submit(job, always=always)
    except SchedulerError as error:
        again = f"The job is sealed; submit it with: hpcbatch job resume --name {job.record.name}"
        if not error.fields.get("transient") and not _has_submission(job):
            publish.remove_tree(job.root)  # nobody has seen it: Slurm refused it before anything was accepted
            raise
        raise SchedulerError(error.message, hint=f"{error.hint}\n{again}", **error.fields) from error
    return job


def _has_submission(job: PipelineDir) -> bool:
    return any(name.startswith("unit-") for name in scan.names(job.round(0)))


def _same(job: PipelineDir, record: PipelineRecord) -> None:
    if job.record.request_sha256 != record.request_sha256:
        raise Conflict(
            f"A job named {record.name!r} exists and was started with something else.",
            hint=f"Choose another name, or look at it: hpcbatch job show --name {record.name}",
            name=record.name,
        )
