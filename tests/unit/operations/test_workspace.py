"""How the workspace is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.operations.workspace import configure_defaults, open_workspace, read_config


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for name in ("HPCBATCH_WORKSPACE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _config(home: Path, text: str) -> None:
    (home / ".config" / "hpcbatch").mkdir(parents=True)
    (home / ".config" / "hpcbatch" / "config.json").write_text(text)


def test_argument_then_variable_then_configuration_then_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_workspace().root == home / ".hpcbatch"
    _config(home, '{"workspace": "/shared/file"}')
    assert open_workspace().root == Path("/shared/file")
    configure_defaults(["workspace=/shared/remembered", "group=mine"])
    assert open_workspace().root == Path("/shared/remembered")
    monkeypatch.setenv("HPCBATCH_WORKSPACE", "/shared/variable")
    assert open_workspace().root == Path("/shared/variable")
    workspace = open_workspace("/shared/argument")
    assert workspace.root == Path("/shared/argument")
    assert workspace.jobs == workspace.root / "jobs"


def test_a_name_is_a_folder_here_or_a_known_one_or_kept_at_home(home: Path) -> None:
    _config(home, json.dumps({"workspaces": {"team": "/shared/team"}}))
    (home / "beside").mkdir()
    assert open_workspace("beside").root == home / "beside"
    assert open_workspace("team").root == Path("/shared/team")
    assert open_workspace("other").root == home / ".hpcbatch" / "workspaces" / "other"
    assert open_workspace("./new").root == home / "new"
    assert open_workspace(".").root == home
    assert open_workspace("~/x").root == home / "x"


def test_a_workspace_that_is_a_file_is_refused(home: Path) -> None:
    (home / "file").write_text("x")
    with pytest.raises(SpecError, match="is a file"):
        open_workspace("./file")


def test_defaults_are_remembered_and_forgotten(home: Path) -> None:
    assert configure_defaults(["workspace=./ws", "group=a"]) == {"workspace": str(home / "ws"), "group": "a"}
    assert configure_defaults(["group="]) == {"workspace": str(home / "ws")}
    assert configure_defaults([]) == read_config() == {"workspace": str(home / "ws")}
    with pytest.raises(SpecError, match="usage: --defaults KEY=VALUE"):
        configure_defaults(["workspace"])
    with pytest.raises(SpecError, match="Did you mean 'workspace'") as caught:
        configure_defaults(["worksapce=ws"])
    assert "There are: workspace, group, location, subscription and registries.NAME." in caught.value.hint
    assert configure_defaults(["worksapce="]) == read_config(), "what an earlier version remembered can be forgotten"


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_a_broken_configuration_names_its_file(home: Path, text: str) -> None:
    _config(home, text)
    with pytest.raises(SpecError) as caught:
        open_workspace()
    assert caught.value.fields["file"].endswith("config.json")
