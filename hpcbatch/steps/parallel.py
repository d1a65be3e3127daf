"""A step of `type: parallel`: an ordinary mini-batch job below the step, run by the local engine where the step runs.

Its plan is made when the step's turn comes, because its input may be what another step wrote. All attempts at the step
continue the one job, so what a preempted attempt finished is not run again: the ledger knows.
"""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcbatch.dataio.addresses import parse_address
from hpcbatch.dataio.inputs import Items, list_address, list_items
from hpcbatch.errors import SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.pipeline.command import Value, render
from hpcbatch.planning.plan import by_partition, counts_by_size, cut, group_count, mini_batch_count
from hpcbatch.records.job import CodePart, ComputePart, JobRecord, ScoringPart
from hpcbatch.records.pipeline import ParallelPart, PipelineStep
from hpcbatch.records.plan import pack_manifest, pack_plan
from hpcbatch.steps.distributed import cpus_of
from hpcbatch.steps.pipelinedir import PipelineDir
from hpcbatch.steps.values import Source
from hpcbatch.worker.environment import SlurmTask

INIT_TIMEOUT_S = 3600.0
ROWS = "parallel_run_step.txt"  # Azure ML's default for append_row_file_name


@dataclass(frozen=True)
class Engine:
    """Where the mini-batch job of a step is, and where its outputs lie whatever attempt makes them."""

    folder: Path
    outputs: Path


def engine_of(job: PipelineDir, step: PipelineStep, round_number: int) -> Engine:
    """The places of a parallel step in a round."""
    steps = job.root / "steps"
    return Engine(steps / f"{step.name}.e{round_number}", steps / f"{step.name}.o{round_number}")


def environment(step: PipelineStep, slurm: SlurmTask, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of the engine. On several nodes it starts the worker of each group on the node of that number;
    the worker is told nothing of Slurm: its requeue is the business of the step.
    """
    if step.instance_count == 1 or not slurm.job_id:
        return dict(environ)
    forgotten = ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID")
    launcher = ["srun", f"--jobid={slurm.job_id}", "--overlap", "--nodes=1", "--ntasks=1", "--relative={group}",
                "--export=ALL", *cpus_of(step), "env", *(w for name in forgotten for w in ("-u", name))]  # fmt: skip
    return {**environ, "HPCBATCH_WORKER_LAUNCHER": json.dumps(launcher)}


def prepare(
    job: PipelineDir, step: PipelineStep, engine: Engine, inputs: Mapping[str, Source], outputs: Mapping[str, Value]
) -> JobDir:
    """The mini-batch job of *step*: made by its first attempt, found by the later ones. Raises SpecError."""
    part = step.parallel
    assert part is not None
    if engine.folder.name not in scan.names(engine.folder.parent):
        texts = {name: source.value for name, source in inputs.items()}
        arguments = shlex.split(render(part.program_arguments, texts, outputs))
        jobdir.create(engine.folder, _draft(job, step, engine, inputs[part.input], arguments))
    return jobdir.open_job(engine.folder)


def _draft(job: PipelineDir, step: PipelineStep, engine: Engine, source: Source, arguments: list[str]) -> Draft:
    part, code = step.parallel, step.code
    assert part is not None
    if code is None:
        raise SpecError(
            f"The parallel step {step.name!r} has no code.", hint="Give its task a `code` folder.", field="task.code"
        )
    path = source.value.text
    kind, items = _listed(source)
    items, counts = _cut(step.name, part, items)
    size = 0 if counts else part.mini_batch_size
    manifest = pack_manifest(items.names, root=items.root, mini_batch_size=size, stamps=items.stamps, counts=counts)
    count = len(counts) or mini_batch_count(len(items.names), size)
    groups = group_count(count, at_once=step.instance_count)
    record = JobRecord(
        name=f"{job.record.name}.{step.name}",
        uuid=sha256(canonical([job.record.uuid, engine.folder.name]))[:32],
        endpoint=job.record.endpoint or "", deployment=job.record.deployment or "",
        deployment_revision=job.record.deployment_revision, experiment_name=job.record.experiment_name,
        created=job.record.created, user=job.record.user, manifest_sha256=sha256(manifest), items=len(items.names),
        mini_batches=count, groups=groups, input_path=path, input_type=kind, output_folder=str(engine.folder / "out"),
        request_sha256="", scoring=_scoring(step, part, size),
        compute=ComputePart(step.compute.name, "local", "dedicated", groups, {}),
        code=CodePart(str(job.root / code.file), code.digest, part.entry_script),
        properties={"program_arguments": arguments}, remote_input=items.remote, travelling=job.record.travelling,
        secrets=job.record.secrets,
    )  # fmt: skip
    return Draft(record, manifest, pack_plan(0, cut([(0, count)], groups)), None)


def _listed(source: Source) -> tuple[str, Items]:
    """The items of the input that is cut, and whether it is a file or a folder. Raises SpecError, FilesystemError."""
    path = source.value.text
    if not source.is_address:
        kind = "uri_file" if Path(path).is_file() else "uri_folder"
        return kind, list_items(path, kind)
    kind = "uri_file" if source.type == "uri_file" else "uri_folder"
    return kind, list_address(parse_address(path, field="inputs", listed=kind != "uri_file"), kind, source.options)


def _cut(step: str, part: ParallelPart, items: Items) -> tuple[Items, list[int]]:
    """*items* in the order in which they are cut, and how many each mini-batch has; [] for equal ones."""
    if part.partition_keys:
        try:
            found = by_partition(items.names, part.partition_keys)
        except LookupError as error:
            keys, folders = ", ".join(part.partition_keys), "".join(f"{key}=VALUE/" for key in part.partition_keys)
            raise SpecError(
                f"Item {error.args[0]!r} of the parallel step {step!r} is in no partition by {keys}.",
                hint=f"Put it into folders such as {folders}, or leave out partition_keys.",
                field="partition_keys", found=error.args[0], allowed="folders KEY=VALUE",
            ) from error  # fmt: skip
        order = [number for members in found for number in members]
        stamps = None if items.stamps is None else [items.stamps[number] for number in order]
        ordered = replace(items, names=[items.names[number] for number in order], stamps=stamps)
        return ordered, [len(members) for members in found]
    if part.mini_batch_bytes:
        return items, counts_by_size(_sizes(items), part.mini_batch_bytes)
    return items, []


def _sizes(items: Items) -> Iterator[int]:
    if items.stamps is not None:
        yield from (int(stamp.partition(b" ")[0] or 0) for stamp in items.stamps)
        return
    root = os.fsencode(items.root)
    with publish.explained(items.root):
        for name in items.names:
            yield os.stat(root + name).st_size


def _scoring(step: PipelineStep, part: ParallelPart, mini_batch_size: int) -> ScoringPart:
    return ScoringPart(
        python=step.python, environment_name=step.environment_name, environment_origin=step.environment_origin,
        mini_batch_size=mini_batch_size, max_concurrency_per_instance=part.max_concurrency_per_instance,
        error_threshold=part.error_threshold, max_retries=part.max_retries, timeout_s=part.timeout_s,
        init_timeout_s=INIT_TIMEOUT_S, output_action="append_row" if part.append_row_to else "summary_only",
        output_file_name=ROWS, logging_level=part.logging_level, environment_variables=step.environment_variables,
    )  # fmt: skip


def take_rows(step: PipelineStep, engine: JobDir, outputs: Mapping[str, Path]) -> None:
    """Give the merged rows of a completed job their place in the output that `append_row_to` names."""
    part, verdict = step.parallel, engine.verdict() or {}
    if part is None or part.append_row_to is None or "output" not in verdict:
        return
    target = outputs[part.append_row_to]
    if step.outputs[part.append_row_to].type != "uri_file":
        target = target / ROWS
    publish.link_once(Path(verdict["output"]["path"]), target)


def failure(part: ParallelPart, verdict: Mapping[str, Any] | None) -> str:
    """Why the step failed, given the end of its mini-batch job; empty if it did not."""
    if verdict is None:
        return "The mini-batch job ended without a verdict."
    if not verdict["completed"]:
        return str(verdict.get("reason", "The mini-batch job failed."))
    limit, failed = part.mini_batch_error_threshold, int(verdict["mini_batches_failed"])
    if 0 <= limit < failed:
        return f"The number of failed mini-batches is {failed}, which exceeds mini_batch_error_threshold {limit}."
    return ""
