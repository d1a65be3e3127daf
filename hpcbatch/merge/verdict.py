"""The end of a job: what it says about itself, and whether that is success."""

from __future__ import annotations

import time
from typing import Any

from hpcbatch.jobdir.coverage import Coverage
from hpcbatch.records.job import JobRecord


def summary(job: JobRecord, coverage: Coverage) -> dict[str, Any]:
    """Counts of a job: items as Azure ML counts them, mini-batches, attempts, durations."""
    failed = coverage.items_failed
    done = coverage.items_done(job.scoring.mini_batch_size, job.items)
    return {
        "schema": "hpcbatch.summary/1",
        "job": job.name,
        "items": job.items,
        "items_succeeded": done - failed,
        "items_failed": failed,
        "mini_batches": job.mini_batches,
        "mini_batches_done": coverage.done,
        "mini_batches_failed": coverage.states.count(1),
        "rows": coverage.rows,
        "run_s": round(coverage.run_ms / 1000, 3),
        "attempts": coverage.attempts,
        "preemptions_noticed": coverage.released,
        "duplicates": coverage.duplicates,
        "nondeterministic_duplicates": coverage.nondeterministic_duplicates,
        "damaged_ledgers": coverage.damaged_ledgers,
        "failures_by_cause": coverage.failures_by_cause(),
        "failures": coverage.reports(),
        "ended": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def reason_to_fail(job: JobRecord, coverage: Coverage) -> str | None:
    """Why a job whose every mini-batch has a result is Failed all the same; None if it is Completed.

    Azure ML fails a job when more items failed than `error_threshold` allows (strictly more; -1 allows all), and an
    `append_row` job of which no item succeeded.
    """
    threshold, failed = job.scoring.error_threshold, coverage.items_failed
    if 0 <= threshold < failed:
        return f"The number of failed items is {failed}, which exceeds error threshold {threshold}."
    if job.scoring.output_action == "append_row" and failed >= job.items:
        return "There is no succeeded mini batch item returned from run(): every item failed."
    return None


def first_words(coverage: Coverage) -> str:
    """The first failure in one line, for the head of a verdict."""
    for report in coverage.reports(1):
        where = f"mini-batch {report['mini_batch']}: " if "mini_batch" in report else ""
        return f"{where}{report.get('type', '')}: {report.get('message', '')}".replace(": : ", ": ").strip()
    return ""
