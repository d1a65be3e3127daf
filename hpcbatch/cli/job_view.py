"""What a person wants to see of a job: the verdict and the failures first, then progress, then where things are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hpcbatch.cli.formats import at
from hpcbatch.cli.pipeline_view import pipeline_card, pipeline_summary, step_card
from hpcbatch.cli.views import Card
from hpcbatch.operations.story import clock, cost, failure_line, is_long, quoted_parts
from hpcbatch.words import counted, mini_batches

ENDED = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")
_SHOWN_FAILURES = 5
_QUOTED_LINES = 20


def job_card(job: Mapping[str, Any]) -> Card:
    """The job as a card: what went wrong and what the script said, then counts, then places and commands."""
    if "jobs" in job:
        return pipeline_card(job)
    if "parent_job_name" in job:
        return step_card(job)
    progress = _mapping(job.get("progress"))
    status = str(job.get("status") or "")
    detail = str(job.get("detail") or "")
    is_alarm = status in ("Failed", "NotResponding")
    alarms = [detail] if detail and is_alarm else []
    return Card(
        title=str(job.get("name") or ""),
        status=status,
        bar=(items_done(progress), int(job.get("items") or 0)) if progress else None,
        news=(*([detail] if detail and not is_alarm else []), *counts(job), *_unpublished(job)),
        alarms=(*alarms, *failure_lines(progress, "".join(alarms))),
        fields=tuple(_fields(job)),
        commands=tuple(_commands(job, status)),
    )


def summary_lines(job: Mapping[str, Any]) -> list[str]:
    """The lines that a stream ends with, in az's frame."""
    progress = _mapping(job.get("progress"))
    lines = ["", "Execution Summary", "=================", f"RunId: {job.get('name')}"]
    lines += [f"Web View: file://{job.get('job_directory')}", f"Status: {job.get('status')}"]
    lines += [f"Detail: {job['detail']}"] if job.get("detail") else []
    lines += pipeline_summary(job)
    lines += failure_lines(progress, detail=str(job.get("detail") or ""))
    lines += [f"Progress: {line}" for line in counts(job)]
    output = at(job, "progress.output.path")
    return [*lines, f"Output: {output}"] if output else lines


def counts(job: Mapping[str, Any]) -> list[str]:
    """How far the job is, what it has cost and what its rounds taught, a line each; nothing if the files were not
    looked at.
    """
    progress = _mapping(job.get("progress"))
    if not progress:
        return []
    failed = progress.get("items_failed") or 0
    parts = [
        f"{items_done(progress)} of {counted(int(job.get('items') or 0), 'item')}, {failed} failed",
        f"{progress.get('mini_batches_done') or 0} of {mini_batches(int(job.get('mini_batches') or 0))}",
        f"groups: {job.get('groups')}, attempts: {progress.get('attempts') or 0}",
    ]
    causes = _mapping(progress.get("failures_by_cause"))
    found = ", ".join(f"{count} {cause}" for cause, count in sorted(causes.items()))
    lines = [f"failed mini-batches by cause: {found}"] if found else []
    if progress.get("elapsed_s") is not None:
        lines.append(f"{clock(float(progress['elapsed_s']))} from the invocation to the end")
    story = [str(line) for line in progress.get("story") or ()]
    accounting = _mapping(progress.get("accounting"))
    return ["; ".join(parts), *lines, *([cost(accounting)] if accounting else []), *story]


def _unpublished(job: Mapping[str, Any]) -> list[str]:
    return [str(job["unpublished"])] if job.get("unpublished") else []


def items_done(progress: Mapping[str, Any]) -> int:
    """Items that have a result, good or bad."""
    return int(progress.get("items_succeeded") or 0) + int(progress.get("items_failed") or 0)


def failure_lines(progress: Mapping[str, Any], detail: str = "") -> list[str]:
    """The first failures, one line each; under the first exception, what the script printed and its traceback.

    A long message that *detail*, shown before, says already is not repeated.
    """
    failures = [each for each in progress.get("failures") or () if isinstance(each, Mapping)]
    lines: list[str] = []
    quoted = False
    for failure in failures[:_SHOWN_FAILURES]:
        message = str(failure.get("message") or "")
        is_said = is_long(message) and message in detail
        lines.append(failure_line({**failure, "message": "(see above)"} if is_said else failure))
        if not quoted:
            quotes = _quotes(failure)
            lines += quotes
            quoted = bool(quotes)
    if len(failures) > _SHOWN_FAILURES:
        lines.append(f"... and {len(failures) - _SHOWN_FAILURES} more: --query progress.failures -o yaml")
    return lines


def _quotes(failure: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, said in quoted_parts(failure).items():
        cut = len(said) - _QUOTED_LINES
        lines += [f"  {key}: ... {cut} lines before"] if cut > 0 else []
        lines += [f"  | {line}" for line in said[-_QUOTED_LINES:]]
    return lines


def _fields(job: Mapping[str, Any]) -> list[tuple[str, Any]]:
    created = at(job, "creation_context.created_at")
    found = [
        ("deployment", " / ".join(str(job[key]) for key in ("endpoint", "deployment") if job.get(key))),
        ("compute", job.get("compute")),
        ("environment", _environment(job)),
        ("created", f"{created} by {at(job, 'creation_context.created_by')}" if created else None),
        ("input", at(job, "inputs.input.path")),
        ("output", at(job, "progress.output.path") or at(job, "outputs.score.path")),
        ("files", at(job, "progress.files.folder")),
        ("directory", job.get("job_directory")),
        ("slurm", _slurm(job)),
        *(("warning", each) for each in job.get("warnings") or ()),
    ]
    return [(label, value) for label, value in found if value]


def _environment(job: Mapping[str, Any]) -> str:
    """`heart-env: /venvs/heart/bin/python (map 'heart-*')`: the Python of the scoring script, and why that one."""
    found = _mapping(job.get("environment"))
    return f"{found.get('name')}: {found.get('python')} ({found.get('origin')})" if found else ""


def _slurm(job: Mapping[str, Any]) -> str:
    """`3 RUNNING, 9 PENDING (Resources)`: the job's entries in the queue, by state and reason."""
    entries = [each for each in job.get("slurm_jobs") or () if isinstance(each, Mapping)]
    reasons = Counter(_queue_state(each) for each in entries)
    return ", ".join(f"{count} {state}" for state, count in reasons.most_common())


def _queue_state(entry: Mapping[str, Any]) -> str:
    reason = str(entry.get("reason") or "")
    return f"{entry.get('state')} ({reason})" if reason not in ("", "None") else str(entry.get("state"))


def _commands(job: Mapping[str, Any], status: str) -> list[tuple[str, str]]:
    name = job.get("name")
    if status == "Completed":
        return [("Fetch the output", f"hpcbatch job download -n {name}")]
    if status in ("NotResponding", "NotStarted"):
        return [("Go on", f"hpcbatch job resume -n {name}")]
    if status in ENDED:
        return [("Read its logs", f"hpcbatch job stream -n {name}")]
    return [("Follow", f"hpcbatch job stream -n {name}"), ("End", f"hpcbatch job cancel -n {name}")]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
