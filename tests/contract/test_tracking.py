"""MLflow in user code, without set-up: many processes log at once, and everything is found again by an MLflow."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.operations import assets, jobs
from tests.contract.test_mlflow import samples  # noqa: F401  # the virtual environment with MLflow
from tests.pipelines import Pipelines, logs, short_folder, step
from tests.site import Site

pytestmark = pytest.mark.slow

TRAIN = """
import mlflow
from sklearn.linear_model import LogisticRegression
mlflow.autolog(log_models=False)
with mlflow.start_run() as run:
    model = LogisticRegression().fit([[0], [1], [2], [3]], [0, 0, 1, 1])
    mlflow.log_metric("mine", 1.5)
    mlflow.log_text("a note", "note.txt")
    with mlflow.start_run(nested=True, run_name="inner"):
        mlflow.log_metric("theirs", 2)
mlflow.sklearn.log_model(model, name="model", registered_model_name="shared", serialization_format="cloudpickle")
print("RUN", run.info.run_id)
"""
SCORE = """
import os
import mlflow
def init():
    mlflow.log_param("pid", os.getpid())
def run(mini_batch):
    mlflow.log_metric("items", len(mini_batch))
    return [os.path.basename(path) for path in mini_batch]
"""
FIND = """
import json, sys, mlflow
mlflow.set_tracking_uri(sys.argv[1])
runs = mlflow.search_runs(search_all_experiments=True, output_format="list")
print(json.dumps([{"id": r.info.run_id, "status": r.info.status, "metrics": r.data.metrics, "params": r.data.params,
    "parent": r.data.tags.get("mlflow.parentRunId"), "name": r.info.run_name,
    "files": [f.path for f in mlflow.MlflowClient().list_artifacts(r.info.run_id)]} for r in runs]))
"""


def runs_in(uri: str, python: Path) -> list[dict[str, Any]]:
    """Every run that an MLflow of its own finds."""
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}
    done = subprocess.run([python, "-c", FIND, uri], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_steps_log_and_register_at_once(samples: Path) -> None:  # noqa: F811
    python = samples / "venv" / "bin" / "python"
    with short_folder("hpcbatch tracking-") as folder:
        pipelines = Pipelines(Path(folder))
        files = pipelines.keep({"train.py": TRAIN})
        steps = [
            step(f"s{n}", "python train.py", files=files, python=str(python), environment_variables={"N": str(n)})
            for n in range(3)
        ]
        job = pipelines.run(*steps, timeout_s=900)
        assert job.verdict()["status"] == "Completed", logs(job)
        shown = jobs.show_job(pipelines.ws, job.record.name)
        runs = {run["id"]: run for run in runs_in(shown["mlflow"]["tracking_uri"], python)}
        assert {run["status"] for run in runs.values()} == {"FINISHED"}
        children = [shown["jobs"][f"s{n}"]["mlflow"]["run_id"] for n in range(3)]
        for child in children:
            assert runs[child]["parent"] == shown["mlflow"]["run_id"]
            assert runs[child]["metrics"]["mine"] == 1.5
            assert "training_score" in runs[child]["metrics"], "autolog"
            assert "note.txt" in runs[child]["files"]
        assert sorted(run["parent"] for run in runs.values() if run["name"] == "inner") == sorted(children)
        registered = assets.list_models(pipelines.ws, name="shared")
        assert sorted(model["version"] for model in registered) == ["1", "2", "3"]
        assert {model["type"] for model in registered} == {"mlflow_model"}


def test_scoring_scripts_log_at_once(samples: Path, tmp_path: Path) -> None:  # noqa: F811
    python = samples / "venv" / "bin" / "python"
    site = Site(tmp_path, "local").set_up()
    name = site.deploy(SCORE, python=python, instances=2, mini_batch_size=1, max_concurrency_per_instance=2)
    ended = site.run(name, site.data(8), timeout_s=900)
    assert ended.status == "Completed", ended.log
    found = ended.job["mlflow"]
    runs = runs_in(found["tracking_uri"], python)
    mine = [run for run in runs if run["parent"] == found["run_id"]]
    assert len(mine) == 4
    assert all(run["params"].keys() == {"pid"} for run in mine)
    assert {run["metrics"].get("items", 1.0) for run in mine} == {1.0}  # who is slow gets no mini-batch
    assert any(run["metrics"] for run in mine)
    assert {run["status"] for run in runs} == {"FINISHED"}


def test_a_job_that_logs_nothing_leaves_nothing(tmp_path: Path) -> None:
    site = Site(tmp_path, "local").set_up()
    ended = site.run(site.deploy(), site.data(2))
    assert "mlflow" not in ended.job
    assert not list(site.root(ended.job["name"]).glob("ml*"))
