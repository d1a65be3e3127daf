"""Continue a job that stopped half-way, or end one: what `job resume` and `job cancel` do."""

from __future__ import annotations

import os
import shlex
import signal
import time
from contextlib import suppress
from dataclasses import replace

from hpcbatch.errors import Conflict, SchedulerError
from hpcbatch.jobdir import jobdir, repair
from hpcbatch.jobdir.coverage import Coverage, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import Lessons, learn, publish_lessons
from hpcbatch.operations import slurm_state
from hpcbatch.operations.invoke import submit
from hpcbatch.operations.status import Status, status_of
from hpcbatch.planning.plan import cut, group_count
from hpcbatch.records.plan import pack_plan
from hpcbatch.rounds import local
from hpcbatch.rounds.standing import ends, groups_noted, held, merges_noted
from hpcbatch.scheduler.base import Entry, State


def resume(job: JobDir) -> None:
    """Do what helps the job: release what is held, finish its submission, or run what is missing in a new round.

    Nothing for a job that runs, or is Completed. Raises Conflict for one that was canceled, whose every mini-batch has
    a result that the verdict did not accept, or of which more items failed than it allows; SchedulerError where Slurm
    refuses.
    """
    status = status_of(job)
    if status.word == "Completed":
        return
    if status.word in ("Running", "Queued", "Finalizing", "Preparing"):
        if job.record.compute.kind == "slurm":
            _help_along(job, status)
        return
    if job.canceled():
        raise Conflict(f"Job {job.record.name!r} was canceled.", hint="Invoke the endpoint again.")
    if _has_stopped(job, status):
        coverage = read_coverage(job)
        if status.word == "Failed":
            _refuse_in_vain(job, coverage, status.detail)
        missing = coverage.missing()
        count = sum(stop - start for start, stop in missing)
        number = job.rounds()[-1] + 1
        publish_lessons(job, number, _learned(job, coverage, number - 1))
        groups = group_count(count, at_once=job.record.compute.throttle) if count else 0
        deaths = repair.crashed_starts(coverage.tallies)
        repair.plan_repair(job, number, pack_plan(number, cut(missing, groups)), deaths)
    submit(job, job.rounds()[-1])


def cancel(job: JobDir) -> None:
    """Ask for the end of a job; one that has ended is left as it is.

    Its Slurm jobs are found by their name, which no other job has: an id may have been given to another job since.
    Raises SchedulerError where Slurm does not answer: the job is canceled all the same.
    """
    if job.verdict() is not None:
        return
    jobdir.publish_document(job.paths.canceled, {"by": job.record.user, "at": time.time()})
    if job.record.compute.kind == "local":
        pid = local.supervisor(job)
        if pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)  # its workers hold a lifeline to it and end too
        return
    from hpcbatch.scheduler import slurm_commands

    try:
        live = [e for e in slurm_commands.queue(job.record.slurm_name) if e.state is not State.ENDED]
        if ids := sorted({e.array_job_id for e in live}):
            slurm_commands.call(["scancel", "--quiet", *ids])
    except SchedulerError as error:
        name = job.record.name
        raise SchedulerError(
            f"Job {name!r} is canceled: nothing of it begins any more, and what runs ends within minutes. Slurm could "
            f"not be asked to end it at once. {error.message}",
            hint=f"Ask it again: hpcbatch job cancel --name {name}", **error.fields,
        ) from error  # fmt: skip


def _has_stopped(job: JobDir, status: Status) -> bool:
    """Whether what is missing needs a new round: the newest was submitted, and came to its end."""
    if job.record.compute.kind == "local":
        return status.word == "Failed"
    latest = job.rounds()[-1]
    submitted = groups_noted(job, latest) > 0 or bool(merges_noted(job, latest))
    return status.word == "Failed" or (status.word != "NotStarted" and submitted)


def _refuse_in_vain(job: JobDir, coverage: Coverage, why: str) -> None:
    """Raises Conflict where the job would fail again whatever else ran: what has failed for good is not tried again."""
    allowed, name = job.record.scoring.error_threshold, job.record.name
    if not coverage.complete and not 0 <= allowed < coverage.items_failed:
        return
    again = f"hpcbatch batch-endpoint invoke --name {job.record.endpoint} --deployment-name {job.record.deployment}"
    kind = " --input-type uri_file" if job.record.input_type == "uri_file" else ""
    what = "has a result for every mini-batch" if coverage.complete else "would fail again: what failed stays failed"
    raise Conflict(
        f"Job {name!r} failed, and {what}. {why}",
        hint="Correct the data, or the script and its deployment, or allow more failures (--set error_threshold=N); "
        f"then invoke anew: {again} --input {shlex.quote(job.record.input_path)}{kind}",
        name=name,
    )  # fmt: skip


def _learned(job: JobDir, coverage: Coverage, last: int) -> Lessons:
    """What the rounds until *last* taught; who asks for another one wants it tried, however often it was in vain."""
    ended = ends(job, last) if job.record.compute.kind == "slurm" else ()
    return replace(learn(job, coverage, last, ended), rounds_in_vain=0)


def _help_along(job: JobDir, status: Status) -> None:
    """Release what is held, submit what a limit held back or somebody cancelled alone, and do not wait for array tasks
    that have ended.
    """
    from hpcbatch.rounds.submission import submit_merge, submit_round  # submitit, only where Slurm is used

    entries = list(status.slurm)
    _replace_merge(job, [e for e in entries if e.state is not State.ENDED])
    names = held(entries)
    unfinished = slurm_state.submission_is_unfinished(job)
    gone = slurm_state.phantoms(job, entries)
    if not (names or unfinished or gone):
        return
    if names:
        _release(names, sorted({e.reason for e in entries if e.state is State.HELD}))
    latest = job.rounds()[-1]
    if unfinished:
        try:
            submit_round(job, latest)
        except SchedulerError as error:
            if not error.fields.get("limit"):  # no room yet: `job show` says so
                raise
    if gone and read_coverage(job).complete:
        submit_merge(job, latest, max(merges_noted(job, latest), default=-1) + 1, [])


def _replace_merge(job: JobDir, seen: list[Entry]) -> None:
    """Submit another merge if none is behind the array tasks that were *seen* in the queue: somebody cancelled it."""
    from hpcbatch.rounds.submission import submit_merge
    from hpcbatch.scheduler import slurm_commands

    latest, merges = job.rounds()[-1], slurm_state.merge_ids(job)
    if not slurm_state.merge_that_left(seen, merges):
        return
    # Another shell may just have submitted one: the queue is looked at again, after its notes.
    live = [e for e in slurm_commands.queue(job.record.slurm_name) if e.state is not State.ENDED]
    if slurm_state.merge_that_left(live, merges):
        submit_merge(job, latest, merges_noted(job, latest)[-1] + 1, sorted({e.array_job_id for e in live}))


def _release(names: list[str], reasons: list[str]) -> None:
    from hpcbatch.scheduler import slurm_commands

    try:
        slurm_commands.call(["scontrol", "release", *names])
    except SchedulerError as error:
        what = " ".join(names)
        raise SchedulerError(
            f"Slurm did not release {what}, held as {', '.join(reasons)}. {error.message}",
            hint=f"Who holds it has to release it. Ask the administrators of the site for: scontrol release {what}",
            **error.fields,
        ) from error
