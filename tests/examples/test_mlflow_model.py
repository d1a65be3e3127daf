"""The example of an MLflow model without a script, as it stands: a copy of it, and an empty home."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.environments import make_environment, required_by

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "mlflow-model"


@pytest.mark.slow
def test_every_row_is_predicted_once_in_the_order_of_the_files(tmp_path: Path) -> None:
    """predictions.csv has each row of each file, those of the nested folder included, and the model is a real one."""
    folder = tmp_path / "mlflow-model"
    generated = shutil.ignore_patterns(".venv", "data", "model", "truth.csv", "named-outputs", "__pycache__")
    shutil.copytree(EXAMPLE, folder, ignore=generated)
    pip = {
        "PIP_CACHE_DIR": str(Path("~/.cache/pip").expanduser()),
        "PIP_CONFIG_FILE": str(Path("~/.config/pip/pip.conf").expanduser()),
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH", "HPCBATCH", "XDG_", "MLFLOW"))}
    path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
    done = subprocess.run(
        ["bash", str(folder / "run.sh")],
        env=pip | kept | {"HOME": str(tmp_path), "PATH": path, "MLFLOW_MODEL_VENV": _venv(folder)},
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    with open(folder / "named-outputs" / "score" / "predictions.csv", newline="") as file:
        predictions = list(csv.reader(file))
    with open(folder / "truth.csv", newline="") as file:
        truth = {(name, row): label for name, row, label in csv.reader(file)}
    assert [(name, row) for row, _, name in predictions] == list(truth)
    assert len(predictions) == 89
    assert sum(truth[name, row] == label for row, label, name in predictions) > 0.9 * len(predictions)
    assert "89 rows of 5 files scored" in done.stdout.splitlines()[-1]


def _venv(folder: Path) -> str:
    """One that is there, or a new one: the example's own commands make it again, and find nothing to download."""
    if there := os.environ.get("MLFLOW_MODEL_VENV"):
        return there
    make_environment(folder / ".venv", *required_by("mlflow-model"))
    return str(folder / ".venv")
