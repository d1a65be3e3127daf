"""What the command of a step finds in its environment."""

from __future__ import annotations

import json
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


@pytest.mark.parametrize("kind", ["tensorflow", "pytorch"])
def test_the_ranks_of_several_nodes_are_told_where_the_others_are(tmp_path: Path, kind: str) -> None:
    """Under srun, which says to each process only which one it is."""
    one = step("a", "true", instance_count=2, distribution={"type": kind, "process_count_per_instance": 2})
    (command,), (environment,) = spread(one, ["env"], {"PATH": "/bin:/usr/bin"}, slurm_task({"SLURM_JOB_ID": "7"}))
    (tmp_path / "scontrol").write_text("#!/bin/sh\necho n1; echo n2\n")
    (tmp_path / "scontrol").chmod(0o755)
    srun = {"SLURM_PROCID": "2", "SLURM_LOCALID": "0", "SLURM_NODEID": "1", "SLURM_STEP_NODELIST": "n[1-2]"}
    environment |= {**srun, "PATH": f"{tmp_path}:/bin:/usr/bin"}
    done = subprocess.run(command[command.index("sh") :], env=environment, capture_output=True, text=True, check=True)
    found = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert (found["RANK"], found["LOCAL_RANK"], found["NODE_RANK"], found["MASTER_ADDR"]) == ("2", "0", "1", "n1")
    port = int(found["MASTER_PORT"])
    workers = [f"n1:{port}", f"n1:{port + 1}", f"n2:{port}", f"n2:{port + 1}"]
    expected = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": 2}}
    assert json.loads(found.get("TF_CONFIG", "null")) == (expected if kind == "tensorflow" else None)


def test_without_slurm_the_nodes_of_a_step_are_parts_of_this_machine() -> None:
    """Azure's samples 6a_tf_hello_world and 6b_pytorch_hello_world on a compute of the type local."""
    one = step("a", "true", instance_count=2, distribution={"type": "tensorflow", "process_count_per_instance": 2})
    commands, environments = spread(one, ["sh"], {"PATH": "/bin"}, slurm_task({}))
    assert commands == [["sh"]] * 4
    names = ("RANK", "NODE_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE")
    assert [tuple(e[name] for name in names) for e in environments] == [
        ("0", "0", "0", "2", "4"), ("1", "0", "1", "2", "4"), ("2", "1", "0", "2", "4"), ("3", "1", "1", "2", "4")
    ]  # fmt: skip
    assert {len(json.loads(e["TF_CONFIG"])["cluster"]["worker"]) for e in environments} == {4}


def test_two_jobs_of_one_machine_do_not_meet_at_one_port() -> None:
    """Without Slurm nothing but the process tells two steps of one name apart."""
    code = (
        "from tests.pipelines import step; from hpcbatch.steps.distributed import spread; "
        "from hpcbatch.worker.environment import slurm_task; "
        "one = step('train', 'true', distribution={'type': 'pytorch'}); "
        "print(spread(one, ['x'], {'PATH': '/bin'}, slurm_task({}))[1][0]['MASTER_PORT'])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    assert len({run.stdout for run in runs}) > 1


@pytest.mark.parametrize(
    ("more", "words"), [({"parameter_server_count": 1}, "parameter servers"), ({"worker_count": 3}, "wants 3 workers")]
)
def test_what_tensorflow_is_promised_it_gets_or_is_refused(more: dict[str, int], words: str) -> None:
    """A cluster of another size than the step asked for would wait for workers that never come."""
    one = step("a", "true", distribution={"type": "tensorflow", "process_count_per_instance": 2, **more})
    with pytest.raises(SpecError, match=words):
        spread(one, ["sh"], {"PATH": "/bin"}, slurm_task({}))
    as_many = replace(one, distribution={"type": "tensorflow", "process_count_per_instance": 2, "worker_count": 2})
    assert len(spread(as_many, ["sh"], {"PATH": "/bin"}, slurm_task({}))[0]) == 2


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
