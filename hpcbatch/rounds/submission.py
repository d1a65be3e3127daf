"""Submit one round of a job so that it runs once, whatever is killed or times out in between.

INTENT is written, then the arrays are submitted under names that only this round has, then the merge that waits for
them, and each id is noted. Calling this again goes on from the notes and, for what has none, from the queue. Of two
arrays under one name the noted one works; an array task that finds no note writes it (worker/entry.py).

Where Slurm takes only so many jobs of a user at once, a part of the round is submitted, and the merge behind it submits
the next part: `RoundIds.held_back`.
"""

from __future__ import annotations

import re
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import Lessons, elsewhere, lessons_of
from hpcbatch.jobdir.lessons import request as learned_request
from hpcbatch.planning.plan import windows
from hpcbatch.rounds.once import Submission, patiently
from hpcbatch.rounds.standing import merges_noted, round_name
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, Preemption, Request, Scheduler

ROOM_S = 12.0  # how long it may take until an array task that was cancelled is no longer counted


@dataclass(frozen=True)
class RoundIds:
    """The Slurm job ids of a round, as far as Slurm took it.

    `held_back` groups are for the merge to submit; a `merge` of "" was not accepted, and nothing is behind the arrays.
    """

    arrays: tuple[str, ...]
    merge: str
    held_back: int = 0


def submit_round(
    job: JobDir, round_number: int, scheduler: Scheduler | None = None, *, merge: int | None = None
) -> RoundIds:
    """Submit round *round_number*, or go on submitting it. On return its arrays may run and its merge waits for them.

    *merge* is the number of the merge behind what is submitted now; None is the latest that is noted and in the queue,
    or a new one. Raises SchedulerError, with `limit` if no group at all could be submitted because of a submit limit.
    """
    submission = _begin(job, round_number, scheduler)
    groups = job.plan(round_number).groups
    arrays: list[_Array] = []
    while (start := arrays[-1].stop if arrays else 0) < groups and (noted := submission.noted_array(start)):
        arrays.append(noted)
    before = len(arrays)
    while (start := arrays[-1].stop if arrays else 0) < groups:
        # A merge that goes on has seen the end of what was submitted before: then there is nothing in front.
        in_front = arrays[-1:] if merge is None or len(arrays) > before else []
        array = submission.array(start, groups, after=[a.slurm_job_id for a in in_front])
        if array is None:
            break
        arrays.append(array)
    fresh = arrays[before:]
    if start < groups and (not arrays or (merge is not None and not fresh)):
        raise submission.refusal
    number = submission.merge_number(merge, fresh=bool(fresh))
    after = [a.slurm_job_id for a in fresh or arrays[-1:]]
    behind = submission.merge(number, after, fresh[-1] if fresh else None)
    return RoundIds(tuple(a.slurm_job_id for a in arrays), behind, groups - start)


def requests_of(job: JobDir, groups: int, limit: int, how: Preemption) -> list[Request]:
    """What the first round of a job would submit where one array has at most *limit* tasks: arrays, then the merge.

    Nothing is submitted or written, and the job need not exist. `ARRAY<n>` stands for the id of the n-th array.
    """
    found: list[Request] = []
    limit = min(limit, int(job.record.compute.slurm.get("max_array_tasks") or 0) or sys.maxsize)
    for number, part in enumerate(windows(groups, limit)):
        found.append(_array(job, 0, part, [f"ARRAY{number - 1}"] if number else [], how))
    return [*found, _merge(job, 0, 0, [f"ARRAY{number}" for number in range(len(found))])]


def submit_merge(
    job: JobDir, round_number: int, number: int, after: list[str], scheduler: Scheduler | None = None
) -> str:
    """Submit merge *number* of a round behind the arrays *after*; its Slurm job id. Raises SchedulerError."""
    submission = _begin(job, round_number, scheduler)
    found = submission.merge(number, after)
    if not found:
        raise submission.refusal
    return found


def _begin(job: JobDir, round_number: int, scheduler: Scheduler | None) -> _Round:
    if scheduler is None:
        from hpcbatch.scheduler.slurm import SlurmScheduler  # submitit is imported here alone

        scheduler = SlurmScheduler()
    resumed = not jobdir.publish_document(job.paths.round(round_number) / layout.INTENT, {"began": time.time()})
    name, known = round_name(job, round_number), scheduler
    merges = merges_noted(job, round_number)  # before the queue is looked at: one that is noted and not there is gone
    seen = patiently(lambda: known.queue(name)) if resumed else []
    return _Round(job, round_number, scheduler, seen, merges)


@dataclass(frozen=True)
class _Array:
    """A submission as it is noted: which Slurm job, and for an array, which groups."""

    slurm_job_id: str
    start: int = 0
    stop: int = 0


class _Round(Submission):
    """The arrays and merges of one round."""

    def __init__(
        self, job: JobDir, round_number: int, scheduler: Scheduler, seen: list[Entry], merges: list[int]
    ) -> None:
        super().__init__(scheduler, seen)
        self._merges = merges
        self._job = job
        self._round = round_number
        self._folder = job.paths.round(round_number)
        self._limit = 0
        self._how: Preemption | None = None
        self.refusal = SchedulerError("Slurm accepted nothing.")

    def stem(self, name: str) -> str:
        """An array that begins with the same group is the same, up to whichever group it goes."""
        head, dot, tail = name.rpartition(".")
        return head + dot + tail.partition("-")[0]

    def about(self, slurm_job_id: str, name: str) -> dict[str, Any]:
        """With how many groups an array has, which its name tells: `w<first>-<end>`."""
        note = super().about(slurm_job_id, name)
        match = re.search(r"\.w(\d+)-(\d+)\Z", name)
        return note | {"groups": int(match[2]) - int(match[1])} if match else note

    def noted_array(self, start: int) -> _Array | None:
        """The array whose first task has group *start*, if it is noted."""
        note = self._job.document(self._folder / layout.array_name(start))
        return _Array(str(note["slurm_job_id"]), start, start + int(note["groups"])) if note else None

    def array(self, start: int, groups: int, *, after: list[str]) -> _Array | None:
        """Submit the groups from *start* on, as many as one array may have; None if a submit limit leaves no room.

        What nothing is in front of takes the room there is, by halves; the rest can wait.
        """
        self._limit = self._limit or self._array_limit(groups)
        self._how = self._how or preemption_of(self._job, self.scheduler)
        size = min(self._limit, groups - start)
        while True:
            request = _array(self._job, self._round, (start, start + size), after, self._how)
            try:
                self.once(request, self._folder / layout.array_name(start))
            except SchedulerError as error:
                if not error.fields.get("limit"):
                    raise
                self.refusal = error
                if size == 1 or after:
                    return None
                size //= 2
            else:
                return self.noted_array(start)

    def _array_limit(self, groups: int) -> int:
        limit = int(self._job.record.compute.slurm.get("max_array_tasks") or 0) or sys.maxsize
        return min(limit, patiently(self.scheduler.array_limit)) if groups > 1 else limit

    def merge_number(self, wanted: int | None, *, fresh: bool) -> int:
        """Which merge goes behind what was just submitted: *wanted*, or the latest unless it has left the queue."""
        if wanted is not None or not self._merges:
            return wanted or 0
        latest = self._merges[-1]
        waits = self.of_name(merge_job_name(self._job, self._round, latest), self.seen)
        return latest + 1 if fresh and not waits else latest

    def merge(self, number: int, after: list[str], last: _Array | None = None) -> str:
        """Submit the merge behind *after*; its id.

        Where a submit limit is in the way, the last task of the array *last* makes room: a round without a merge would
        end unseen, and what that task had to do runs in the next round. "" if that did not help.
        """
        request = _merge(self._job, self._round, number, after)
        end = time.monotonic() + ROOM_S
        asked = False
        while True:
            try:
                return self.once(request, self._folder / layout.merge_name(number))
            except SchedulerError as error:
                if not error.fields.get("limit"):
                    raise
                self.refusal = error
            if last is None or last.stop - last.start < 2 or time.monotonic() > end:
                return ""
            if not asked:
                asked = True
                with suppress(SchedulerError):  # it may have ended, and made room
                    self.scheduler.cancel([f"{last.slurm_job_id}_{last.stop - last.start - 1}"])
            time.sleep(0.5)


def merge_job_name(job: JobDir, round_number: int, number: int) -> str:
    """The Slurm job name of merge *number* of a round."""
    return f"{round_name(job, round_number)}m{number or ''}"


def preemption_of(job: JobDir, scheduler: Scheduler) -> Preemption:
    """How the partition that *job* names is preempted: economy only, so where Slurm does not say, nothing is known."""
    if partition := preemptible_partition(job):
        with suppress(SchedulerError):  # sbatch says what is wrong
            return scheduler.preemption(partition)
    return Preemption()


def preemptible_partition(job: JobDir) -> str:
    """The one partition that the array tasks of a low-priority job go to; "" if there is none, or none is named."""
    partition = str(_slurm_of(job).get("partition") or "")
    return partition if job.record.compute.tier == "low_priority" and "," not in partition else ""


def _slurm_of(job: JobDir) -> dict[str, Any]:
    slurm: dict[str, Any] = dict(job.record.compute.slurm)
    if job.record.compute.tier == "low_priority" and slurm.get("low_priority_partition"):
        slurm["partition"] = slurm["low_priority_partition"]
    return slurm


def _array(job: JobDir, round_number: int, part: tuple[int, int], after: list[str], how: Preemption) -> Request:
    compute = job.record.compute
    start, stop = part
    slurm = _as_learned(_slurm_of(job), lessons_of(job, round_number))
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", str(job.root), job.sha256, str(round_number), str(start),
               str(stop), str(how.back_after_s)]  # fmt: skip
    return Request(
        name=f"{round_name(job, round_number)}w{start}-{stop}", command=command, folder=job.paths.slurm, slurm=slurm,
        count=stop - start, throttle=compute.throttle, after=after,
        srun=compute.tier == "low_priority" and how.early_word,
        dependency="" if round_number or start else job.record.dependency, travelling=job.record.travelling,
    )  # fmt: skip


def _as_learned(slurm: dict[str, Any], lessons: Lessons) -> dict[str, Any]:
    most_mib = slurm_commands.largest_memory_mib(str(slurm.get("partition") or "")) if lessons.memory_raises else 0
    return learned_request(slurm, lessons, most_mib)


def _merge(job: JobDir, round_number: int, number: int, after: list[str]) -> Request:
    slurm = dict(job.record.compute.slurm)
    keep = {key: slurm[key] for key in ("account", "setup", "reservation") if slurm.get(key) is not None}
    if job.record.compute.tier != "low_priority" or slurm.get("low_priority_partition"):
        keep |= {key: slurm[key] for key in ("partition", "qos") if slurm.get(key) is not None}
    command = [sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256, str(round_number), str(number)]
    wanted = elsewhere(keep | dict(slurm.get("merge") or {}), lessons_of(job, round_number))
    return Request(
        name=merge_job_name(job, round_number, number), command=command,
        folder=job.paths.slurm, slurm=wanted, after=after, srun=False,
        travelling=job.record.travelling,
    )  # fmt: skip
