"""A command line on an empty workspace, and a user's folder as Azure ML's samples have it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.main import main
from tests.unit.cli.conftest import cli, workspace

__all__ = ["cli", "workspace"]
Cli = Callable[..., Any]

FILES = {
    "code/batch_driver.py": "import os\n\n\ndef run(batch):\n    return [os.path.basename(p) for p in batch]\n",
    "model/model.pkl": "weights",
    "mlflow/MLmodel": "flavors:\n  python_function: {loader_module: mlflow.sklearn}\n",
    "environment/conda.yaml": "name: e\ndependencies:\n- python=3.8.5\n- pip: [pandas]\n",
    "data/a.csv": "1\n",
    "data/b.csv": "2\n",
    "data/c.csv": "3\n",
    "endpoint.yml": "name: heart-batch\nauth_mode: aad_token\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: code, models, data, an environment file."""
    folder = tmp_path / "project"
    _write(folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with an endpoint, two models, an environment and a compute, to be copied."""
    folder = tmp_path_factory.mktemp("furnished")
    _write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for line in (
            "batch-endpoint create -f endpoint.yml",
            "model create --name heart --path model --type custom_model",
            "model create --name flow --path mlflow --type mlflow_model",
            f"environment create -n here --python {sys.executable}",
            "compute create -n batch-cluster --type amlcompute --min-instances 0 --max-instances 5",
        ):
            assert main([*line.split(), "-w", str(folder / "ws"), "-o", "none"]) == 0
    return folder / "ws"


@pytest.fixture
def az(cli: Cli, workspace: Path, project: Path, furnished: Path) -> Cli:
    """A command line that asserts success, on a workspace that has something in it."""
    shutil.copytree(furnished, workspace)

    def call(*argv: str) -> Any:
        ran = cli(*argv)
        assert ran.exit_code == 0, (argv, ran.err)
        return ran

    return call


def _write(folder: Path) -> None:
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
