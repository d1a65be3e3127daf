"""hpcbatch as a peer of the benchmark: register an endpoint and a deployment, invoke it, let Slurm do the rest.

The workloads are not files. W2 has mini-batches of ten files of a folder, which is what hpcbatch takes; for W1
and W3 each mini-batch is one empty file whose name is its range of rows, made once per size beside the input data.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from bench import Adapter

CODE = Path(__file__).resolve().parent.parent / "code"


def items(job):
    """The folder to score and the mini-batch size that cuts it as the benchmark does."""
    if job.workload == "W2":
        return Path(job.data) / "in", 10
    folder = Path(os.environ.get("HPCBATCH_BENCH_ITEMS", job.root)) / f"items-{job.workload}-{job.n}"
    if not folder.exists():
        make_items(job, folder)
    return folder, 1


def make_items(job, folder):
    """One empty file for each mini-batch, named after its rows."""
    temp = Path(f"{folder}.tmp")
    temp.mkdir(parents=True)
    for start, stop in job.batches():
        (temp / f"{start:08d}-{stop:08d}").touch()
    temp.rename(folder)


def run(job):
    """The user's command."""
    from hpcbatch.operations import assets, deployments, endpoints
    from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
    from hpcbatch.operations.workspace import Workspace

    ws = Workspace(job.dir("ws"))
    folder, size = items(job)
    deployment = job.dir("deployment") / "deployment.yml"
    import yaml

    deployment.write_text(
        yaml.safe_dump(
            {
                "name": "bench", "endpoint_name": "bench", "type": "model", "compute": "cluster",
                "model": {"name": "none", "path": str(CODE / "score.py")},
                "code_configuration": {"code": str(CODE), "scoring_script": "score.py"},
                "environment": {"name": "bench", "python": sys.executable},
                "resources": {"instance_count": job.workers},
                "settings": {
                    "mini_batch_size": size, "output_file_name": "predictions.csv", "output_action": "append_row",
                    "environment_variables": {"PYTHONPATH": os.environ["PYTHONPATH"], "BENCH_SPEC": str(job.spec)},
                },
            }
        )
    )  # fmt: skip
    tier = "low_priority" if job.partition == "preempt" else "dedicated"
    assets.create_compute(ws, name="cluster", type="slurm", sets=[f"partition={job.partition}", f"tier={tier}"])
    endpoints.create_endpoint(ws, name="bench")
    deployments.create_deployment(ws, file=str(deployment), set_default=True)
    invoke(ws, InvokeRequest("bench", input=InputRef(str(folder)), output_path=job.root))


ADAPTERS = {"hpcbatch": Adapter(run, ("W1", "W2", "W3"))}
