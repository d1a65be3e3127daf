"""A job's state, derived each time: its verdict, its ledgers, then one look at the queue. Never stored."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Protocol

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir.coverage import Coverage, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import lessons_of
from hpcbatch.operations import slurm_state
from hpcbatch.records.job import JobRecord
from hpcbatch.rounds import local
from hpcbatch.scheduler.base import Entry, State
from hpcbatch.words import mini_batches

# Azure ML's words; scripts compare `Completed` and `Failed` exactly.
TERMINAL = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")


@dataclass(frozen=True)
class Status:
    """An Azure ML status word and, where it needs one, a sentence that explains it."""

    word: str
    detail: str = ""
    slurm: tuple[Entry, ...] = ()


class Queue(Protocol):
    """Answers what is in the queue of *user*, by default the caller, under names that begin with *prefix*."""

    def __call__(self, prefix: str, user: str = "") -> list[Entry]:
        """Raises SchedulerError."""


class OneLook:
    """Each user's whole queue, asked for at most once: for lists of jobs."""

    def __init__(self) -> None:
        self._entries: dict[str, list[Entry]] = {}

    def __call__(self, prefix: str, user: str = "") -> list[Entry]:
        """The entries whose name begins with *prefix*. Raises SchedulerError."""
        if user not in self._entries:
            self._entries[user] = _ask_slurm("hb-", user)
        return [entry for entry in self._entries[user] if entry.name.startswith(prefix)]


def _ask_slurm(prefix: str, user: str = "") -> list[Entry]:
    from hpcbatch.scheduler import slurm_commands

    return slurm_commands.queue(prefix, user)


def status_of(job: JobDir, queue: Queue = _ask_slurm) -> Status:
    """The state of *job*: its files, then the queue, then, for a job that left it without a verdict, accounting.

    A job that is in no queue and has no verdict is NotResponding; it never counts as done.
    """
    ended = _ended(job)
    if ended is not None:
        return ended
    found = _local(job) if job.record.compute.kind == "local" else _slurm(job, queue)
    if found.word in ("NotResponding", "NotStarted", "Canceled"):
        return _ended(job) or found  # it may have ended between the two looks
    return found


def describe(job: JobDir, status: Status | None = None) -> dict[str, Any]:
    """What `job show` says: Azure ML's keys, then ours. A *status* that the caller knows saves the look at the
    queue.
    """
    status = status or status_of(job)
    record = job.record
    return {
        "id": str(job.root),
        "name": record.name,
        "display_name": record.name,
        "type": "pipeline",
        "status": status.word,
        "detail": status.detail,
        "experiment_name": record.experiment_name,
        "endpoint": record.endpoint,
        "deployment": record.deployment,
        "creation_context": {"created_at": record.created, "created_by": record.user},
        "compute": record.compute.name,
        "environment": {
            "name": record.scoring.environment_name,
            "python": record.scoring.python,
            "origin": record.scoring.environment_origin,
        },
        "inputs": {"input": {"path": record.input_path, "type": record.input_type}},
        "outputs": {"score": {"path": _output_path(record), "type": "uri_folder"}},
        **_tracked(job),
        "job_directory": str(job.root),
        "items": record.items,
        "mini_batches": record.mini_batches,
        "groups": record.groups,
        "slurm_jobs": [
            {"id": e.slurm_job_id, "name": e.name, "state": e.state.value, "reason": e.reason} for e in status.slurm
        ],
        "warnings": list(record.warnings),
    }


def _output_path(record: JobRecord) -> str:
    part = record.remote_output
    return f"{part.protocol}://{part.root}" if part is not None else record.output_folder


def _tracked(job: JobDir) -> dict[str, Any]:
    """The MLflow run of the job, where a scoring script logged anything."""
    if not scan.names(job.root / "mlruns"):
        return {}
    return {"mlflow": {"run_id": job.record.uuid, "tracking_uri": (job.root / "mlruns").as_uri()}}


def progress_of(job: JobDir, coverage: Coverage | None = None, *, over: bool = False) -> dict[str, Any]:
    """Counts from the verdict, or from the ledgers while there is none, with the first failures. When it is *over*
    without a verdict nothing runs any more, and what was begun is lost.
    """
    verdict = job.verdict()
    if verdict is not None:
        keys = (
            "items_succeeded",
            "items_failed",
            "mini_batches_done",
            "mini_batches_failed",
            "attempts",
            "rows",
            "failures",
            "failures_by_cause",
            "run_s",
            "elapsed_s",
            "accounting",
            "story",
        )
        files = {"files": verdict["files"]} if "files" in verdict else {}
        return {key: verdict.get(key) for key in keys} | {"output": verdict.get("output")} | files
    found = coverage or read_coverage(job)
    done = found.items_done(job)
    return {
        "items_succeeded": done - found.items_failed,
        "items_failed": found.items_failed,
        "mini_batches_done": found.done,
        "mini_batches_failed": found.states.count(1),
        "attempts": found.attempts,
        "rows": found.rows,
        "failures": found.reports(),
        "failures_by_cause": found.failures_by_cause(),
        "run_s": round(found.run_ms / 1000, 3),
        "accounting": asdict(found.accounting(over=over)),
        "story": list(lessons_of(job, job.rounds()[-1]).story),
    }


def unpublished(job: JobDir, status: Status, done: int) -> dict[str, str]:
    """Where the results of *done* mini-batches are that a job which has ended did not publish, in words; {} if none."""
    if status.word not in ("Failed", "Canceled", "NotResponding") or not done or "output" in (job.verdict() or {}):
        return {}
    said = (
        f"No output and no files were published: only a Completed job does that. What {mini_batches(done)} gave, rows "
        f"and files of AZUREML_BI_OUTPUT_PATH, is in {str(job.paths.groups)!r}, as records of hpcbatch."
    )
    if scan.names(job.paths.score):
        said += f" What scripts wrote into the shared folder is in {str(job.paths.score)!r}, as they left it."
    return {"unpublished": said}


def _ended(job: JobDir) -> Status | None:
    verdict = job.verdict()
    if verdict is None:
        return None
    return Status(
        "Completed" if verdict["completed"] else str(verdict.get("status", "Failed")), str(verdict.get("reason", ""))
    )


def _local(job: JobDir) -> Status:
    if local.supervisor(job):
        if job.canceled():
            return Status("CancelRequested")
        return Status("Running" if scan.names(job.paths.groups) else "Preparing")
    if job.canceled():
        return Status("Canceled", "The job was canceled.")
    if not any(name.startswith("local-") for name in scan.names(job.paths.rounds)):
        return Status("NotStarted", f"It was never started. Start it: hpcbatch job resume --name {job.record.name}")
    return Status(*slurm_state.stalled_here(job))


def _slurm(job: JobDir, queue: Queue) -> Status:
    merges = slurm_state.merge_ids(job)
    try:
        entries = tuple(queue(job.record.slurm_name, slurm_state.owner(job.root)))
    except SchedulerError as error:
        word, then = ("CancelRequested", f" {slurm_state.canceling(job)}") if job.canceled() else ("Running", "")
        return Status(word, f"Slurm does not answer, so this is a guess from the job's files. {error.message}{then}")
    live = [e for e in entries if e.state is not State.ENDED]
    if not live:
        return Status(*slurm_state.not_in_queue(job))
    if job.canceled():
        return Status("CancelRequested", slurm_state.canceling(job), slurm=entries)
    return Status(*slurm_state.in_queue(job, live, merges), slurm=entries)
