"""How steps and the job end: recorded once, from files alone."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, JobError, SpecError
from hpcbatch.fs import probe, publish, scan
from hpcbatch.fs.linked import linked_tree
from hpcbatch.pipeline.drawing import Node, as_svg
from hpcbatch.pipeline.graph import CANCELED, COMPLETED, FAILED, NOT_STARTED, pipeline_end
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.steps import recorded
from hpcbatch.steps.pipelinedir import PipelineDir, publish_document

Results = dict[str, dict[str, Any]]
DIED = "It ended without a word: killed by Slurm (memory, time limit, scancel) or with its node."


def stamp() -> str:
    """Now, UTC; information only."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def final_paths(job: PipelineDir, step: PipelineStep) -> dict[str, str]:
    """Where outputs of *step* get a name apart from the attempt that made them: output name to path."""
    found = {}
    for name, output in step.outputs.items():
        path = output.path
        if path is None and output.pipeline_output is not None:
            path = job.record.outputs[output.pipeline_output].path
        if path is not None:
            found[name] = path
    return found


def wait_for(job: PipelineDir, names: tuple[str, ...], only: Collection[str] | None) -> Results:
    """The results (of *only* these steps), looked at again while one of *names* may be hidden by the cache of a shared
    filesystem.
    """
    end = time.monotonic() + probe.visibility_timeout_s(job.root)
    known: Results = {}
    pause_s = 0.5
    while True:
        results = job.results(known, only=only)
        if all(name in results for name in names) or time.monotonic() + pause_s > end:
            return results
        time.sleep(pause_s)
        pause_s = min(10.0, 2 * pause_s)


def close(job: PipelineDir, round_number: int, names: tuple[str, ...]) -> Results:
    """The results with an end for each of *names*, whose processes are gone: one without a word has failed, or was
    never begun. Where a failure elsewhere decides nothing, only the results of *names* are read.
    """
    only = names if job.record.continue_on_step_failure else None
    results = wait_for(job, names, only)
    missing = [name for name in names if name not in results]
    if not missing:
        return results
    begun = job.attempts()
    for name in missing:
        job.publish_result(name, round_number, died(job, begun=name in begun))
    return job.results(only=only)


def died(job: PipelineDir, *, begun: bool) -> dict[str, Any]:
    """The result of a step whose process is gone."""
    if job.canceled():
        return {"status": CANCELED, "detail": "The job was canceled.", "ended": stamp()}
    detail = f"{DIED} What its process said is in {job.slurm}."
    return {"status": FAILED if begun else NOT_STARTED, "detail": detail, "ended": stamp()}


def finish(job: PipelineDir, round_number: int) -> dict[str, Any] | None:
    """The verdict, made if every step has ended; None while one has not. Outputs are published before it.

    Any number of processes may do this at once.
    """
    steps = job.record.steps
    if round_number != job.rounds()[-1] or len(job.have_results()) < len(steps):
        return None
    results = job.results()
    if any(step.name not in results for step in steps):
        return None
    ends = {name: result["status"] for name, result in results.items()}
    status, reason = pipeline_end(steps, ends, canceled=job.canceled())
    problems = publish_outputs(job, results)
    if problems and status == COMPLETED:
        status, reason = FAILED, problems[0]
    first = next((results[s.name] for s in steps if ends[s.name] == FAILED), None)
    if first is not None and status == FAILED:
        reason = f"{reason} First: step {first['step']!r}: {first.get('detail', '')}"
    document = {
        "schema": "hpcbatch.pipeline-verdict/1", "status": status, "reason": reason, "steps": ends, "ended": stamp(),
        "problems": problems,
    }  # fmt: skip
    recorded.close_root_run(job, succeeded=status == COMPLETED)
    publish.create_once(job.root / f"graph.{round_number}.svg", picture(job, results).encode())
    publish_document(job.root / f"verdict.{round_number}.json", document)
    return job.verdict()


def picture(job: PipelineDir, results: Mapping[str, Mapping[str, Any]]) -> str:
    """The graph with the ends of the steps as SVG."""
    nodes = [
        Node(s.name, str(results.get(s.name, {}).get("status", "")), _note(results.get(s.name, {})), s.dependencies)
        for s in job.record.steps
    ]
    return as_svg(job.record.name, nodes)


def _note(result: Mapping[str, Any]) -> str:
    return "reused" if result.get("reused") else f"exit code {result['exit_code']}" if result.get("exit_code") else ""


def publish_outputs(job: PipelineDir, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Give the outputs of completed steps their final names; what was in the way, in words."""
    problems = []
    for step in job.record.steps:
        result = results.get(step.name, {})
        if result.get("status") != COMPLETED:
            continue
        for name, path in final_paths(job, step).items():
            try:
                with publish.explained(path):
                    options = job.record.outputs[bound].options if (bound := step.outputs[name].pipeline_output) else {}
                    publish_output(job, Path(result["outputs"][name]), path, options)
            except (Conflict, SpecError, JobError) as error:
                problems.append(error.message)
    return problems


def publish_output(job: PipelineDir, source: Path, wanted: str, options: Mapping[str, Any]) -> None:
    """Give what lies at *source* the name *wanted*: in the job directory by a link, elsewhere by a copy; an address of
    another place is sent to, with *options*.

    Done already is fine: a file that is there with the same size was published by an earlier call. Raises Conflict
    for a name that something else has, JobError for a link that leads nowhere, or to a folder outside of *source*.
    """
    if "://" in wanted:
        from hpcbatch.dataio.bring import send  # fsspec, only where it is needed

        send(source, wanted, options)
        return
    target = Path(wanted)
    if target.is_relative_to(job.out):
        publish.make_directory(target.parent)
        publish.symlink_once(target, os.path.relpath(source, target.parent))
        return
    if not source.is_dir():
        _copy(source, target)
        return
    found = list(linked_tree(source))  # all of it, before anything is written
    publish.make_directory(target, 0o755)
    for inside, is_folder in found:
        if is_folder:
            publish.make_directory(target / inside, 0o755)
        else:
            _copy(source / inside, target / inside)


def _copy(source: Path, target: Path) -> None:
    publish.make_directory(target.parent, 0o755)
    if target.name not in scan.names(target.parent):
        if not source.is_file():
            return  # a uri_file that the command did not write
        with publish.staged(target.parent, 0o644) as (temp, file):
            publish.copy_bytes(source, file.fileno())
            os.fsync(file.fileno())
            first = publish.link_once(temp, target)
        if first:
            publish.fsync_directory(target.parent)
            return
    if not (target.is_file() and source.is_file() and target.stat().st_size == source.stat().st_size):
        raise Conflict(
            f"The output {str(target)!r} exists; nothing is overwritten.",
            hint="Choose another path for it, or remove what is there and run: hpcbatch job resume --name JOB",
            path=str(target),
        )
