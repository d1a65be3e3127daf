"""What a person wants to see of a pipeline job: what failed and why, the graph with the state of each step, places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from hpcbatch.cli.formats import at
from hpcbatch.cli.views import Card
from hpcbatch.pipeline.drawing import Node, as_text
from hpcbatch.words import counted, mini_batches

_ENDED = ("Completed", "Failed", "Canceled", "NotResponding")
_SHOWN_FAILURES = 3  # besides the first, which the job's own detail names


def pipeline_card(job: Mapping[str, Any]) -> Card:
    """The job as a card with its graph."""
    status, detail = str(job.get("status") or ""), str(job.get("detail") or "")
    steps = job.get("jobs") or {}
    failed = [each for each in steps.values() if each.get("status") == "Failed"]
    alarms = [detail] if detail and status in ("Failed", "NotResponding") else []
    alarms += [f"{each['display_name']}: {each.get('detail', '')}" for each in failed[: _SHOWN_FAILURES + 1]][1:]
    ended = sum(each.get("status") in _ENDED or "ended" in each for each in steps.values())
    return Card(
        title=str(job.get("name") or ""),
        status=status,
        bar=(ended, len(steps)) if steps else None,
        news=(*([detail] if detail and not alarms else []), *graph_lines(job)),
        alarms=tuple(alarms),
        fields=tuple(_fields(job)),
        commands=tuple(_commands(job, status)),
    )


def graph_lines(job: Mapping[str, Any]) -> list[str]:
    """The graph with the state of each step, drawn with characters."""
    nodes = [
        Node(name, str(step.get("status")), _note(step), tuple(step.get("depends_on") or ()))
        for name, step in (job.get("jobs") or {}).items()
    ]
    return as_text(nodes)


def _note(step: Mapping[str, Any]) -> str:
    reused = step.get("reused")
    return f" (reused from {reused['job']})" if isinstance(reused, Mapping) else ""


def step_card(step: Mapping[str, Any]) -> Card:
    """One step as a card: its end, what it printed last, where everything is."""
    status, detail = str(step.get("status") or ""), str(step.get("detail") or "")
    tail = [f"| {line}" for line in str(step.get("tail") or "").splitlines()]
    alarms = [detail, *tail] if status == "Failed" else []
    fields = [
        ("parent", step.get("parent_job_name")),
        ("component", step.get("component")),
        ("compute", step.get("compute")),
        ("host", step.get("host")),
        ("attempts", step.get("attempts")),
        *((f"output {name}", at(about, "path")) for name, about in (step.get("outputs") or {}).items()),
        ("log", step.get("log")),
        ("mlflow run", at(step, "mlflow.run_id")),
    ]
    name = str(step.get("name"))
    return Card(
        title=name,
        status=status,
        news=(*([detail] if detail and not alarms else []), *_counts(step)),
        alarms=tuple(alarms),
        fields=tuple((label, value) for label, value in fields if value),
        commands=(("Read its log", f"hpcbatch job stream -n {name}"),),
    )


def _counts(step: Mapping[str, Any]) -> list[str]:
    """How far a parallel step is."""
    progress = step.get("progress")
    if not isinstance(progress, Mapping):
        return []
    failed = int(progress.get("items_failed") or 0)
    done = int(progress.get("items_succeeded") or 0) + failed
    batches = f"{progress.get('mini_batches_done') or 0} of {mini_batches(int(step.get('mini_batches') or 0))}"
    return [f"{done} of {counted(int(step.get('items') or 0), 'item')}, {failed} failed; {batches}"]


def pipeline_summary(job: Mapping[str, Any]) -> list[str]:
    """What the summary of a stream says of the steps."""
    steps = job.get("jobs") or {}
    counts = Counter(str(step.get("status")) for step in steps.values())
    if not steps:
        return []
    return [f"Steps: {', '.join(f'{count} {word}' for word, count in counts.most_common())}", *graph_lines(job)]


def _fields(job: Mapping[str, Any]) -> list[tuple[str, Any]]:
    created = at(job, "creation_context.created_at")
    data = [(f"input {name}", about.get("path") or about.get("value")) for name, about in job["inputs"].items()]
    data += [(f"output {name}", about.get("path")) for name, about in job["outputs"].items()]
    found = [
        ("deployment", " / ".join(str(job[key]) for key in ("endpoint", "deployment") if job.get(key))),
        ("experiment", job.get("experiment_name")),
        ("compute", job.get("compute")),
        ("created", f"{created} by {at(job, 'creation_context.created_by')}" if created else None),
        *data,
        ("mlflow run", at(job, "mlflow.run_id")),
        ("picture", job.get("picture")),
        ("directory", job.get("job_directory")),
        *(("warning", each) for each in job.get("warnings") or ()),
    ]
    return [(label, value) for label, value in found if value]


def _commands(job: Mapping[str, Any], status: str) -> list[tuple[str, str]]:
    name = job.get("name")
    failed = next((step["name"] for step in (job.get("jobs") or {}).values() if step.get("status") == "Failed"), None)
    if status == "Completed":
        return [("Fetch the outputs", f"hpcbatch job download -n {name}")]
    if status in ("NotResponding", "NotStarted"):
        return [("Go on", f"hpcbatch job resume -n {name}")]
    if status == "Failed":
        look = [("Look at the step", f"hpcbatch job show -n {failed}")] if failed else []
        return [*look, ("Go on after it", f"hpcbatch job resume -n {name}")]
    if status == "Canceled":
        return [("Read its logs", f"hpcbatch job stream -n {name}")]
    return [("Follow", f"hpcbatch job stream -n {name}"), ("End", f"hpcbatch job cancel -n {name}")]
