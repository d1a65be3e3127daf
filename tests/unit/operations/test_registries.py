"""azureml://registries/NAME/...: another workspace stands for the registry, or the way out is named."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpcbatch.errors import NotFound, SpecError
from hpcbatch.operations import assets, deployments
from hpcbatch.operations.resolve import resolve_deployment
from hpcbatch.operations.workspace import Workspace, configure_defaults

MODEL = "azureml://registries/shared/models/bert/versions/1"
ENVIRONMENT = "azureml://registries/shared/environments/torch/labels/latest"


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def other(tmp_path: Path, project: Path) -> Workspace:
    found = Workspace(tmp_path / "other")
    assets.create_model(found, name="bert", path=str(project / "model"))
    assets.create_environment(found, name="torch", python=sys.executable)
    return found


def deploy(ws: Workspace, project: Path) -> None:
    sets = (f"model={MODEL}", f"environment={ENVIRONMENT}")
    deployments.create_deployment(ws, file=project / "deployment.yml", sets=sets)


def test_the_workspace_of_a_registry_is_looked_into_and_copied_from(
    ready: Workspace, project: Path, other: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens to the other workspace later changes nothing."""
    monkeypatch.chdir(other.root.parent)
    configured = configure_defaults(["registries.shared=./other"])
    assert configured["registries.shared"] == str(other.root)
    deploy(ready, project)
    other.root.rename(other.root.with_name("moved"))
    resolved = resolve_deployment(ready, "heart-batch", "blue")
    assert resolved.model is not None
    assert Path(resolved.model.path).is_relative_to(ready.root)
    assert (Path(resolved.model.path) / "model" / "model.pkl").read_bytes() == b"weights"
    assert (resolved.environment.origin, resolved.environment.python) == ("registered", sys.executable)
    with pytest.raises(SpecError, match="stands for the registry 'shared', is no workspace") as caught:
        deploy(ready, project)
    assert "hpcbatch configure --defaults registries.shared=" in caught.value.hint


def test_without_one_the_name_is_looked_up_here_or_refused_with_what_to_type(
    ready: Workspace, project: Path, other: Workspace
) -> None:
    with pytest.raises(NotFound, match="The model 'bert' is not registered") as caught:
        deploy(ready, project)
    assert "hpcbatch configure --defaults registries.shared=/path/to/workspace" in caught.value.hint
    assets.create_model(ready, name="bert", path=str(project / "model"))
    deploy(ready, project)
    _, warnings = (found := resolve_deployment(ready, "heart-batch", "blue")).environment, found.warnings
    assert "hpcbatch environment map 'torch' --python" in warnings[0]
