"""The only reader of the environment on the node: which array task this is, what the driver may see."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.records.job import ScoringPart

_NOT_FOR_USER_CODE = ("PYTHON", "HPCBATCH_", "SUBMITIT_")


@dataclass(frozen=True)
class SlurmTask:
    """This process as Slurm knows it; empty strings outside Slurm."""

    job_id: str
    array_job_id: str
    array_task_id: str
    restart_count: str
    node: str
    cores: int  # of this task on its node
    gpus: int
    memory_mib: int  # 0 if Slurm does not say
    limit_s: float  # from its start to its time limit; 0 if Slurm does not say, as before 23.02

    @property
    def requeue_id(self) -> str:
        """The id that names this array task alone: the plain job id of a task may be that of the whole array."""
        return f"{self.array_job_id}_{self.array_task_id}" if self.array_job_id else self.job_id


def slurm_task(environ: Mapping[str, str] = os.environ) -> SlurmTask:
    """What Slurm says about this process."""
    cores = _number(environ, "SLURM_CPUS_ON_NODE") or 1
    return SlurmTask(
        job_id=environ.get("SLURM_JOB_ID", ""),
        array_job_id=environ.get("SLURM_ARRAY_JOB_ID", ""),
        array_task_id=environ.get("SLURM_ARRAY_TASK_ID", ""),
        restart_count=environ.get("SLURM_RESTART_COUNT", "0"),
        node=environ.get("SLURMD_NODENAME", os.uname().nodename),
        cores=cores,
        gpus=_gpus(environ),
        memory_mib=_number(environ, "SLURM_MEM_PER_NODE") or _number(environ, "SLURM_MEM_PER_CPU") * cores,
        limit_s=_limit_s(environ),
    )


def _number(environ: Mapping[str, str], name: str) -> int:
    text = environ.get(name, "")
    return int(text) if text.isdecimal() and text.isascii() else 0


def _gpus(environ: Mapping[str, str]) -> int:
    """SLURM_GPUS_ON_NODE where Slurm knows them as such, else what it made visible."""
    devices = [device for device in environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device.strip()]
    return _number(environ, "SLURM_GPUS_ON_NODE") or (len(devices) if environ.get("SLURM_JOB_ID") else 0)


def _limit_s(environ: Mapping[str, str]) -> int:
    """Both ends by the controller's clock: this node's may show another year."""
    start, end = _number(environ, "SLURM_JOB_START_TIME"), _number(environ, "SLURM_JOB_END_TIME")
    return max(0, end - start) if start else 0


def driver_environment(
    job: JobDir, model: Path | None, number: int, output: str, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of driver *number*: the task's own without our and Python's variables, then what scripts rely
    on; *output* is its folder for files.
    """
    scoring = job.record.scoring
    secret = job.record.secrets
    found = {k: v for k, v in environ.items() if not k.startswith(_NOT_FOR_USER_CODE) and k not in secret}
    found["PATH"] = os.pathsep.join([str(Path(scoring.python).parent), found.get("PATH", os.defpath)])
    found |= {
        "AZUREML_BI_OUTPUT_PATH": output,
        "AZUREML_RUN_ID": job.record.name,
        "AZUREML_EXPERIMENT_NAME": job.record.experiment_name,
        "AZUREML_NODE_COUNT": str(job.record.compute.throttle),
    }
    if model is not None:
        found["AZUREML_MODEL_DIR"] = str(model)
    devices = found.get("CUDA_VISIBLE_DEVICES", "")
    if devices and scoring.max_concurrency_per_instance > 1:
        mine = devices.split(",")[number : number + 1]
        found["CUDA_VISIBLE_DEVICES"] = mine[0] if mine else ""
    return found | dict(scoring.environment_variables)


def driver_arguments(scoring: ScoringPart) -> list[str]:
    """What scripts find in sys.argv, as Azure ML's own driver leaves it there (they parse `--logging_level`)."""
    return [
        "--scoring_module_name", "", "--mini_batch_size", str(scoring.mini_batch_size),
        "--error_threshold", str(scoring.error_threshold), "--output_action", scoring.output_action,
        "--logging_level", scoring.logging_level, "--run_invocation_timeout", f"{scoring.timeout_s:g}",
        "--run_max_try", str(scoring.max_retries), "--append_row_file_name", scoring.output_file_name,
        "--process_count_per_node", str(scoring.max_concurrency_per_instance),
    ]  # fmt: skip
