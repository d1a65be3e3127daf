"""What a merge does on Slurm when it cannot publish yet: have what is missing run, and itself after that."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.rounds.dependents import hand_over
from hpcbatch.rounds.standing import living_arrays, requeue
from hpcbatch.rounds.submission import submit_merge, submit_round
from hpcbatch.words import counted


def go_on(
    job: JobDir, current: int, number: int, *, too_early: bool, environ: Mapping[str, str] = os.environ
) -> tuple[bool, str]:
    """Submit what is missing after merge *number* of round *current*, or, *too_early*, the next merge alone.

    Whether it was, and a sentence for the log. Where a submit limit leaves no room, this very Slurm job is queued again
    and keeps its place. Where a compute node may not submit, the reason is kept for `job show`, and `job resume` does
    it from a login node.
    """
    newest = job.rounds()[-1]
    try:
        if too_early:
            arrays = living_arrays(job, current)
            merge = submit_merge(job, current, number + 1, arrays)
            _hand_over(merge, environ)
            return True, f"submitted: merge {merge} behind what is at work"
        ids = submit_round(job, newest, merge=number + 1 if newest == current else None)
        _hand_over(ids.merge, environ)
    except SchedulerError as error:
        return _later(job, newest, error, environ)
    if not ids.merge and requeue(environ.get("SLURM_JOB_ID", "")):
        return True, f"submitted: array {', '.join(ids.arrays)}; no room for another merge, so this one runs again"
    what = f"submitted: array {', '.join(ids.arrays)}, merge {ids.merge or 'none, because of a submit limit'}"
    return True, f"{what}; {counted(ids.held_back, 'group')} held back" if ids.held_back else what


def _hand_over(merge: str, environ: Mapping[str, str]) -> None:
    """What waits for this merge waits for the next one: there is no output yet. Raises SchedulerError."""
    if merge and environ.get("SLURM_JOB_ID"):
        hand_over(environ["SLURM_JOB_ID"], merge)


def _later(job: JobDir, newest: int, error: SchedulerError, environ: Mapping[str, str]) -> tuple[bool, str]:
    limit = error.fields.get("limit")
    if limit and requeue(environ.get("SLURM_JOB_ID", "")):
        return True, f"{error.message} This merge is queued again and tries then."
    again = f"Continue it on a login node: hpcbatch job resume --name {job.record.name}"
    reason = {"node": os.uname().nodename, "message": error.message, "at": time.time()}
    jobdir.publish_document(job.paths.round(newest) / layout.REFUSED, reason)
    return False, f"ERROR: this node could not submit the rest. {error.message} {again}"
