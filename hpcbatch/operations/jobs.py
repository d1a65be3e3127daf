"""Show, list, follow, download, cancel and continue jobs, from their files alone and one look at the queue."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.own import replace_private
from hpcbatch.jobdir import jobdir, repair
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.layout import MERGE_ID
from hpcbatch.operations.invoke import submit
from hpcbatch.operations.progress import Progress, ProgressReader
from hpcbatch.operations.status import TERMINAL, OneLook, describe, progress_of, status_of
from hpcbatch.operations.workspace import Workspace
from hpcbatch.planning.plan import cut, group_count
from hpcbatch.records.plan import pack_plan
from hpcbatch.rounds import local
from hpcbatch.rounds.submission import recorded_ids

OUTPUT = "score"
_EXIT_CODES = {"Completed": 0, "NotResponding": 8, "NotStarted": 8}


def exit_code(job: dict[str, Any]) -> int:
    """The exit code for a job's state: 0 Completed, 5 Failed or Canceled, 8 stopped half-way."""
    return _EXIT_CODES.get(job["status"], 5)


def find_job(ws: Workspace, name: str) -> JobDir:
    """The job *name* of anybody whose jobs may be read. Raises NotFound."""
    for user in sorted(scan.names(ws.jobs)):
        with suppress(PermissionError):
            if name in scan.names(ws.jobs / user):
                return jobdir.open_job(ws.jobs / user / name)
    raise NotFound(
        f"There is no job named {name!r} in {str(ws.root)!r}.", hint="List the jobs: hpcbatch job list", name=name
    )


def show_job(ws: Workspace, name: str) -> dict[str, Any]:
    """One job with its progress and its first failures."""
    job = find_job(ws, name)
    return describe(job) | {"progress": progress_of(job)}


def list_jobs(
    ws: Workspace,
    *,
    max_results: int = 50,
    all_results: bool = False,
    endpoint: str | None = None,
    deployment: str | None = None,
) -> list[dict[str, Any]]:
    """The newest jobs first, those of *endpoint* and *deployment* if named."""
    found: list[dict[str, Any]] = []
    queue = OneLook()
    jobs = sorted(_all_jobs(ws), key=lambda job: (job.record.created, job.record.name), reverse=True)
    for job in jobs:
        if endpoint in (None, job.record.endpoint) and deployment in (None, job.record.deployment):
            found.append(describe(job, status_of(job, queue)))
            if len(found) >= max_results and not all_results:
                break
    return found


def cancel_job(ws: Workspace, name: str) -> dict[str, Any]:
    """Ask for the end of a job; one that has ended is left as it is. The Slurm jobs are found by their name."""
    job = find_job(ws, name)
    if job.verdict() is None:
        jobdir.publish_document(job.paths.canceled, {"by": _user(), "at": time.time()})
        if job.record.compute.kind == "local":
            pid = local.supervisor(job)
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)  # its workers hold a lifeline to it and end too
        else:
            from hpcbatch.scheduler import slurm_commands

            ids = sorted({e.array_job_id for e in slurm_commands.queue(job.record.slurm_name)})
            if ids:
                slurm_commands.call(["scancel", "--quiet", *ids])
    return describe(job)


def resume_job(ws: Workspace, name: str) -> dict[str, Any]:
    """Continue a job that stopped half-way: finish its submission, or run what is missing in a new round.

    Does nothing to a job that is running or Completed. Raises Conflict for one that was canceled or whose every
    mini-batch has a result that the verdict did not accept.
    """
    job = find_job(ws, name)
    status = status_of(job)
    if status.word in ("Completed", "Running", "Queued", "Finalizing", "Preparing"):
        return describe(job)
    again = "Invoke the endpoint again."
    if job.canceled():
        raise Conflict(f"Job {name!r} was canceled.", hint=again)
    if status.word != "NotStarted" and (status.word == "Failed" or job.record.compute.kind != "local"):
        coverage = read_coverage(job)
        if status.word == "Failed" and coverage.complete:
            raise Conflict(f"Job {name!r} failed, and has a result for every mini-batch: {status.detail}", hint=again)
        missing = coverage.missing()
        count = sum(stop - start for start, stop in missing)
        number = job.rounds()[-1] + 1
        groups = group_count(count, at_once=job.record.compute.throttle) if count else 0
        repair.plan_repair(job, number, pack_plan(number, cut(missing, groups)), repair.crashed_starts(job))
    submit(job, job.rounds()[-1])
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
    job = find_job(ws, name)
    emit(f"RunId: {job.record.name}")
    emit(f"Web View: file://{job.root}")
    follower = _Logs(job)

    def follow(_: Progress) -> None:
        for line in follower.lines():
            emit(line)

    found = wait_job(ws, name, on_progress=follow, poll_s=poll_s)
    for line in follower.lines():
        emit(line)
    return found


def job_log(ws: Workspace, name: str) -> list[str]:
    """The lines that array tasks and merges of the job have logged until now, each file's under its name."""
    follower, found = _Logs(find_job(ws, name)), list[str]()
    while lines := list(follower.lines()):
        found += lines
    return found


def download_job(
    ws: Workspace, name: str, *, download_path: str = ".", output_name: str | None = None, all: bool = False
) -> dict[str, Any]:
    """Copy the outputs of a finished job to `<download_path>/named-outputs/score/`, with *all* its logs to
    `artifacts/`.
    """
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
    copied = [_copy(source, base / "named-outputs" / OUTPUT / relative) for source, relative in _outputs(job)]
    if all:
        logs = [(job.paths.slurm / n, Path("artifacts") / "logs" / n) for n in _log_names(job.paths.slurm)]
        copied += [_copy(source, base / relative) for source, relative in logs]
    return {"name": name, "status": status.word, "download_path": str(base), "files": copied}


def _log_names(folder: Path) -> list[str]:
    return [name for name in scan.names(folder) if name.endswith(".out")]


def _outputs(job: JobDir) -> Iterator[tuple[Path, Path]]:
    verdict = job.verdict() or {}
    if "output" in verdict:
        path = Path(verdict["output"]["path"])
        yield path, Path(path.name)
    for folder, _, names in os.walk(job.paths.score):
        for name in sorted(names):
            yield Path(folder) / name, (Path(folder) / name).relative_to(job.paths.score)


def _copy(source: Path, target: Path) -> str:
    publish.make_directory(target.parent, 0o755)
    with publish.explained(target), publish.staged(target.parent, 0o644) as (temp, file):
        with open(source, "rb") as origin:
            shutil.copyfileobj(origin, file, 1 << 20)
        replace_private(temp, target)
    return str(target)


class _Logs:
    """Follows the logs of array tasks and merges."""

    def __init__(self, job: JobDir) -> None:
        self._folder = job.paths.slurm
        self._merges = {"merge.out"} | {
            f"{slurm_job_id}_0_log.out" for name, slurm_job_id in recorded_ids(job).items() if name.endswith(MERGE_ID)
        }
        self._at: dict[str, int] = {}
        self._last = ""

    def lines(self) -> Iterator[str]:
        """Whole lines that are new since the last call, each file's under its name."""
        for name in sorted(_log_names(self._folder), key=lambda name: name in self._merges):
            with open(self._folder / name, "rb") as file:
                file.seek(self._at.get(name, 0))
                data = file.read(1 << 22)
            whole = data.rfind(b"\n") + 1
            if not whole:
                continue
            self._at[name] = self._at.get(name, 0) + whole
            if name != self._last:
                self._last = name
                yield f"\nStreaming {name}\n{'=' * (10 + len(name))}\n"
            yield from data[:whole].decode("utf-8", "replace").splitlines()


def _all_jobs(ws: Workspace) -> Iterator[JobDir]:
    for user in scan.names(ws.jobs):
        with suppress(PermissionError):
            for name in scan.names(ws.jobs / user):
                with suppress(NotFound):
                    yield jobdir.open_job(ws.jobs / user / name)


def _user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name
