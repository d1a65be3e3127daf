"""Submit one round of a pipeline job: a Slurm job for each step, siblings as one array, each after its parents.

The rules of `rounds.submission` hold: names decide, notes are kept, calling this again goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from hpcbatch.fs import scan
from hpcbatch.pipeline.graph import Unit, leaves, tasks_per_node, units
from hpcbatch.rounds.once import Submission, patiently
from hpcbatch.scheduler.base import Request, Scheduler
from hpcbatch.steps.pipelinedir import FINISH, INTENT, PipelineDir, publish_document
from hpcbatch.steps.units import UNITS, note_name


def submit_round(job: PipelineDir, round_number: int, scheduler: Scheduler | None = None) -> list[str]:
    """Submit round *round_number*, or finish submitting it; the Slurm job ids, that of the last job at the end."""
    if scheduler is None:
        from hpcbatch.scheduler.slurm import SlurmScheduler  # submitit is imported here alone

        scheduler = SlurmScheduler()
    folder = job.round(round_number)
    resumed = not publish_document(folder / INTENT, {"began": time.time()})
    planned = _units(job, round_number, scheduler)
    seen = patiently(lambda: scheduler.queue(round_name(job, round_number))) if resumed else []
    submission = Submission(scheduler, seen)
    # What has ended before is nothing to wait for: Slurm may have forgotten it.
    ended = set(job.results()) if resumed else set()
    tasks: dict[str, str] = {}
    ids = []
    for unit in planned:
        request = _request(job, round_number, unit, [tasks[name] for name in unit.parents if name not in ended])
        found = submission.once(request, folder / note_name(unit.number))
        ids.append(found)
        for index, step in enumerate(unit.steps):
            tasks[step.name] = found if len(unit.steps) == 1 else f"{found}_{index}"
    last = leaves([s for u in planned for s in u.steps])
    ends = _after([tasks[name] for name in last if name not in ended])
    return [*ids, submission.once(_finish(job, round_number, planned, ends), folder / FINISH)]


def is_whole(job: PipelineDir, round_number: int) -> bool:
    """Whether all of the round was submitted: the job at the end is the last that is."""
    return FINISH in scan.names(job.round(round_number))


def round_name(job: PipelineDir, round_number: int) -> str:
    """What the Slurm job names of a round begin with."""
    return f"{job.record.slurm_name}.r{round_number}."


def _units(job: PipelineDir, round_number: int, scheduler: Scheduler) -> list[Unit]:
    """The submissions of the round, as the first call cut them."""
    names = set(job.planned(round_number))
    path = job.round(round_number) / UNITS
    noted = job.document(path)
    if noted is None:
        ended = job.results()
        steps = [s for s in job.record.steps if s.name in names and s.name not in ended]
        allowed = [int(s.compute.slurm.get("max_array_tasks") or 0) or sys.maxsize for s in steps]
        largest = min([patiently(scheduler.array_limit), *allowed]) if len(steps) > 1 else 1
        cut = [[s.name for s in unit.steps] for unit in units(steps, largest)]
        publish_document(path, {"units": cut})
        noted = job.document(path) or {}
    found = []
    names = {name for members in noted["units"] for name in members}
    for number, members in enumerate(noted["units"]):
        part = tuple(job.record.step(name) for name in members)
        found.append(Unit(number, part, tuple(n for n in part[0].dependencies if n in names)))
    return found


def _request(job: PipelineDir, round_number: int, unit: Unit, after: Sequence[str]) -> Request:
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
    )  # fmt: skip


def _finish(job: PipelineDir, round_number: int, planned: Sequence[Unit], after: Sequence[str]) -> Request:
    compute = planned[-1].steps[-1].compute
    slurm = dict(compute.slurm)
    keep = {key: slurm[key] for key in ("account", "setup", "reservation") if slurm.get(key) is not None}
    if compute.tier != "low_priority" or slurm.get("low_priority_partition"):
        keep |= {key: slurm[key] for key in ("partition", "qos") if slurm.get(key) is not None}
    return Request(
        name=f"{round_name(job, round_number)}m", command=_command(job, round_number, "finish"), folder=job.slurm,
        slurm=keep | dict(slurm.get("merge") or {}), after=after, srun=False,
    )  # fmt: skip


def _command(job: PipelineDir, round_number: int, *what: str) -> list[str]:
    return [sys.executable, "-I", "-m", "hpcbatch.steps", str(job.root), job.sha256, str(round_number), *what]


def _after(tasks: Sequence[str]) -> list[str]:
    """*tasks*, with an array in place of its tasks where several are named: Slurm's list of dependencies is short."""
    arrays: dict[str, list[str]] = {}
    for task in tasks:
        arrays.setdefault(task.partition("_")[0], []).append(task)
    return [each[0] if len(each) == 1 else array for array, each in arrays.items()]
