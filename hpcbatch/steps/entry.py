"""One process of a pipeline job: run the step whose turn it is, or end the job."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs.publish import filesystem_error, says_full
from hpcbatch.pipeline.graph import CANCELED, COMPLETED, NOT_STARTED, obstacle
from hpcbatch.scoring.driver import die_with_the_owner
from hpcbatch.steps import outcome, pipelinedir, recorded, units
from hpcbatch.steps.attempt import CutOff, StepRun, run_step
from hpcbatch.steps.pipelinedir import PipelineDir
from hpcbatch.worker.environment import slurm_task
from hpcbatch.worker.log import UserLog

EXIT_DONE, EXIT_FAILED, EXIT_IO, EXIT_FULL, EXIT_CUT_OFF = 0, 1, 74, 75, 76


def main(argv: Sequence[str] | None = None) -> int:
    """JOB_DIRECTORY SHA256 ROUND step NAME | unit NUMBER | finish. The result is in the files, not in the exit code.

    Exit codes: 0 the end of the step is recorded, 1 the job has ended and did not complete (what waits for it with
    `afterok` does not start), 74 I/O error, 75 disk full.
    """
    folder, digest, round_text, what, *more = sys.argv[1:] if argv is None else argv
    os.umask(0o077)
    if lifeline := os.environ.pop("HPCBATCH_LIFELINE_FD", ""):
        die_with_the_owner(int(lifeline))
    log = UserLog(1)
    try:
        job = pipelinedir.open_pipeline(Path(folder), digest)
        number = int(round_text)
        if what == "finish":
            return end(job, number, log)
        slurm = slurm_task()
        if what == "unit":
            unit = int(more[0])
            if not units.owns(job, number, unit, slurm):
                log.note("another submission of these steps runs already; this one gives way")
                return EXIT_DONE
            step = units.step_of(job, number, unit, int(slurm.array_task_id or 0))
            if step is None:
                return EXIT_DONE
        else:
            step = more[0]
        turn(StepRun(job, job.record.step(step), number, slurm, log))
        if outcome.finish(job, number) is None and units.is_held(job, number):
            from hpcbatch.steps import going_on  # submission, only where a part was held back

            going_on.after_a_step(job, number, log)
        return EXIT_DONE
    except CutOff:
        log.note("cut off; the next attempt goes on")
        return EXIT_CUT_OFF
    except HpcBatchError as error:
        log.note(f"ERROR: {error}")
        return EXIT_FULL if says_full(error) else EXIT_IO
    except OSError as error:
        log.note(f"ERROR: {filesystem_error(error, folder)}")
        return EXIT_FULL if says_full(error) else EXIT_IO


def turn(run: StepRun) -> None:
    """It is the turn of a step: everything that it depends on has ended. On return its end is recorded."""
    job, step = run.job, run.step
    if job.results(only=(step.name,)):
        run.log.note(f"step {step.name}: has ended already")
        return
    results = outcome.close(job, run.round, step.dependencies)
    document: dict[str, Any]
    why = None
    if not job.canceled():
        ends = {name: result["status"] for name, result in results.items()}
        why = obstacle(step, ends, continue_on_step_failure=job.record.continue_on_step_failure)
    if job.canceled():
        document = {"status": CANCELED, "detail": "The job was canceled."}
    elif why is not None:
        document = {"status": NOT_STARTED, "detail": f"Not started: {why}."}
    else:
        document = run_step(run, results)
    run.log.note(f"step {step.name}: {document['status']} {document.get('detail', '')}".rstrip())
    is_new = document["status"] == COMPLETED and not document.get("reused")
    if job.publish_result(step.name, run.round, {"ended": outcome.stamp(), **document}) and is_new:
        recorded.register(job, step, document, run.log)


def end(job: PipelineDir, round_number: int, log: UserLog) -> int:
    """Every process of the round is gone: give the steps without a result their end, then the job."""
    if job.verdict() is None and not job.canceled() and round_number == job.rounds()[-1]:
        from hpcbatch.steps import going_on

        if going_on.is_partial(job, round_number):
            going_on.after_a_part(job, round_number, log)
            return EXIT_DONE
    if job.verdict() is None:
        found = outcome.wait_for(job, tuple(s.name for s in job.record.steps), None)
        for step in job.record.steps:  # in topological order
            if step.name not in found:
                results = outcome.close(job, round_number, step.dependencies)
                ends = {name: result["status"] for name, result in results.items()}
                why = obstacle(step, ends, continue_on_step_failure=job.record.continue_on_step_failure)
                if why is not None and not job.canceled():
                    job.publish_result(
                        step.name, round_number,
                        {"status": NOT_STARTED, "detail": f"Not started: {why}.", "ended": outcome.stamp()},
                    )  # fmt: skip
                else:
                    outcome.close(job, round_number, (step.name,))
    verdict = outcome.finish(job, round_number) or {}
    log.note(f"the job is {verdict.get('status')} {verdict.get('reason', '')}".rstrip())
    return EXIT_DONE if verdict.get("status") == COMPLETED else EXIT_FAILED
