"""Submit one round of a job so that it runs once, whatever is killed or times out in between.

INTENT is written, then the arrays are submitted under names that only this round has, then the merge that waits for
them, and each id is noted. An sbatch that times out may have been accepted: the name decides. Calling this again goes
on from the notes and, for what has none, from the queue. A second try after a doubtful one is submitted held, so that
the later of two can be ended before it runs.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.planning.plan import windows
from hpcbatch.scheduler.base import Entry, Request, Scheduler, State

_Answer = TypeVar("_Answer")
DOUBT_S = 12.0  # how long a submission that may have been accepted is looked for


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
        limit = min(limit, _patiently(scheduler.array_limit))
    seen = _patiently(lambda: scheduler.queue(round_name(job, round_number))) if resumed else []
    submission = _Submission(scheduler, seen)
    arrays: list[str] = []
    for number, (start, stop) in enumerate(windows(groups, limit)):
        request = _array(job, round_number, number, start, stop, after=arrays[-1:])
        arrays.append(submission.once(request, folder / layout.array_name(start)))
    return RoundIds(tuple(arrays), submission.once(_merge(job, round_number, arrays), folder / layout.MERGE_ID))


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


def cancelled_by_hand(job: JobDir, round_number: int) -> bool:
    """Whether all that was left of the round's arrays was cancelled (`scancel ARRAY`), not just one of its tasks.

    False where Slurm cannot say: a round too many is the smaller harm.
    """
    from hpcbatch.scheduler import slurm_commands

    try:
        states = slurm_commands.final_states(f"{round_name(job, round_number)}w")
    except SchedulerError:
        return False
    left = [state for state in states if state != "COMPLETED"]
    return set(left) == {"CANCELLED"} and (len(left) > 1 or len(left) == len(states))


class _Submission:
    """Submits what has no note yet and is not in the queue as it was *seen*."""

    def __init__(self, scheduler: Scheduler, seen: list[Entry]) -> None:
        self._scheduler = scheduler
        self._seen = seen

    def once(self, request: Request, note: Path) -> str:
        """The id of the one submission under *request*'s name: noted, found in the queue, or made now."""
        if note.name in scan.names(note.parent):
            return _noted(note)
        mine = _of_name(request.name, self._seen)
        found, mine = (_oldest(mine), mine) if mine else self._submit(request)
        jobdir.publish_document(note, {"slurm_job_id": found, "name": request.name})
        # Whoever submitted the same round at the same time goes by the note too, so all of them keep the same one.
        kept = _noted(note)
        if others := sorted({found, *(e.array_job_id for e in mine)} - {kept}):
            self._scheduler.cancel(others)
        if any(e.array_job_id == kept and e.state is State.HELD for e in mine):
            self._scheduler.release([kept])
        return kept

    def _submit(self, request: Request) -> tuple[str, list[Entry]]:
        """Submit; when in doubt look for the name, and only then try once more, held. What the queue showed of it, if
        it was asked.
        """
        try:
            return self._scheduler.submit(request), []
        except SchedulerError as error:
            if not error.fields.get("transient"):
                raise
        if mine := self._look_for(request.name):
            return _oldest(mine), mine
        self._scheduler.submit(replace(request, hold=True))
        if mine := _of_name(request.name, self._scheduler.queue(request.name)):
            return _oldest(mine), mine
        raise SchedulerError(
            f"Slurm accepted {request.name} and does not know it any more.",
            hint="Run the same command again.",
            transient=True,
        )

    def _look_for(self, name: str) -> list[Entry]:
        end = time.monotonic() + DOUBT_S
        while True:
            try:
                if found := _of_name(name, self._scheduler.queue(name)):
                    return found
            except SchedulerError:  # the controller is what is slow; asked again until the time is over
                pass
            if time.monotonic() > end:
                return []
            time.sleep(1.0)


def _patiently(ask: Callable[[], _Answer]) -> _Answer:
    """The answer of a query, asked again for a while where the controller is what is slow."""
    end = time.monotonic() + DOUBT_S
    while True:
        try:
            return ask()
        except SchedulerError as error:
            if not error.fields.get("transient") or time.monotonic() > end:
                raise
        time.sleep(1.0)


def _of_name(name: str, entries: list[Entry]) -> list[Entry]:
    return [e for e in entries if e.name == name and e.array_job_id.isdigit() and e.state is not State.ENDED]


def _oldest(entries: list[Entry]) -> str:
    return str(min(int(e.array_job_id) for e in entries))


def _noted(note: Path) -> str:
    return str(json.loads(scan.read_document(note))["slurm_job_id"])


def _array(job: JobDir, round_number: int, number: int, start: int, stop: int, *, after: list[str]) -> Request:
    compute = job.record.compute
    slurm: dict[str, Any] = dict(compute.slurm)
    if compute.tier == "low_priority" and slurm.get("low_priority_partition"):
        slurm["partition"] = slurm["low_priority_partition"]
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", str(job.root), job.sha256, str(round_number), str(start)]
    return Request(
        name=f"{round_name(job, round_number)}w{number}", command=command, folder=job.paths.slurm, slurm=slurm,
        count=stop - start, throttle=compute.throttle, after=after, srun=compute.tier == "low_priority",
    )  # fmt: skip


def _merge(job: JobDir, round_number: int, arrays: list[str]) -> Request:
    slurm = dict(job.record.compute.slurm)
    keep = {key: slurm[key] for key in ("account", "setup", "reservation") if slurm.get(key) is not None}
    if job.record.compute.tier != "low_priority" or slurm.get("low_priority_partition"):
        keep |= {key: slurm[key] for key in ("partition", "qos") if slurm.get(key) is not None}
    return Request(
        name=f"{round_name(job, round_number)}m",
        command=[sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256, str(round_number)],
        folder=job.paths.slurm, slurm=keep | dict(slurm.get("merge") or {}), after=arrays, srun=False,
    )  # fmt: skip
