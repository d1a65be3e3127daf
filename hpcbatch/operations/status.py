"""A job's state, derived each time: its verdict, its ledgers, then one look at the queue. Never stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import probe, scan
from hpcbatch.jobdir.coverage import Coverage, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds import local
from hpcbatch.rounds.submission import recorded_ids
from hpcbatch.scheduler.base import Entry, State

# Azure ML's words; scripts compare `Completed` and `Failed` exactly.
TERMINAL = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")
_NEARLY_FULL_BYTES = 1 << 20


@dataclass(frozen=True)
class Status:
    """An Azure ML status word and, where it needs one, a sentence that explains it."""

    word: str
    detail: str = ""
    slurm: tuple[Entry, ...] = ()


Queue = Callable[[str], list[Entry]]


class OneLook:
    """The user's whole queue, asked for at most once: for lists of jobs."""

    def __init__(self) -> None:
        self._entries: list[Entry] | None = None

    def __call__(self, prefix: str) -> list[Entry]:
        """The entries whose name begins with *prefix*. Raises SchedulerError."""
        if self._entries is None:
            self._entries = _ask_slurm("hb-")
        return [entry for entry in self._entries if entry.name.startswith(prefix)]


def _ask_slurm(prefix: str) -> list[Entry]:
    from hpcbatch.scheduler import slurm_commands

    return slurm_commands.queue(prefix)


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
        "inputs": {"input": {"path": record.input_path, "type": record.input_type}},
        "outputs": {"score": {"path": record.output_folder, "type": "uri_folder"}},
        "job_directory": str(job.root),
        "items": record.items,
        "mini_batches": record.mini_batches,
        "groups": record.groups,
        "slurm_jobs": [
            {"id": e.slurm_job_id, "name": e.name, "state": e.state.value, "reason": e.reason} for e in status.slurm
        ],
        "warnings": list(record.warnings),
    }


def progress_of(job: JobDir, coverage: Coverage | None = None) -> dict[str, Any]:
    """Counts from the verdict, or from the ledgers while there is none, with the first failures."""
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
        )
        return {key: verdict.get(key) for key in keys} | {"output": verdict.get("output")}
    found = coverage or read_coverage(job)
    done = found.items_done(job.record.scoring.mini_batch_size, job.record.items)
    return {
        "items_succeeded": done - found.items_failed,
        "items_failed": found.items_failed,
        "mini_batches_done": found.done,
        "mini_batches_failed": found.states.count(1),
        "attempts": found.attempts,
        "rows": found.rows,
        "failures": found.reports(),
    }


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
    return _stalled(job)


def _slurm(job: JobDir, queue: Queue) -> Status:
    try:
        entries = tuple(queue(job.record.slurm_name))
    except SchedulerError as error:
        return Status("Running", f"Slurm does not answer, so this is a guess from the job's files. {error.message}")
    live = [e for e in entries if e.state is not State.ENDED]
    if not live:
        return _not_in_queue(job)
    if job.canceled():
        return Status("CancelRequested", slurm=entries)
    return _live(live, entries)


def _live(live: list[Entry], entries: tuple[Entry, ...]) -> Status:
    workers = [e for e in live if not e.name.endswith(".m")]
    running = [e for e in workers if e.state in (State.RUNNING, State.COMPLETING)]
    held = [e for e in workers or live if e.state is State.HELD]
    how = f"Held ({held[0].reason}). Let it run: scontrol release {_to_release(held)}" if held else ""
    if running:
        return Status("Running", f"{len(running)} array tasks are running. {how}".rstrip(), entries)
    if workers:
        return Status("Queued", how or f"Waiting in the queue ({workers[0].reason}).", entries)
    return Status("Finalizing", how or "The merge is running or waiting to.", entries)


def _to_release(held: list[Entry]) -> str:
    """What to name to scontrol: the tasks, because of an array with ended tasks it complains; the array if many."""
    names = [e.slurm_job_id for e in held if e.array_job_id == held[0].array_job_id]
    return " ".join(names) if len(names) <= 5 and "[" not in "".join(names) else held[0].array_job_id


def _not_in_queue(job: JobDir) -> Status:
    from hpcbatch.scheduler import slurm_commands

    if job.canceled():
        return Status("Canceled", "The job was canceled.")
    ids = sorted(set(recorded_ids(job).values()))
    if not ids:
        return Status("NotStarted", f"It was never submitted. Submit it: hpcbatch job resume --name {job.record.name}")
    states = slurm_commands.history(ids, job.record.created)
    said = ", ".join(f"{count} x {state}" for state, count in Counter(states.values()).most_common())
    found = _stalled(job)
    return Status(found.word, f"{found.detail} Accounting says: {said}." if said else found.detail)


def _stalled(job: JobDir) -> Status:
    text = f"Stalled: nothing runs, and it has no verdict. Continue it: hpcbatch job resume --name {job.record.name}"
    if probe.free_bytes(job.root) < _NEARLY_FULL_BYTES:
        again = f"hpcbatch job resume --name {job.record.name}"
        text = f"Stalled: the filesystem of {str(job.root)!r} is full. Free some space, then: {again}"
    return Status("NotResponding", text)
