"""Azure's own samples of pipeline deployments, run as they are published, as test_azureml_examples.py does.

The environment needs, beside what is named there, joblib and setuptools.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import DevCluster

PIPELINES = Path(os.environ["HPCBATCH_AZUREML_EXAMPLES"]) / "cli" / "endpoints" / "batch" / "deploy-pipelines"
PYTHON = os.environ["HPCBATCH_AZUREML_PYTHON"]
AZ = 'set -e\naz() { case "$1" in ml) shift; "$HPCBATCH_PYTHON" -m hpcbatch "$@";; *) :;; esac; }\n'
PLACEHOLDER = re.compile(r"<(subscription|workspace|resource-group|location)>")  # which every user replaces
# A slip of the published script, which fails on Azure too: the output has another name.
SLIPS = (("--output-name transformations", "--output-name prepare_transformations"),)


def run(project: str, tmp_path: Path, cluster: DevCluster) -> tuple[Path, str]:
    """The folder in which the sample's script ran to its end, and what it printed."""
    folder = tmp_path / "project"
    subprocess.run(["cp", "-r", str(PIPELINES / project), str(folder)], check=True)
    script = PLACEHOLDER.sub("here", (folder / "deploy-and-run.sh").read_text("utf-8"))
    for wrong, right in SLIPS:
        script = script.replace(wrong, right)
    env = {**cluster.env, "HOME": str(tmp_path), "HPCBATCH_WORKSPACE": str(tmp_path / "ws"),
           "HPCBATCH_PYTHON": sys.executable}  # fmt: skip
    env.pop("XDG_CONFIG_HOME", None)
    mapped = f'"$HPCBATCH_PYTHON" -m hpcbatch environment map "*" --python {PYTHON}\n'
    done = subprocess.run(["bash", "-c", AZ + mapped + script], cwd=folder, env=env, capture_output=True, text=True,
                          check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


@pytest.mark.slurm
def test_hello_batch(devcluster: DevCluster, tmp_path: Path) -> None:
    """A component written in the pipeline; a deployment made of a job."""
    _, printed = run("hello-batch", tmp_path, devcluster)
    assert "Status: Completed" in printed
    assert '"component": "azureml:job-' in printed


@pytest.mark.slurm
def test_batch_scoring_with_preprocessing(devcluster: DevCluster, tmp_path: Path) -> None:
    """A registered component and one in a file, two models as inputs of steps, a literal with a default."""
    import pandas as pd

    folder, printed = run("batch-scoring-with-preprocessing", tmp_path, devcluster)
    assert "Status: Completed" in printed
    (table,) = (folder / "named-outputs" / "scores").glob("*")
    scores = pd.read_csv(table) if table.suffix == ".csv" else pd.read_parquet(table)
    data = pd.read_csv(next((folder / "data" / "unlabeled").glob("*.csv")))
    assert len(scores) == len(data)


@pytest.mark.slurm
def test_training_with_components(devcluster: DevCluster, tmp_path: Path) -> None:
    """Three outputs, a second deployment, the default changed, one deleted."""
    folder, _ = run("training-with-components", tmp_path, devcluster)
    assert (folder / "named-outputs" / "model" / "MLmodel").is_file()
    assert list((folder / "named-outputs" / "prepare_transformations").iterdir())
    assert (folder / "named-outputs" / "evaluation_results" / "test_predictions.csv").is_file()
