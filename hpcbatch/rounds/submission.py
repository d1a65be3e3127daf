"""Submit one round of a job so that it runs once, whatever is killed or times out in between.

INTENT is written, then held arrays are submitted under a name that only this round has, then the merge that waits for
them; what exists is checked by name, and only then are the arrays released. A crash anywhere leaves held jobs, and
calling this again goes on from the files. An sbatch that times out may have been accepted: the name decides.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.planning.plan import windows
from hpcbatch.scheduler.base import Entry, Request, Scheduler, State

DOUBT_S = 12.0  # how long a submission that may have been accepted is looked for
SUBMIT_TRIES = 2


@dataclass(frozen=True)
class RoundIds:
    """The Slurm job ids of a round."""

    arrays: tuple[str, ...]
    merge: str


def submit_round(job: JobDir, round_number: int, scheduler: Scheduler | None = None) -> RoundIds:
    """Submit round *round_number*, or finish submitting it. On return its arrays may run and its merge waits for
    them.
    """
    if scheduler is None:
        from hpcbatch.scheduler.slurm import SlurmScheduler  # submitit is imported here alone

        scheduler = SlurmScheduler()
    folder = job.paths.round(round_number)
    resumed = not jobdir.publish_document(folder / layout.INTENT, {"began": time.time()})
    groups = job.plan(round_number).groups
    limit = int(job.record.compute.slurm.get("max_array_tasks") or 0) or sys.maxsize
    if groups > 1:
        limit = min(limit, scheduler.array_limit())
    seen = scheduler.queue(round_name(job, round_number)) if resumed else []
    arrays: list[str] = []
    for number, (start, stop) in enumerate(windows(groups, limit)):
        request = _array(job, round_number, number, start, stop, after=arrays[-1:])
        arrays.append(_once(scheduler, request, folder / f"array-{number}.json", seen))
    merge = _once(scheduler, _merge(job, round_number, arrays), folder / layout.MERGE_ID, seen)
    queued = scheduler.queue(round_name(job, round_number))
    _cancel_strangers(scheduler, queued, {*arrays, merge})
    if held := sorted({e.array_job_id for e in queued if e.state is State.HELD and e.array_job_id in arrays}):
        scheduler.release(held)
    return RoundIds(tuple(arrays), merge)


def round_name(job: JobDir, round_number: int) -> str:
    """What the Slurm job names of a round begin with."""
    return f"{job.record.slurm_name}.r{round_number}."


def recorded_ids(job: JobDir) -> dict[str, str]:
    """Slurm job ids that the job's files name: file name below rounds/ to id."""
    found = {}
    for number in job.rounds():
        for name in scan.names(job.paths.round(number)):
            if name.startswith("array-") or name == layout.MERGE_ID:
                document = job.document(job.paths.round(number) / name) or {}
                found[f"r{number}/{name}"] = str(document.get("slurm_job_id", ""))
    return found


def _once(scheduler: Scheduler, request: Request, note: Path, seen: list[Entry]) -> str:
    """The id of the one submission under *request*'s name: noted, found in the queue, or made now."""
    if note.name in scan.names(note.parent):
        return str(json.loads(scan.read_document(note))["slurm_job_id"])
    found = _named(seen, request.name) or _submit(scheduler, request)
    jobdir.publish_document(note, {"slurm_job_id": found, "name": request.name})
    return found


def _submit(scheduler: Scheduler, request: Request) -> str:
    """Submit; when in doubt look for the name before trying once more."""
    for attempt in range(SUBMIT_TRIES):
        try:
            return scheduler.submit(request)
        except SchedulerError as error:
            if not error.fields.get("transient"):
                raise
            found = _look_for(scheduler, request.name)
            if found:
                return found
            if attempt + 1 == SUBMIT_TRIES:
                raise
    raise AssertionError("unreachable")  # pragma: no cover


def _look_for(scheduler: Scheduler, name: str) -> str:
    end = time.monotonic() + DOUBT_S
    while True:
        try:
            if found := _named(scheduler.queue(name), name):
                return found
        except SchedulerError:  # the controller is what is slow; asked again until the time is over
            pass
        if time.monotonic() > end:
            return ""
        time.sleep(1.0)


def _named(entries: list[Entry], name: str) -> str:
    """The oldest job of that very name; "" if there is none."""
    ids = sorted({int(e.array_job_id) for e in entries if e.name == name and e.array_job_id.isdigit()})
    return str(ids[0]) if ids else ""


def _cancel_strangers(scheduler: Scheduler, queued: list[Entry], ours: set[str]) -> None:
    """End late duplicates: the round's name with an id that the round did not choose, still held."""
    strangers = sorted({e.array_job_id for e in queued if e.array_job_id not in ours and e.state is State.HELD})
    if strangers:
        scheduler.cancel(strangers)


def _array(job: JobDir, round_number: int, number: int, start: int, stop: int, *, after: list[str]) -> Request:
    compute = job.record.compute
    slurm: dict[str, Any] = dict(compute.slurm)
    if compute.tier == "low_priority" and slurm.get("low_priority_partition"):
        slurm["partition"] = slurm["low_priority_partition"]
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", str(job.root), job.sha256, str(round_number), str(start)]
    return Request(
        name=f"{round_name(job, round_number)}w{number}", command=command, folder=job.paths.slurm, slurm=slurm,
        count=stop - start, throttle=compute.throttle, after=after, hold=True,
    )  # fmt: skip


def _merge(job: JobDir, round_number: int, arrays: list[str]) -> Request:
    slurm = dict(job.record.compute.slurm)
    keep = {key: slurm[key] for key in ("account", "setup", "reservation") if slurm.get(key) is not None}
    if job.record.compute.tier != "low_priority" or slurm.get("low_priority_partition"):
        keep |= {key: slurm[key] for key in ("partition", "qos") if slurm.get(key) is not None}
    return Request(
        name=f"{round_name(job, round_number)}m",
        command=[sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256],
        folder=job.paths.slurm, slurm=keep | dict(slurm.get("merge") or {}), after=arrays, srun=False,
    )  # fmt: skip
