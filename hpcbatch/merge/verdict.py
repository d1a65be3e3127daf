"""The end of a job: what it says about itself, and whether that is success."""

from __future__ import annotations

import calendar
import time
from dataclasses import asdict
from typing import Any

from hpcbatch.jobdir.coverage import Coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import lessons_of
from hpcbatch.records.job import JobRecord

_UTC = "%Y-%m-%dT%H:%M:%SZ"


def summary(directory: JobDir, coverage: Coverage) -> dict[str, Any]:
    """Counts of a job: items as Azure ML counts them, mini-batches, attempts, what it has cost, and what the rounds
    before the last one taught.
    """
    job = directory.record
    accounting = coverage.accounting(over=True)
    failed = coverage.items_failed
    done = coverage.items_done(directory)
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
        "preemptions_noticed": accounting.preemptions,
        "accounting": asdict(accounting),
        "story": list(lessons_of(directory, directory.rounds()[-1]).story),
        "duplicates": coverage.duplicates,
        "nondeterministic_duplicates": coverage.nondeterministic_duplicates,
        "damaged_ledgers": coverage.damaged_ledgers,
        "failures_by_cause": coverage.failures_by_cause(),
        "failures": coverage.reports(),
        "created": job.created,
        "ended": time.strftime(_UTC, time.gmtime()),
        "elapsed_s": _elapsed_s(job.created),
    }


def _elapsed_s(created: str) -> int | None:
    """Seconds since then, by the clocks of two nodes, for people; None if *created* is no time."""
    try:
        return max(0, calendar.timegm(time.gmtime()) - calendar.timegm(time.strptime(created, _UTC)))
    except ValueError:
        return None


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


def rows_that_differ(directory: JobDir, mini_batch: int, words: str) -> str:
    """Why the rows of all mini-batches make no one file, and what to do; they stay in the job directory."""
    paths = directory.manifest().paths(mini_batch)
    named = f"{', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}"
    name = directory.record.scoring.output_file_name
    return (
        f"The rows make no one {name}: in mini-batch {mini_batch} ({named}) {words}. Have run() return one type for "
        "each column, or invoke again with --set output_file_name=NAME.jsonl, which takes any."
    )
