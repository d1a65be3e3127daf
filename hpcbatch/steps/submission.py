"""Submit one round of a pipeline job: a Slurm job for each step, siblings as one array, each after its parents.

The rules of `rounds.submission` hold: names decide, notes are kept, calling this again goes on. Where Slurm takes only
so many jobs of a user at once, the first units that it takes are submitted, the one that is too large in parts, and a
job behind them submits what was held back (ADR 0012).
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.pipeline.graph import Unit, halved, leaves, tasks_per_node, units
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.rounds.once import Submission, patiently
from hpcbatch.scheduler.base import Request, Scheduler
from hpcbatch.steps.pipelinedir import FINISH, INTENT, PipelineDir, publish_document
from hpcbatch.steps.units import held_name, members_of, note_name, partial_name, publish_units, submitted_steps

_END_NAME = re.compile(r"\.m\d*\Z", re.ASCII)


@dataclass(frozen=True)
class Submitted:
    """What Slurm took of a round: the ids of the units in order, and of the job at the end of them ("": no room)."""

    units: tuple[str, ...]
    end: str
    held_back: int = 0  # units that were not submitted yet


def submit_round(job: PipelineDir, round_number: int, scheduler: Scheduler | None = None) -> Submitted:
    """Submit round *round_number*, or go on submitting it.

    Raises SchedulerError, with `limit` if nothing at all could be submitted now because of a submit limit.
    """
    if scheduler is None:
        from hpcbatch.scheduler.slurm import SlurmScheduler  # submitit is imported here alone

        scheduler = SlurmScheduler()
    while True:
        found = _Round(job, round_number, scheduler).submitted()
        # Where the steps were faster than the note that whoever ends has to go on, nobody did.
        if found.end or not found.held_back or not job.have_results() >= set(submitted_steps(job, round_number)):
            return found


def requests_of(job: PipelineDir, limit: int) -> list[tuple[Request, list[str]]]:
    """What the first round of *job* would submit where one array has at most *limit* tasks, with the steps of each; the
    last is the job at the end. Nothing is submitted or written, and the job need not exist. `UNIT<n>` stands for an id.
    """
    planned = _cut(job.record.steps, limit)
    tasks: dict[str, str] = {}
    found = []
    for unit in planned:
        tasks |= _tasks(unit, f"UNIT{unit.number}")
        request = _request(job, 0, unit, [tasks[name] for name in unit.parents])
        found.append((request, [step.name for step in unit.steps]))
    last = [tasks[name] for name in leaves(job.record.steps)]
    return [*found, (_end(job, 0, planned, _after(last)), [])]


def is_whole(job: PipelineDir, round_number: int) -> bool:
    """Whether all of the round was submitted: the job at the end is the last that is."""
    return FINISH in scan.names(job.round(round_number))


def end_id(job: PipelineDir) -> str:
    """The Slurm job that ends the newest round, which other jobs may depend on; of a round that was submitted in part,
    the one that goes on. Empty if Slurm has none.
    """
    folder = job.round(job.rounds()[-1])
    parts = sorted((n for n in scan.names(folder) if re.fullmatch(r"finish-\d+\.json", n)), key=lambda n: int(n[7:-5]))
    for name in (FINISH, *reversed(parts)):
        if note := job.document(folder / name):
            return str(note["slurm_job_id"])
    return ""


def is_end(slurm_name: str) -> bool:
    """Whether a Slurm job of that name ends a round or a part of one, and runs no step."""
    return _END_NAME.search(slurm_name) is not None


def round_name(job: PipelineDir, round_number: int) -> str:
    """What the Slurm job names of a round begin with."""
    return f"{job.record.slurm_name}.r{round_number}."


class _Round:
    """One call of submit_round."""

    def __init__(self, job: PipelineDir, number: int, scheduler: Scheduler) -> None:
        self._job, self._number, self._scheduler = job, number, scheduler
        self._folder = job.round(number)
        resumed = not publish_document(self._folder / INTENT, {"began": time.time()})
        self._units = _units(job, number, scheduler)
        seen = patiently(lambda: scheduler.queue(round_name(job, number))) if resumed else []
        self._submission = Submission(scheduler, seen)
        # What has ended before is nothing to wait for: Slurm may have forgotten it.
        self._ended = set(job.results()) if resumed else set()
        self._tasks: dict[str, str] = {}
        self._fresh = 0
        self._refusal = SchedulerError("Slurm accepted nothing.")

    def submitted(self) -> Submitted:
        """Submit what Slurm takes."""
        ids: list[str] = []
        while len(ids) < len(self._units) and (found := self._unit(len(ids))):
            ids.append(found)
        left = len(self._units) - len(ids)
        if left and not self._fresh:
            raise self._refusal
        end = self._behind(len(ids), left)
        if not end and left:
            publish_document(self._folder / held_name(len(ids)), {})
        return Submitted(tuple(ids), end, left)

    def _unit(self, number: int) -> str:
        """The id of unit *number*; "" if a submit limit leaves no room. The first that is fresh takes the room there
        is, by halves; the rest can wait.
        """
        while True:
            unit, note = self._units[number], self._folder / note_name(number)
            is_noted = note.name in scan.names(self._folder)
            after = [self._tasks[name] for name in unit.parents if name not in self._ended]
            request = _request(self._job, self._number, unit, after, first=not self._ended)
            try:
                found = self._submission.once(request, note)
            except SchedulerError as error:
                if not error.fields.get("limit"):
                    raise
                self._refusal = error
                if len(unit.steps) == 1 or self._fresh:
                    return ""
                publish_units(self._job, self._number, [[s.name for s in u.steps] for u in halved(self._units, number)])
                self._units = _units(self._job, self._number, self._scheduler)
                continue
            self._fresh += not is_noted
            self._tasks |= _tasks(unit, found)
            return found

    def _behind(self, count: int, left: int) -> str:
        """The job behind the first *count* units, which ends the round or submits the *left* ones; "" if there is no
        room for it.
        """
        last = leaves([s for u in self._units[:count] for s in u.steps])
        after = _after([self._tasks[name] for name in last if name not in self._ended])
        request = _end(self._job, self._number, self._units, after, part=count if left else None)
        note = self._folder / (partial_name(count) if left else FINISH)
        try:
            return self._submission.once(request, note)
        except SchedulerError as error:
            if not error.fields.get("limit"):
                raise
            return ""


def _units(job: PipelineDir, round_number: int, scheduler: Scheduler) -> list[Unit]:
    """The submissions of the round, as they were cut first, or last where one was too large."""
    noted = members_of(job, round_number)
    if noted is None:
        names, ended = set(job.planned(round_number)), job.results()
        steps = [s for s in job.record.steps if s.name in names and s.name not in ended]
        limit = patiently(scheduler.array_limit) if len(steps) > 1 else 1
        publish_units(job, round_number, [[s.name for s in unit.steps] for unit in _cut(steps, limit)])
        noted = members_of(job, round_number) or []
    found = []
    names = {name for members in noted for name in members}
    for number, members in enumerate(noted):
        part = tuple(job.record.step(name) for name in members)
        found.append(Unit(number, part, tuple(n for n in part[0].dependencies if n in names)))
    return found


def _cut(steps: Sequence[PipelineStep], limit: int) -> list[Unit]:
    allowed = [int(s.compute.slurm.get("max_array_tasks") or 0) or sys.maxsize for s in steps]
    return units(steps, min([limit, *allowed]) if len(steps) > 1 else 1)


def _tasks(unit: Unit, slurm_job_id: str) -> Mapping[str, str]:
    """What the steps of a submitted unit are called by Slurm."""
    alone = len(unit.steps) == 1
    return {s.name: slurm_job_id if alone else f"{slurm_job_id}_{index}" for index, s in enumerate(unit.steps)}


def _request(job: PipelineDir, round_number: int, unit: Unit, after: Sequence[str], *, first: bool = True) -> Request:
    step = unit.steps[0]
    slurm: dict[str, Any] = dict(step.compute.slurm)
    if step.compute.tier == "low_priority" and slurm.get("low_priority_partition"):
        slurm["partition"] = slurm["low_priority_partition"]
    count = len(unit.steps)
    return Request(
        name=f"{round_name(job, round_number)}u{unit.number}",
        command=_command(job, round_number, "unit", str(unit.number)), folder=job.slurm, slurm=slurm,
        count=count if count > 1 else None, throttle=count, after=_after(after),
        srun=step.compute.tier == "low_priority", nodes=step.instance_count, tasks_per_node=tasks_per_node(step),
        travelling=job.record.travelling,
        dependency=job.record.dependency if first and not round_number and not unit.parents else "",
    )  # fmt: skip


def _end(
    job: PipelineDir, round_number: int, planned: Sequence[Unit], after: Sequence[str], *, part: int | None = None
) -> Request:
    compute = planned[-1].steps[-1].compute
    slurm = dict(compute.slurm)
    keep = {key: slurm[key] for key in ("account", "setup", "reservation") if slurm.get(key) is not None}
    if compute.tier != "low_priority" or slurm.get("low_priority_partition"):
        keep |= {key: slurm[key] for key in ("partition", "qos") if slurm.get(key) is not None}
    return Request(
        name=f"{round_name(job, round_number)}m{'' if part is None else part}",
        command=_command(job, round_number, "finish"), folder=job.slurm,
        slurm=keep | dict(slurm.get("merge") or {}), after=after, srun=False, travelling=job.record.travelling,
    )  # fmt: skip


def _command(job: PipelineDir, round_number: int, *what: str) -> list[str]:
    return [sys.executable, "-I", "-m", "hpcbatch.steps", str(job.root), job.sha256, str(round_number), *what]


def _after(tasks: Sequence[str]) -> list[str]:
    """*tasks*, with an array in place of its tasks where several are named: Slurm's list of dependencies is short."""
    arrays: dict[str, list[str]] = {}
    for task in tasks:
        arrays.setdefault(task.partition("_")[0], []).append(task)
    return [each[0] if len(each) == 1 else array for array, each in arrays.items()]
