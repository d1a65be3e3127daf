"""A client of an empty workspace, a user's folder, and one job that ran."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch import BatchClient
from tests.unit.client.hearts import make_project, set_up


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
    monkeypatch.delenv("HPCBATCH_WORKSPACE", raising=False)
    return folder


@pytest.fixture
def client(tmp_path: Path) -> BatchClient:
    return BatchClient(tmp_path / "ws")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """endpoint.yml, deployment.yml, code/, model/ and data/ as a user has them."""
    return make_project(tmp_path / "project")


@pytest.fixture
def ready(client: BatchClient, project: Path) -> BatchClient:
    """A client of a workspace whose endpoint answers."""
    return set_up(client, project)
