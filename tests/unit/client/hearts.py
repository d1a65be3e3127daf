"""A user's folder as Azure ML's samples have it, and an endpoint that answers."""

from __future__ import annotations

import sys
from pathlib import Path

from hpcbatch import (
    BatchClient,
    BatchEndpoint,
    CodeConfiguration,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
)

SCRIPT = """
import os

def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "model", "factor.txt")) as file:
        factor = float(file.read())

def run(mini_batch):
    rows = []
    for path in mini_batch:
        with open(path) as file:
            text = file.read()
        print("scoring", os.path.basename(path))
        if text == "slow":
            import time
            time.sleep(60)
        rows.append(f"{os.path.basename(path)} {float(text) * factor}")
    return rows
"""
DEPLOYMENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/modelBatchDeployment.schema.json
name: blue
endpoint_name: heart-batch
type: model
model: azureml:heart@latest
code_configuration:
  code: code
  scoring_script: score.py
environment:
  name: heart-env
  image: mcr.microsoft.com/azureml/openmpi:latest
  conda_file: conda.yaml
compute: azureml:local
resources:
  instance_count: 1
settings:
  mini_batch_size: 2
  error_threshold: 0
  retry_settings: {max_retries: 0, timeout: 300}
"""


def make_project(folder: Path) -> Path:
    """endpoint.yml, deployment.yml, code/, model/ and data/."""
    for name in ("code", "model", "data"):
        (folder / name).mkdir(parents=True)
    (folder / "endpoint.yml").write_text("name: heart-batch\ndescription: Scores hearts\ntags: {team: cardio}\n")
    (folder / "deployment.yml").write_text(DEPLOYMENT)
    (folder / "conda.yaml").write_text("name: e\ndependencies:\n- python=3.11\n")
    (folder / "code" / "score.py").write_text(SCRIPT)
    (folder / "model" / "factor.txt").write_text("2")
    for number in range(5):
        (folder / "data" / f"{number}.txt").write_text(str(number))
    return folder


def set_up(client: BatchClient, project: Path) -> BatchClient:
    """The endpoint heart-batch with its default deployment blue."""
    client.batch_endpoints.create_or_update(BatchEndpoint(name="heart-batch", tags={"team": "cardio"}))
    model = client.models.create_or_update(Model(name="heart", path=project / "model"))
    client.batch_deployments.create_or_update(
        ModelBatchDeployment(
            name="blue",
            endpoint_name="heart-batch",
            model=model,
            code_configuration=CodeConfiguration(project / "code", "score.py"),
            environment=Environment(name="here", image="none", python=sys.executable),
            compute="local",
            settings=ModelBatchDeploymentSettings(
                mini_batch_size=2, error_threshold=0, retry_settings={"max_retries": 0}
            ),
        ),
        set_default=True,
    )
    return client
