"""MLflow in scoring scripts: a store for each driver on the node, put together in the job directory at the end.

Nothing is made on the shared filesystem unless code logs something.
"""

from __future__ import annotations

import os
from pathlib import Path

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs import scan
from hpcbatch.ids import sha256
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.tracking import filestore, registering
from hpcbatch.tracking.filestore import Run
from hpcbatch.worker.log import UserLog

_OWN = "MLFLOW_TRACKING_URI"
_FOLDER = "mlflow"


def tracking_environment(job: JobDir, local: Path, driver: int) -> dict[str, str]:
    """The variables that make the code of *driver* log into a run of its own below the scratch folder *local*; {} where
    the deployment names a tracking server itself. A driver that takes the place of a dead one continues its run.
    """
    if _OWN in job.record.scoring.environment_variables:
        return {}
    store, run = local / _FOLDER / str(driver), _run(job, local, driver)
    if not scan.names(store):
        filestore.begin(store, run)
    return filestore.environment(store, run)


def collect(job: JobDir, local: Path, log: UserLog) -> None:
    """Put what was logged below *local* into the job directory, and register the models that were registered.

    What cannot be kept is said in the log and is no failure: the results are in the ledger, and nothing runs again.
    """
    try:
        _collect(job, local, log)
    except (OSError, HpcBatchError) as error:
        log.note(f"ERROR: what was logged with MLflow could not be kept: {error}")


def _collect(job: JobDir, local: Path, log: UserLog) -> None:
    for name in scan.names(local / _FOLDER):
        store, run = local / _FOLDER / name, _run(job, local, int(name))
        if not filestore.was_used(store, run):
            continue
        filestore.end(store, run, succeeded=True)
        filestore.collect(job.root / "mlruns", store, root_run(job), copy=True)
        filestore.end(job.root / "mlruns", root_run(job), succeeded=True)  # nothing is logged in the job's own run
        for model in filestore.registered_models(store):
            workspace = job.root.parent.parent.parent
            log.note(registering.register(workspace, model.name, "mlflow_model", str(model.path)))


def root_run(job: JobDir) -> Run:
    """The run that stands for the whole job."""
    record = job.record
    return Run(record.uuid, record.name, record.experiment_name, record.user, artifacts=job.root / "mlartifacts")


def _run(job: JobDir, local: Path, driver: int) -> Run:
    record, host = job.record, os.uname().nodename
    return Run(
        sha256(f"{record.uuid} {host} {local} {driver}".encode())[:32], f"process {driver} on {host}",
        record.experiment_name, record.user, parent_id=record.uuid, artifacts=job.root / "mlartifacts",
        tags={"hpcbatch.job": record.name},
    )  # fmt: skip
