"""Azure's own samples, run as they are published: `deploy-and-run.sh` with `az ml` meaning hpcbatch.

They are not part of this repository. HPCBATCH_AZUREML_EXAMPLES names a checkout of github.com/Azure/azureml-examples,
HPCBATCH_AZUREML_PYTHON an environment of their pins: scikit-learn==1.1.3 xgboost==2.0.3 numpy<2 pandas<3 pyarrow<18
mlflow-skinny>=2.22,<3. Without them this file is not collected;
tests/unit/cli/test_az_script.py and examples/ have the same shapes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from hpcbatch.spec.deployment import parse_deployment
from hpcbatch.spec.yamlfile import load

if TYPE_CHECKING:
    from tests.conftest import DevCluster

CHECKOUT = Path(os.environ["HPCBATCH_AZUREML_EXAMPLES"])
PYTHON = os.environ["HPCBATCH_AZUREML_PYTHON"]
MODELS = CHECKOUT / "cli" / "endpoints" / "batch" / "deploy-models"
POSITIVES = {"heart-unlabeled-0": 21, "heart-unlabeled-1": 31, "heart-unlabeled-2": 30, "heart-unlabeled-3": 3}
AZ = 'az() { case "$1" in ml) shift; "$HPCBATCH_PYTHON" -m hpcbatch "$@";; *) :;; esac; }\n'
# Two slips of the published scripts, which fail on Azure too: blanks around `=`, and a model in another folder.
SLIPS = (("JOB_NAME = ", "JOB_NAME="), ('--path "model"', "--path deployment-simple/model"))


def test_deployment_files_of_the_foundation_models_are_understood() -> None:
    """Both generations; what such a file leaves out comes from `--set`."""
    found = 0
    for path in sorted((CHECKOUT / "cli").rglob("*.y*ml")):
        text = path.read_text("utf-8")
        if re.search(r"schema: \S+/(modelBatch|batch)Deployment\.schema", text) and "type: pipeline" not in text:
            document = yaml.safe_load(text)
            sets = ["name=demo", "endpoint_name=heart-batch", "compute=c"]
            sets += [] if "model" in document else ["model=azureml:m:1"]
            parse_deployment(load(path).with_sets(sets))
            found += 1
    assert found > 20


def run(project: str, tmp_path: Path, data: Path, cluster: DevCluster) -> Path:
    """The folder in which the sample's script ran to its end; the address of the data is all that was changed."""
    folder = tmp_path / "project"
    shutil.copytree(MODELS / project, folder)
    script = (folder / "deploy-and-run.sh").read_text("utf-8")
    for wrong, right in SLIPS if (folder / "deployment-simple").is_dir() else SLIPS[:1]:
        script = script.replace(wrong, right)
    script = re.sub(r"https://\S+", str(data), script)
    script = script.split('echo "Create a new batch deployment with custom logic"')[0]  # it calls what mlflow lacks
    env = {**cluster.env, "HOME": str(tmp_path), "HPCBATCH_WORKSPACE": str(tmp_path / "ws"),
           "HPCBATCH_PYTHON": sys.executable}  # fmt: skip
    env.pop("XDG_CONFIG_HOME", None)
    mapped = f'"$HPCBATCH_PYTHON" -m hpcbatch environment map "*" --python {PYTHON}\n'
    done = subprocess.run(["bash", "-c", AZ + mapped + script], cwd=folder, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Job completed" in done.stdout
    return folder


@pytest.mark.slurm
def test_heart_classifier_mlflow(devcluster: DevCluster, tmp_path: Path) -> None:
    """An MLflow model without a script, on four tables: 85 of 303 hearts are ill."""
    folder = run("heart-classifier-mlflow", tmp_path, MODELS / "heart-classifier-mlflow" / "data", devcluster)
    rows = [line.split(",") for line in (folder / "named-outputs/score/predictions.csv").read_text().splitlines()]
    ill = Counter(Path(file).stem for _, prediction, file in rows if prediction == "1")
    assert (len(rows), ill) == (303, POSITIVES)
    assert [int(row) for row, _, file in rows if file.startswith("heart-unlabeled-3")] == [0, 1, 2]


@pytest.mark.slurm
def test_custom_outputs_parquet(devcluster: DevCluster, tmp_path: Path) -> None:
    """`summary_only`: the script writes a parquet file for each table into AZUREML_BI_OUTPUT_PATH."""
    import pandas as pd

    folder = run("custom-outputs-parquet", tmp_path, MODELS / "heart-classifier-mlflow" / "data", devcluster)
    found = {path.stem: int(pd.read_parquet(path).prediction.sum())
             for path in (folder / "named-outputs" / "score").glob("*.parquet")}  # fmt: skip
    assert found == POSITIVES
