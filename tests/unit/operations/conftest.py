"""A workspace, and a user's folder with everything a deployment needs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcbatch.operations.assets import create_compute, create_model, map_environment
from hpcbatch.operations.endpoints import create_endpoint
from hpcbatch.operations.workspace import Workspace
from tests.unit.operations.pipelines import write_project

DEPLOYMENT = """\
name: blue
endpoint_name: heart-batch
type: model
model: azureml:heart@latest
code_configuration:
  code: code
  scoring_script: batch_driver.py
environment:
  name: heart-env
  image: mcr.microsoft.com/azureml/openmpi:latest
  conda_file: environment/conda.yaml
compute: azureml:local
settings:
  mini_batch_size: 2
"""


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """endpoint.yml, deployment.yml, code/, model/ and environment/ as in Azure ML's samples."""
    folder = tmp_path / "project"
    for name in ("code", "model", "environment"):
        (folder / name).mkdir(parents=True)
    (folder / "endpoint.yml").write_text("name: heart-batch\ndescription: Scores hearts\ntags: {team: cardio}\n")
    (folder / "deployment.yml").write_text(DEPLOYMENT)
    (folder / "code" / "batch_driver.py").write_text("def init(): pass\ndef run(mini_batch): return mini_batch\n")
    (folder / "model" / "model.pkl").write_bytes(b"weights")
    (folder / "environment" / "conda.yaml").write_text("name: e\ndependencies:\n- python=3.8.5\n- pip: [pandas]\n")
    return folder


@pytest.fixture
def ready(ws: Workspace, project: Path) -> Workspace:
    """A workspace that holds the endpoint and the model."""
    create_endpoint(ws, file=project / "endpoint.yml")
    create_model(ws, name="heart", path=str(project / "model"))
    return ws


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    """A project with a pipeline, the component of one of its steps, and a deployment."""
    return write_project(tmp_path / "graph")


@pytest.fixture
def stocked(ws: Workspace, graph: Path) -> Workspace:
    """A workspace with all that the pipeline of that project names."""
    create_model(ws, name="heart", type="mlflow_model", path=str(graph / "model"))
    create_compute(ws, name="batch-cluster", type="local")
    map_environment(ws, "*", sys.executable)
    create_endpoint(ws, name="heart-batch")
    return ws
