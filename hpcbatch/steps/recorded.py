"""The MLflow run of an attempt, and what a step hands over to the registry of the workspace."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.steps.pipelinedir import AttemptDir, PipelineDir
from hpcbatch.tracking import filestore, registering
from hpcbatch.tracking.filestore import Run
from hpcbatch.worker.log import UserLog


def root_run(job: PipelineDir) -> Run:
    """The run that stands for the whole job."""
    return Run(job.record.uuid, job.record.display_name or job.record.name, job.record.experiment_name, job.record.user)


def run_of(job: PipelineDir, step: PipelineStep, attempt: AttemptDir) -> Run:
    """The run of one attempt at a step, nested in the job's."""
    run_id = sha256(canonical([job.record.uuid, attempt.path.name]))[:32]
    root = root_run(job)
    tags = {"hpcbatch.job": job.record.name, "hpcbatch.step": step.name}
    return Run(run_id, step.display_name or step.name, root.experiment, root.user, parent_id=root.run_id, tags=tags)


def close_run(job: PipelineDir, step: PipelineStep, attempt: AttemptDir, *, succeeded: bool) -> dict[str, str]:
    """What the result says of the run: nothing if the command did not use it."""
    run, store = run_of(job, step, attempt), attempt.path / "mlruns"
    if not filestore.was_used(store, run):
        publish.remove_tree(store)
        return {}
    filestore.end(store, run, succeeded=succeeded)
    filestore.collect(job.root / "mlruns", store, root_run(job))
    return {"run_id": run.run_id, "tracking_uri": (job.root / "mlruns").as_uri()}


def close_root_run(job: PipelineDir, *, succeeded: bool) -> None:
    """Say that the job's run has ended, where a step logged anything."""
    store, root = job.root / "mlruns", root_run(job)
    if filestore.experiment_id(root.experiment) in scan.names(store):
        filestore.end(store, root, succeeded=succeeded)


def register(job: PipelineDir, step: PipelineStep, result: Mapping[str, Any], log: UserLog) -> None:
    """Register what the completed *step* made and wants registered: its outputs, and models that its code registered
    with MLflow. What cannot be is said in the log; the step stays completed.
    """
    workspace = job.root.parent.parent.parent
    for name, output in step.outputs.items():
        wanted = output.register_as
        if output.pipeline_output is not None:
            wanted = wanted or job.record.outputs[output.pipeline_output].register_as
        if wanted:
            log.note(registering.register(workspace, wanted, output.type, result["outputs"][name]))
    if result.get("mlflow"):
        for model in filestore.registered_models(job.root / "steps" / result["attempt"] / "mlruns"):
            log.note(registering.register(workspace, model.name, "mlflow_model", str(model.path)))
