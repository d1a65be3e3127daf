"""A pipeline rehearsed: its graph, what would be submitted for it, and what Slurm says to that."""

from __future__ import annotations

from typing import Any

from hpcbatch.errors import Conflict
from hpcbatch.fs import scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.operations.dry_run import rehearsal
from hpcbatch.operations.pipeline_jobs import checked_record
from hpcbatch.operations.pipelines import PipelineRequest, sealed_record
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.scheduler.base import Request
from hpcbatch.steps.pipelinedir import PipelineDir


def dry_run_pipeline(ws: Workspace, request: PipelineRequest) -> dict[str, Any]:
    """What `start_pipeline(ws, request)` would make and submit. Nothing is written and nothing is submitted; whether
    steps would be reused is not looked up.

    On Slurm that is one call to ask how long an array may be, and one `sbatch --test-only` for each script that differs
    in more than its name. Raises what `start_pipeline` raises.
    """
    record, _ = sealed_record(ws, request)
    folder = ws.jobs / record.user / record.name
    if record.name in scan.names(folder.parent):
        raise Conflict(
            f"A job named {record.name!r} exists.", hint="Choose another name, or leave it out.", name=record.name
        )
    checked_record(record, folder)
    found: dict[str, Any] = {
        "dry_run": True,
        "endpoint": record.endpoint,
        "deployment": record.deployment,
        "steps": len(record.steps),
        "jobs": {step.name: _shown(step) for step in record.steps},
        "inputs": {name: one.value for name, one in record.inputs.items()},
        "outputs": {name: one.path for name, one in record.outputs.items()},
        "warnings": list(record.warnings),
    }
    if record.steps[0].compute.kind == "slurm":
        found |= _slurm(PipelineDir(folder, record, sha256(record.to_bytes())))
    return found


def _shown(step: PipelineStep) -> dict[str, Any]:
    return {
        "type": step.kind, "component": step.component, "compute": step.compute.name,
        "instance_count": step.instance_count, "depends_on": list(step.dependencies),
    }  # fmt: skip


def _slurm(job: PipelineDir) -> dict[str, Any]:
    """What Slurm would be asked for, and what it says to that."""
    from hpcbatch.scheduler.slurm import SlurmScheduler, rendered
    from hpcbatch.steps.submission import requests_of  # submitit, only where Slurm is used

    many = len(job.record.steps) > 1
    planned = requests_of(job, SlurmScheduler().array_limit() if many else 1)
    distinct: dict[str, Request] = {}
    for request, _ in planned:
        distinct.setdefault(_alike(request), request)
    return {
        "slurm_jobs": sum(request.count or 1 for request, _ in planned),
        "slurm_calls": {"sbatch": len(planned), "scontrol": int(many)},
        "submissions": [
            {"name": request.name, "steps": steps, "array_tasks": request.count or 1, "after": list(request.after)}
            for request, steps in planned
        ],
        "scripts": [{"name": request.name, "text": rendered(request)} for request, _ in planned],
        "test_only": [rehearsal(request) for request in distinct.values()],
    }


def _alike(request: Request) -> str:
    about = [dict(request.slurm), request.count, request.nodes, request.tasks_per_node, request.srun]
    return sha256(canonical([*about, request.dependency]))
