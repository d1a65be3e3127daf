"""What an invocation would do: everything `invoke` decides, and nothing of what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, SchedulerError
from hpcbatch.fs import scan
from hpcbatch.ids import new_job_name, sha256
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.jobdir.layout import Layout
from hpcbatch.operations.invoke import InvokeRequest, checked_name, draft_of
from hpcbatch.operations.workspace import Workspace, user_jobs
from hpcbatch.records.plan import parse_manifest
from hpcbatch.scheduler.base import Request

_MAX_SHOWN = 3
_SEALED = 12  # the job directory, seven folders in it, job.json, the manifest, and the first round with its plan
_AT_END = 6  # a merge plan, the output and its verdict, a supervisor's or submitter's notes
_OF_A_GROUP = 3  # a folder, a segment and a ledger


def dry_run(ws: Workspace, request: InvokeRequest) -> dict[str, Any]:
    """What `invoke(ws, request)` would make and submit. Nothing is written and nothing is submitted.

    On Slurm that is one call to ask how long an array may be, and one `sbatch --test-only` for each distinct script.
    Raises what `invoke` raises.
    """
    folder = user_jobs(ws) / checked_name(request.job_name or new_job_name())
    if folder.name in scan.names(folder.parent):
        raise Conflict(
            f"A job named {folder.name!r} exists.", hint="Choose another --job-name, or leave it out.", name=folder.name
        )
    draft, place = draft_of(ws, request, folder)
    record = draft.record
    found: dict[str, Any] = {
        "dry_run": True,
        "endpoint": record.endpoint,
        "deployment": record.deployment,
        "compute": record.compute.name,
        "items": record.items,
        "first_items": _first_items(draft),
        "mini_batches": record.mini_batches,
        "mini_batch_size": record.scoring.mini_batch_size,
        "groups": record.groups,
        "at_once": min(record.groups, record.compute.throttle),
        "output": _output(draft, place.folder),
        "warnings": list(record.warnings),
    }
    windows = _slurm(draft, folder, found) if record.compute.kind == "slurm" else 0
    return found | {"inodes": _inodes(draft, windows)}


def _first_items(draft: Draft) -> list[str]:
    return parse_manifest(draft.manifest).paths(0)[:_MAX_SHOWN]


def _output(draft: Draft, folder: Path) -> str:
    part, name = draft.record.remote_output, draft.record.scoring.output_file_name
    return f"{part.protocol}://{part.root}{name}" if part is not None else str(folder / name)


def _slurm(draft: Draft, folder: Path, found: dict[str, Any]) -> int:
    """Add what Slurm would be asked for, and what it says to that; the number of arrays."""
    from hpcbatch.rounds.submission import preemptible_partition, preemption_of, requests_of
    from hpcbatch.scheduler.slurm import SlurmScheduler, rendered  # submitit, only where Slurm is used

    record = draft.record
    job = JobDir(Layout(folder), record, sha256(record.to_bytes()))
    scheduler = SlurmScheduler()
    limit = scheduler.array_limit() if record.groups > 1 else 1
    requests = requests_of(job, record.groups, limit, preemption_of(job, scheduler))
    arrays = [request for request in requests if request.count is not None]
    found["windows"] = [
        {"name": request.name, "array_tasks": request.count, "at_once": request.throttle} for request in arrays
    ]
    asked = bool(preemptible_partition(job))
    found["slurm_calls"] = {"sbatch": len(requests), "scontrol": int(record.groups > 1 or asked) + asked}
    distinct = [arrays[0], requests[-1]]  # further arrays differ in their first group alone
    found["scripts"] = [{"name": request.name, "text": rendered(request)} for request in distinct]
    found["test_only"] = [rehearsal(request) for request in distinct]
    return len(arrays)


def rehearsal(request: Request) -> dict[str, Any]:
    """What Slurm says to *request*, which is not submitted. Raises SchedulerError where there is no Slurm."""
    from hpcbatch.scheduler.slurm import rehearsed

    try:
        accepted, said = rehearsed(request)
    except SchedulerError as error:
        if error.fields.get("no_cluster"):  # which is no answer about this request
            raise
        accepted, said = False, error.message
    return {"name": request.name, "accepted": accepted, "said": said}


def _inodes(draft: Draft, windows: int) -> int:
    """How many files and folders the job will have, if nothing has to run twice; their number goes with the groups and
    not with the mini-batches.
    """
    groups = draft.record.groups
    logs = groups + 1
    submission = 3 * windows + 3 if windows else 0  # a note, a script and a log of submitit's for each sbatch
    return _SEALED + (draft.code is not None) + _AT_END + submission + -(-groups // 1000) + _OF_A_GROUP * groups + logs
