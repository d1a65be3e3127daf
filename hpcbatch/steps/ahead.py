"""Steps that need no turn of their own: found to be repetitions before anything is submitted."""

from __future__ import annotations

from hpcbatch.pipeline.reuse import step_key
from hpcbatch.steps import outcome, reused, values
from hpcbatch.steps.pipelinedir import PipelineDir

COMPARE_UP_TO_BYTES, COMPARE_UP_TO_FILES = 64 << 20, 1000  # on the login node


def reuse_ahead(job: PipelineDir, round_number: int) -> list[str]:
    """Give the steps of the round that were run before their result, as far as their inputs can be compared here and
    now; the names of those that are left, in the order of the record.
    """
    planned, left = set(job.planned(round_number)), []
    results = job.results()
    for step in job.record.steps:
        if step.name not in planned or step.name in results:
            continue
        known = all(name in results and results[name].get("reused") for name in step.dependencies)
        if job.record.force_rerun or not step.is_deterministic or not known:
            left.append(step.name)
            continue
        found = values.sources(step, job.record, results)
        identities = values.identities(found, (COMPARE_UP_TO_BYTES, COMPARE_UP_TO_FILES))
        earlier = reused.find(job, step_key(step, identities)) if identities is not None else None
        if earlier is None:
            left.append(step.name)
            continue
        job.publish_result(step.name, round_number, {**earlier, "ended": outcome.stamp()})
        results[step.name] = earlier
    return left
