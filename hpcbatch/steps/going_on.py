"""A round of which Slurm took only a part: somebody at the end of that part submits the next one."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.rounds.dependents import hand_over
from hpcbatch.rounds.standing import requeue
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import State
from hpcbatch.steps import outcome, units
from hpcbatch.steps.pipelinedir import PipelineDir
from hpcbatch.steps.submission import Submitted, is_end, is_whole, round_name, submit_round
from hpcbatch.worker.log import UserLog


def is_partial(job: PipelineDir, round_number: int) -> bool:
    """Whether steps of the round wait for others to make room."""
    return not is_whole(job, round_number) and units.noted(job, round_number) < len(
        units.members_of(job, round_number) or []
    )


def after_a_part(job: PipelineDir, round_number: int, log: UserLog, environ: Mapping[str, str] = os.environ) -> None:
    """What the job behind a part does: give its steps without a result their end, and submit the next part.

    Where it is too early, or there is no room for a job behind the next part, this Slurm job is queued again and does
    the same later. Raises SchedulerError where a node may not submit.
    """
    me = environ.get("SLURM_JOB_ID", "")
    living = [e for e in slurm_commands.queue(round_name(job, round_number)) if e.state is not State.ENDED]
    if any(not is_end(e.name) for e in living) and requeue(me):
        log.note("steps of this part still run: looking again later")
        return
    outcome.close(job, round_number, units.submitted_steps(job, round_number))
    try:
        done = submit_round(job, round_number)
    except SchedulerError as error:
        if error.fields.get("limit") and requeue(me):
            log.note(f"{error.message} Trying again later.")
            return
        raise
    if done.end:
        hand_over(me, done.end)
    elif not requeue(me):
        log.note("no room for a job at the end")
    _say(done, log)


def after_a_step(job: PipelineDir, round_number: int, log: UserLog) -> None:
    """What a step's process does where there was no room for such a job: the last one submits the next part."""
    names = scan.names(job.round(round_number))
    count = units.noted(job, round_number)
    if units.held_name(count) not in names or units.partial_name(count) in names or is_whole(job, round_number):
        return
    if job.have_results() >= set(units.submitted_steps(job, round_number)):
        try:
            _say(submit_round(job, round_number), log)
        except SchedulerError as error:
            log.note(f"{error.message} Go on: hpcbatch job resume --name {job.record.name}")


def _say(done: Submitted, log: UserLog) -> None:
    log.note(f"submitted: {len(done.units)} arrays in all, {done.held_back} held back, end {done.end or 'none'}")
