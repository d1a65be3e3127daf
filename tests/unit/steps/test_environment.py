"""What the command of a step finds in its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.steps.distributed import spread
from hpcbatch.steps.environment import Given, step_environment
from hpcbatch.worker.environment import slurm_task
from tests.pipelines import Pipelines, step
from tests.unit.steps.test_pipelinedir import sealed


def environment(tmp_path: Path, one: PipelineStep, **environ: str) -> dict[str, str]:
    job = sealed(Pipelines(tmp_path), one)
    given = Given({"data": "/in"}, {"o": "/out"}, {"MLFLOW_RUN_ID": "1"})
    return step_environment(job, one, given, tmp_path / "shims", {"PATH": os.environ["PATH"], **environ})


def test_python_is_the_interpreter_of_the_environment_whatever_it_is_called(tmp_path: Path) -> None:
    odd = tmp_path / "odd dir"
    odd.mkdir()
    (odd / "python3.99").symlink_to(sys.executable)
    found = environment(tmp_path, step("a", "true", python=str(odd / "python3.99")))
    command = ["sh", "-c", "python -c 'import sys; print(sys.argv[0], sys.version_info[0])'; command -v python3"]
    done = subprocess.run(command, env=found, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["-c 3", str(tmp_path / "shims" / "python3")]


def test_what_led_us_does_not_lead_the_command(tmp_path: Path) -> None:
    ours = {"PYTHONPATH": "/x", "HPCBATCH_WORKSPACE": "/w", "VIRTUAL_ENV": "/v", "MLFLOW_TRACKING_URI": "http://old"}
    found = environment(tmp_path, step("a", "true", environment_variables={"MINE": "1"}), **ours, KEPT="2")
    assert not {"PYTHONPATH", "HPCBATCH_WORKSPACE", "MLFLOW_TRACKING_URI"} & found.keys()
    assert found.get("VIRTUAL_ENV") != "/v"
    assert (found["MINE"], found["KEPT"], found["MLFLOW_RUN_ID"]) == ("1", "2", "1")
    assert (found["AZURE_ML_INPUT_data"], found["AZURE_ML_OUTPUT_o"]) == ("/in", "/out")
    assert found["AZUREML_RUN_ID"].endswith(".a")


def test_each_rank_is_told_which_it_is() -> None:
    one = step("a", "true", distribution={"type": "pytorch", "process_count_per_instance": 3})
    commands, environments = spread(one, ["sh"], {"PATH": "/bin"}, slurm_task({}))
    assert len(commands) == 3
    assert [(e["RANK"], e["LOCAL_RANK"], e["WORLD_SIZE"]) for e in environments] == [
        ("0", "0", "3"), ("1", "1", "3"), ("2", "2", "3")
    ]  # fmt: skip
    assert len({e["MASTER_PORT"] for e in environments}) == 1


def test_tensorflow_has_its_cluster_in_tf_config() -> None:
    one = step("a", "true", distribution={"type": "tensorflow", "process_count_per_instance": 2})
    _, environments = spread(one, ["sh"], {"PATH": "/bin"}, slurm_task({}))
    assert '"index": 1' in environments[1]["TF_CONFIG"]


def test_mpi_takes_the_launcher_of_the_environment(tmp_path: Path) -> None:
    one = step("a", "true", distribution={"type": "mpi", "process_count_per_instance": 2})
    with pytest.raises(SpecError, match="no mpirun in its environment"):
        spread(one, ["sh"], {"PATH": str(tmp_path)}, slurm_task({}))
    launcher = tmp_path / "mpirun"
    launcher.write_text("#!/bin/sh\necho 'mpirun (Open MPI) 5.0'\n")
    launcher.chmod(0o755)
    commands, _ = spread(one, ["sh", "-c", "x"], {"PATH": str(tmp_path)}, slurm_task({}))
    assert commands == [[str(launcher), "--allow-run-as-root", "--oversubscribe", "-n", "2", "sh", "-c", "x"]]
    on_slurm = slurm_task({"SLURM_JOB_ID": "7"})
    commands, environments = spread(replace(one, instance_count=2), ["sh"], {"PATH": "/nowhere"}, on_slurm)
    assert commands[0][0] == "srun"
    assert "--ntasks=4" in commands[0]
    assert environments[0]["SLURM_OVERLAP"] == "1"


def test_another_distribution_is_refused() -> None:
    with pytest.raises(SpecError, match="'ray'"):
        spread(step("a", "true", distribution={"type": "ray"}), ["sh"], {"PATH": "/bin"}, slurm_task({}))
