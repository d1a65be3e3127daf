"""The two examples of pipelines, as they stand: copies of them, and an empty home."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import Environments, required_by

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture(scope="module")
def venv(environments: Environments) -> str:
    """What both need, and the MLflow example too, whose commands to make it are the same."""
    there = os.environ.get("PIPELINE_VENV") or os.environ.get("MLFLOW_MODEL_VENV")
    return there or str(environments(*required_by("training-pipeline")))


def _run(example: str, tmp_path: Path, venv: str) -> tuple[Path, str]:
    """The folder in which the example's script ran to its end, and what it printed."""
    folder = tmp_path / example
    generated = shutil.ignore_patterns(".venv", "data", "model", "transformations", "truth.csv", "named-outputs")
    shutil.copytree(EXAMPLES / example, folder, ignore=generated)
    pip = {
        "PIP_CACHE_DIR": str(Path("~/.cache/pip").expanduser()),
        "PIP_CONFIG_FILE": str(Path("~/.config/pip/pip.conf").expanduser()),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "HPCBATCH", "XDG_", "MLFLOW"))}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
    done = subprocess.run(
        ["bash", str(folder / "run.sh")],
        env=pip | kept | {"HOME": str(tmp_path), "PATH": path, "PIPELINE_VENV": venv},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return folder, done.stdout


def test_both_examples_need_the_same() -> None:
    needed = {(EXAMPLES / name / "requirements.txt").read_text() for name in ("training-pipeline", "scoring-pipeline")}
    assert needed == {(EXAMPLES / "mlflow-model" / "requirements.txt").read_text()}


@pytest.mark.slow
def test_the_training_pipeline_keeps_the_better_of_two_models(tmp_path: Path, venv: str) -> None:
    folder, printed = _run("training-pipeline", tmp_path, venv)
    report = json.loads((folder / "named-outputs" / "report" / "report.json").read_text())
    accuracies = {one["kind"]: one["accuracy"] for one in report["evaluations"]}
    assert set(accuracies) == {"forest", "linear"}
    assert report["chosen"] == max(accuracies, key=lambda kind: accuracies[kind])
    assert min(accuracies.values()) > 0.9
    assert (folder / "named-outputs" / "model" / "MLmodel").is_file()
    assert "Train a forest\tCompleted\nTrain a linear model\tCompleted" in printed


@pytest.mark.slow
def test_the_scoring_pipeline_scores_every_row_with_what_was_registered(tmp_path: Path, venv: str) -> None:
    folder, printed = _run("scoring-pipeline", tmp_path, venv)
    rows = 0
    for path in sorted((folder / "data" / "unlabeled").iterdir()):
        with open(folder / "named-outputs" / "scores" / path.name, newline="") as file:
            scored = list(csv.DictReader(file))
        assert {row["prediction"] for row in scored} <= {"malignant", "benign"}
        assert "mean_radius" in scored[0]
        rows += len(scored)
    assert rows == 285
    last = printed.splitlines()[-1]
    assert last.startswith("285 rows of 3 files scored")
    assert float(last.split()[6].rstrip("%")) > 90
    assert "Reused from step 'preprocess'" in printed  # the job tried it with the same code and data
