"""What an invocation would run."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from hpcbatch.errors import FileDamaged, NotFound, SpecError
from hpcbatch.operations import assets
from hpcbatch.operations.deployments import create_deployment, update_deployment
from hpcbatch.operations.endpoints import update_endpoint
from hpcbatch.operations.resolve import build_environment, chosen_environment, resolve_compute, resolve_deployment
from hpcbatch.operations.workspace import Workspace


@pytest.fixture
def deployed(ready: Workspace, project: Path) -> Workspace:
    create_deployment(ready, file=project / "deployment.yml")
    return ready


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def _sbatch(folder: Path) -> None:
    (folder / "sbatch").write_text("#!/bin/sh\n")
    (folder / "sbatch").chmod(0o755)


def test_without_a_deployment_name_the_default_is_used(deployed: Workspace) -> None:
    with pytest.raises(SpecError, match="Set a default deployment or provide a deployment name") as caught:
        resolve_deployment(deployed, "heart-batch", None)
    assert "--defaults deployment_name=blue" in caught.value.hint
    update_endpoint(deployed, "heart-batch", defaults="deployment_name=blue")
    assert resolve_deployment(deployed, "heart-batch", None) == resolve_deployment(deployed, "heart-batch", "blue")


def test_what_does_not_exist_is_named_with_what_does(deployed: Workspace) -> None:
    with pytest.raises(NotFound, match="Deployment name red not found for this endpoint") as caught:
        resolve_deployment(deployed, "heart-batch", "red")
    assert caught.value.fields["known"] == ["blue"]
    with pytest.raises(NotFound, match="heart-batch"):
        resolve_deployment(deployed, "lung-batch", None)


def test_an_endpoint_without_deployments_says_so(ready: Workspace) -> None:
    for name in (None, "blue"):
        with pytest.raises(NotFound, match="No deployment exists for this endpoint"):
            resolve_deployment(ready, "heart-batch", name)


def test_settings_come_with_every_default(deployed: Workspace) -> None:
    settings = resolve_deployment(deployed, "heart-batch", "blue").settings
    assert (settings.mini_batch_size, settings.timeout_s, settings.max_retries) == (2, 30.0, 3)
    assert (settings.output_action, settings.output_file_name) == ("append_row", "predictions.csv")


def test_an_unknown_compute_is_named_with_the_command_that_makes_it(deployed: Workspace) -> None:
    update_deployment(deployed, "blue", "heart-batch", sets=["compute=azureml:cpu-cluster"])
    with pytest.raises(NotFound, match="There are: local") as caught:
        resolve_deployment(deployed, "heart-batch", "blue")
    assert "hpcbatch compute create --name cpu-cluster" in caught.value.hint


def test_an_azure_compute_is_slurm_where_there_is_slurm(ws: Workspace, path: Path) -> None:
    assets.create_compute(ws, name="cpu", type="amlcompute", max_instances=5, tier="low_priority")
    for name in ("cpu", None):
        assert resolve_compute(ws, name).kind == "local"
    _sbatch(path)
    assert resolve_compute(ws, None).kind == "slurm"
    found = resolve_compute(ws, "cpu")
    assert (found.kind, found.tier, found.max_instances, found.slurm) == ("slurm", "low_priority", 5, {})
    assert resolve_compute(ws, "local").kind == "local"


def test_the_deployments_slurm_settings_are_put_over_the_computes(deployed: Workspace, path: Path) -> None:
    sets = ["partition=a", "account=b", "mem_per_cpu=1G", "merge.partition=small", "merge.mem=1G"]
    assets.create_compute(deployed, name="gpu", type="slurm", sets=sets)
    prefix = "resources.properties.slurm"
    sets = [
        f"{prefix}.partition=c",
        f"{prefix}.mem=8G",
        f"{prefix}.merge.mem=2G",
        f"{prefix}.time=1:00:00",
        "compute=gpu",
    ]
    update_deployment(deployed, "blue", "heart-batch", sets=sets)
    assert resolve_deployment(deployed, "heart-batch", "blue").compute.slurm == {
        "partition": "c",
        "account": "b",
        "mem": "8G",
        "time": "1:00:00",
        "merge": {"partition": "small", "mem": "2G"},
    }


def test_the_environment_follows_maps_made_later(
    deployed: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user answers the warning by a map; the deployment need not be made again."""
    monkeypatch.setenv("PATH", str(tmp_path))
    before = resolve_deployment(deployed, "heart-batch", "blue")
    assert before.environment.origin.startswith("built from ")
    assert "asks for Python 3.8.5" in before.warnings[0]
    assert chosen_environment(deployed, "Heart-Batch", "blue")["python"] is None
    assets.map_environment(deployed, "heart-*", sys.executable)
    after = resolve_deployment(deployed, "heart-batch", "blue")
    assert (after.environment.origin, after.warnings) == ("map 'heart-*'", ())
    chosen = {"name": "heart-env", "python": sys.executable, "origin": "map 'heart-*'", "warnings": []}
    assert chosen_environment(deployed, "heart-batch", "blue") == chosen
    assert build_environment(deployed, "heart-batch", "blue", print) == chosen, "nothing to build"
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assets.map_environment(deployed, "heart-*", str(link))
    link.unlink()
    assert "does not exist" in chosen_environment(deployed, "heart-batch", "blue")["problem"]


def test_an_environment_registered_later_is_found(deployed: Workspace) -> None:
    update_deployment(deployed, "blue", "heart-batch", sets=["environment=azureml:torch@latest"])
    assert resolve_deployment(deployed, "heart-batch", "blue").environment.origin == "own"
    assets.create_environment(deployed, name="torch", python=sys.executable)
    assert resolve_deployment(deployed, "heart-batch", "blue").environment.origin == "registered"


def test_an_environment_without_a_name_is_matched_by_its_image(ready: Workspace, project: Path) -> None:
    text = (project / "deployment.yml").read_text().replace("  name: heart-env\n", "")
    (project / "deployment.yml").write_text(text)
    create_deployment(ready, file=project / "deployment.yml")
    assets.map_environment(ready, "*/azureml/*", sys.executable)
    assert resolve_deployment(ready, "heart-batch", "blue").environment.origin == "map '*/azureml/*'"


def test_an_mlflow_model_without_environment_is_matched_by_its_name(ready: Workspace, project: Path) -> None:
    (project / "model" / "MLmodel").write_text("flavors: {python_function: {}}\n")
    (project / "mlflow.yml").write_text(
        "name: flow\nendpoint_name: heart-batch\ntype: model\ncompute: local\n"
        "model: {name: heart, path: model, type: mlflow_model}\n"
    )
    create_deployment(ready, file=project / "mlflow.yml")
    assets.map_environment(ready, "mlflow:heart", sys.executable)
    found = resolve_deployment(ready, "heart-batch", "flow")
    assert (found.environment.origin, found.code) == ("map 'mlflow:heart'", None)


def test_a_deployment_may_have_a_script_and_no_model(ready: Workspace, project: Path) -> None:
    text = (project / "deployment.yml").read_text().replace("model: azureml:heart@latest\n", "")
    (project / "deployment.yml").write_text(text)
    create_deployment(ready, file=project / "deployment.yml")
    assert resolve_deployment(ready, "heart-batch", "blue").model is None


@pytest.mark.parametrize("kind", ["code", "models"])
def test_a_snapshot_that_is_gone_is_an_error_not_an_empty_folder(deployed: Workspace, kind: str) -> None:
    shutil.rmtree(deployed.root / "registry" / "snapshots" / kind)
    with pytest.raises(FileDamaged, match="is gone"):
        resolve_deployment(deployed, "heart-batch", "blue")
