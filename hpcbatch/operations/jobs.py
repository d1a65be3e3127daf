"""Show, list, follow, download, cancel and continue jobs, from their files alone and one look at the queue."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, FileDamaged, NotFound, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.follow import Follower, until_nothing_is_new
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.layout import FILES
from hpcbatch.operations import going_on, pipeline_jobs
from hpcbatch.operations.downloads import copy_out
from hpcbatch.operations.job_notes import read_notes, shown_notes
from hpcbatch.operations.progress import Progress, ProgressReader
from hpcbatch.operations.status import TERMINAL, OneLook, describe, progress_of, status_of, unpublished
from hpcbatch.operations.versions import Archived
from hpcbatch.operations.workspace import Workspace, user_jobs
from hpcbatch.rounds.standing import recorded_ids
from hpcbatch.steps.pipelinedir import PipelineDir, is_pipeline, open_pipeline

OUTPUT = "score"
_NEXT_NOTE = re.compile(r"(mini-batch|group|driver) \d+|ERROR|told to|init\(\)|the job|a later")
_log = logging.getLogger(__name__)
_EXIT_CODES = {"Completed": 0, "NotResponding": 8, "NotStarted": 8}


def exit_code(job: dict[str, Any]) -> int:
    """The exit code for a job's state: 0 Completed, 5 Failed or Canceled, 8 stopped half-way."""
    return _EXIT_CODES.get(job["status"], 5)


def find_job(ws: Workspace, name: str) -> JobDir:
    """The job *name*: this user's own, else that of anybody whose jobs may be read. Raises NotFound."""
    mine = user_jobs(ws).name
    for user in sorted(scan.names(ws.jobs), key=lambda user: (user != mine, user)):
        with suppress(PermissionError):
            if name in scan.names(ws.jobs / user):
                return jobdir.open_job(ws.jobs / user / name)
    raise NotFound(
        f"There is no job named {name!r} in {str(ws.root)!r}.", hint="List the jobs: hpcbatch job list", name=name
    )


def noted_job(ws: Workspace, name: str) -> JobDir | PipelineDir:
    """The job *name* of either kind, whose notes can be changed. Raises NotFound, and SpecError for a step."""
    pipeline = pipeline_jobs.find(ws, name)
    if pipeline is None:
        return find_job(ws, name)
    if pipeline.step is not None:
        raise SpecError(f"{name!r} is a step of a job.", hint=f"Name the job: {pipeline.job.record.name}", found=name)
    return pipeline.job


def show_job(ws: Workspace, name: str) -> dict[str, Any]:
    """One job with its progress and its first failures."""
    if pipeline := pipeline_jobs.find(ws, name):
        return pipeline_jobs.show(pipeline) | shown_notes(read_notes(pipeline.job))
    job = find_job(ws, name)
    status = status_of(job)
    shown = describe(job, status) | shown_notes(read_notes(job))
    progress = progress_of(job, over=status.word in ("Canceled", "NotResponding"))
    return shown | {"progress": progress} | unpublished(job, status, _succeeded(progress))


def list_jobs(
    ws: Workspace,
    *,
    max_results: int = 50,
    all_results: bool = False,
    endpoint: str | None = None,
    deployment: str | None = None,
    archived: Archived = Archived.HIDDEN,
    parent_job_name: str | None = None,
) -> list[dict[str, Any]]:
    """The newest jobs first, those of *endpoint* and *deployment* if named; or the steps of one pipeline job.

    Raises SpecError for a *max_results* below 1.
    """
    if max_results < 1:
        raise SpecError(
            f"max_results is {max_results}; it must be a whole number of at least 1.",
            hint="For example: --max-results 10, or --all-results",
            field="max_results", found=max_results, allowed=">= 1",
        )  # fmt: skip
    if parent_job_name is not None:
        steps = pipeline_jobs.children(ws, parent_job_name)
        return steps if all_results else steps[:max_results]
    found: list[dict[str, Any]] = []
    queue = OneLook()
    jobs = sorted(_all_jobs(ws), key=lambda job: (job.record.created, job.record.name), reverse=True)
    for job in jobs:
        if endpoint in (None, job.record.endpoint) and deployment in (None, job.record.deployment):
            notes = read_notes(job)
            if not archived.lists(bool(notes.get("archived"))):
                continue
            if isinstance(job, PipelineDir):
                found.append(pipeline_jobs.brief(job, queue) | shown_notes(notes))
            else:
                found.append(describe(job, status_of(job, queue)) | shown_notes(notes))
            if len(found) >= max_results and not all_results:
                break
    return found


def cancel_job(ws: Workspace, name: str) -> dict[str, Any]:
    """Ask for the end of a job; one that has ended is left as it is. The Slurm jobs are found by their name."""
    if pipeline := pipeline_jobs.find(ws, name):
        _require_own(pipeline.job.root)
        return pipeline_jobs.cancel(pipeline)
    job = find_job(ws, name)
    _require_own(job.root)
    going_on.cancel(job)
    return describe(job)


def resume_job(ws: Workspace, name: str) -> dict[str, Any]:
    """Continue a job that stopped half-way: release what is held, finish its submission, or run what is missing in a
    new round. Does nothing to a job that runs well or is Completed. Raises what `going_on.resume` raises.
    """
    if pipeline := pipeline_jobs.find(ws, name):
        _require_own(pipeline.job.root)
        return pipeline_jobs.resume(pipeline)
    job = find_job(ws, name)
    _require_own(job.root)
    going_on.resume(job)
    return describe(job)


def wait_job(
    ws: Workspace,
    name: str,
    *,
    on_progress: Callable[[Progress], None],
    poll_s: float = 1.0,
    slurm_poll_s: float = 15.0,
) -> dict[str, Any]:
    """Block until the job is in a terminal state; the last `show_job`. Files are read every *poll_s*, Slurm asked
    rarely.
    """
    if pipeline := pipeline_jobs.find(ws, name):
        return pipeline_jobs.wait(pipeline, on_progress=on_progress, poll_s=poll_s, slurm_poll_s=slurm_poll_s)
    job = find_job(ws, name)
    reader = ProgressReader(job)
    status, asked = status_of(job), time.monotonic()
    while status.word not in TERMINAL and status.word != "NotStarted":
        on_progress(reader.look(status.word))
        time.sleep(poll_s)
        local_or_due = job.record.compute.kind == "local" or time.monotonic() - asked > slurm_poll_s
        if local_or_due or job.verdict() is not None:
            status, asked = status_of(job), time.monotonic()
    on_progress(reader.look(status.word))
    return show_job(ws, name)


def stream_job(ws: Workspace, name: str, emit: Callable[[str], None], *, poll_s: float = 0.5) -> dict[str, Any]:
    """Emit the job's logs as they grow, as `az ml job stream` frames them, until it is in a terminal state."""
    if pipeline := pipeline_jobs.find(ws, name):
        return pipeline_jobs.stream(pipeline, emit, poll_s=poll_s)
    job = find_job(ws, name)
    emit(f"RunId: {job.record.name}")
    emit(f"Web View: file://{job.root}")
    follower = _Logs(job)

    def follow(_: Progress) -> None:
        for line in follower.lines():
            emit(line)

    found = wait_job(ws, name, on_progress=follow, poll_s=poll_s)
    for line in until_nothing_is_new(follower.lines):
        emit(line)
    return found


def job_log(ws: Workspace, name: str, mini_batch: int | None = None) -> list[str]:
    """The lines that array tasks and merges of the job have logged until now, each file's under its name.

    With *mini_batch* only what was printed while that one ran, and how its tries failed. Raises NotFound if the job has
    no such mini-batch.
    """
    if pipeline := pipeline_jobs.find(ws, name):
        return pipeline_jobs.log_lines(pipeline)
    job = find_job(ws, name)
    if mini_batch is not None and not 0 <= mini_batch < job.record.mini_batches:
        last = job.record.mini_batches - 1
        raise NotFound(
            f"Job {name!r} has no mini-batch {mini_batch}; they are numbered from 0 to {last}.",
            hint=f"hpcbatch job logs --name {name} --mini-batch {last}", field="mini_batch", found=mini_batch,
        )  # fmt: skip
    found = until_nothing_is_new(_Logs(job).lines)
    return list(found if mini_batch is None else of_mini_batch(found, mini_batch))


def download_job(
    ws: Workspace, name: str, *, download_path: str = ".", output_name: str | None = None, all: bool = False
) -> dict[str, Any]:
    """Copy the outputs of a finished job to `<download_path>/named-outputs/score/`, with *all* its logs to
    `artifacts/`. Of a job that ended otherwise than Completed, `unpublished` says where its results are.
    """
    if pipeline := pipeline_jobs.find(ws, name):
        return pipeline_jobs.download(pipeline, download_path=download_path, output_name=output_name, all=all)
    if output_name not in (None, OUTPUT):
        raise NotFound(
            f"Job {name!r} has no output named {output_name!r}.", hint=f"It has: {OUTPUT}. Use --output-name {OUTPUT}",
            known=[OUTPUT],
        )  # fmt: skip
    job = find_job(ws, name)
    status = status_of(job)
    if status.word not in TERMINAL:
        raise SpecError(
            f"Job {name!r} is {status.word}; outputs can be downloaded when it is {', '.join(TERMINAL[:3])}.",
            hint=f"Wait for it: hpcbatch job stream --name {name}", found=status.word, allowed=", ".join(TERMINAL),
        )  # fmt: skip
    base = Path(os.path.abspath(os.path.expanduser(download_path)))
    copied = [copy_out(source, base / "named-outputs" / OUTPUT / relative) for source, relative in _outputs(job)]
    if all:
        logs = [(job.paths.slurm / n, Path("artifacts") / "logs" / n) for n in _log_names(job.paths.slurm)]
        copied += [copy_out(source, base / relative) for source, relative in logs]
    done = 0 if status.word == "Completed" else _succeeded(progress_of(job))
    result = {"name": name, "status": status.word, "download_path": str(base), "files": copied}
    return result | unpublished(job, status, done)


def _succeeded(progress: dict[str, Any]) -> int:
    return int(progress["mini_batches_done"] or 0) - int(progress["mini_batches_failed"] or 0)


def _log_names(folder: Path) -> list[str]:
    return [name for name in scan.names(folder) if name.endswith(".out")]


def _outputs(job: JobDir) -> Iterator[tuple[Path, Path]]:
    verdict = job.verdict() or {}
    if "output" in verdict:
        path = Path(verdict["output"]["path"])
        yield path, Path(path.name)
    elif job.record.remote_output is not None and job.record.scoring.output_file_name in scan.names(job.paths.out):
        name = job.record.scoring.output_file_name  # published here, and not sent yet
        yield job.paths.out / name, Path(name)
    written = job.document(job.paths.out / FILES)
    if written is not None:
        for name, _ in written["files"]:
            native = os.fsdecode(name.encode("latin-1"))
            yield Path(written["folder"]) / native, Path(native)
        return
    for folder, below, names in os.walk(job.paths.score):
        below[:] = [name for name in below if not publish.is_temp(name)]
        for name in sorted(names):
            yield Path(folder) / name, (Path(folder) / name).relative_to(job.paths.score)


def of_mini_batch(lines: Iterable[str], mini_batch: int) -> Iterator[str]:
    """Those of a log's *lines* that one mini-batch printed, and the reports of its failed tries."""
    report = ""  # the time at which one is written: all its lines have it
    for line in lines:
        stamp, text = (line[:23], line[24:]) if line.startswith("-- ") else ("", "")
        if text.startswith(f"mini-batch {mini_batch} failed"):
            report = stamp
        elif stamp != report or _NEXT_NOTE.match(text):
            report = report if not stamp else ""
        if (stamp and report) or line.startswith((f"[mb {mini_batch}] ", f"[mb {mini_batch}!] ")):
            yield line


class _Logs:
    """Follows the logs of array tasks and merges."""

    def __init__(self, job: JobDir) -> None:
        self._folder = job.paths.slurm
        self._merges = {"merge.out"} | {
            f"{slurm_job_id}_0_log.out" for name, slurm_job_id in recorded_ids(job).items() if "/merge" in name
        }
        self._files = Follower()

    def lines(self) -> Iterator[str]:
        """Whole lines that are new since the last call, each file's under its name."""
        for name in sorted(_log_names(self._folder), key=lambda name: name in self._merges):
            yield from self._files.lines(self._folder / name, name)


def _all_jobs(ws: Workspace) -> Iterator[JobDir | PipelineDir]:
    for user in scan.names(ws.jobs):
        with suppress(PermissionError):
            for name in scan.names(ws.jobs / user):
                folder = ws.jobs / user / name
                with suppress(NotFound):
                    try:
                        yield open_pipeline(folder) if is_pipeline(folder) else jobdir.open_job(folder)
                    except (FileDamaged, SpecError) as error:  # one trap among the jobs must not hide all others
                        _log.warning("Passing over %s: %s", folder, str(error).splitlines()[0])


def _require_own(root: Path) -> None:
    """Raises Conflict for a job of somebody else: to continue it would be to run their files as this user."""
    owner = os.stat(root).st_uid
    if owner != os.geteuid():
        raise Conflict(
            f"The job in {str(root)!r} is not yours; it belongs to user {owner}.",
            hint="Ask its owner to do it, or invoke the endpoint yourself: hpcbatch batch-endpoint invoke --help",
        )
