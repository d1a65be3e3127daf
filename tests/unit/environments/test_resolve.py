"""Which interpreter: the environment's own, then the first map that matches, then ours with a warning."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hpcbatch.environments.resolve import interpreter, resolve_environment
from hpcbatch.errors import SpecError


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A prefix whose interpreter is a link, as in a venv."""
    folder = tmp_path / "my venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").symlink_to(sys.executable)
    return folder


def test_an_interpreter_may_be_given_itself_or_by_its_prefix(venv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = str(venv / "bin" / "python")
    monkeypatch.chdir(venv.parent)
    monkeypatch.setenv("HOME", str(venv.parent))
    for path in (str(venv), expected, "my venv", "~/my venv", "my venv/bin/../bin/python"):
        assert interpreter(path, "here") == expected


def test_a_prefix_may_hold_only_python3(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python3").symlink_to(sys.executable)
    assert interpreter(str(tmp_path), "here") == str(tmp_path / "bin" / "python3")


def test_an_interpreter_that_is_not_there_or_cannot_run_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "python"
    plain.write_text("x")
    for path, why in ((tmp_path / "no", "does not exist"), (plain, "not executable"), (tmp_path, "does not exist")):
        with pytest.raises(SpecError, match=why) as caught:
            interpreter(str(path), "environment 'e'")
        assert str(path) in caught.value.message
        assert "environment 'e'" in caught.value.message


def test_the_environments_own_python_wins_over_maps(venv: Path) -> None:
    maps = [{"glob": "*", "python": sys.executable}]
    found, warnings = resolve_environment({"name": "torch", "python": str(venv)}, maps, root=venv)
    assert (found.name, found.python, found.origin) == ("torch", str(venv / "bin" / "python"), "registered")
    assert warnings == ()


@pytest.mark.parametrize(
    ("environment", "model", "glob"),
    [
        ({"name": "sklearn-1.5"}, None, "sklearn-*"),
        ({"name": "torch", "image": "mcr.microsoft.com/azureml/openmpi:latest"}, None, "*openmpi*"),
        ({"name": None, "image": "mcr.microsoft.com/azureml/openmpi:latest"}, "heart", "*openmpi*"),
        (None, "heart", "mlflow:*"),
        ({"name": "other", "image": None}, "heart", "*"),
        (None, None, "*"),
    ],
)
def test_the_first_map_that_matches_name_image_or_mlflow_model_wins(
    venv: Path, environment: dict[str, str] | None, model: str | None, glob: str
) -> None:
    maps = [{"glob": one, "python": str(venv)} for one in ("sklearn-*", "*openmpi*", "mlflow:*", "*")]
    found, warnings = resolve_environment(environment, maps, root=venv, model_name=model)
    assert (found.origin, found.python, warnings) == (f"map {glob!r}", str(venv / "bin" / "python"), ())


def test_without_a_map_our_own_interpreter_is_used_and_the_user_is_told_how_to_change_that() -> None:
    found, (warning,) = resolve_environment(
        {"name": "torch"}, [{"glob": "Torch", "python": "/nowhere"}], root=Path("/none")
    )
    assert (found.origin, found.python) == ("own", os.path.abspath(sys.executable))
    assert "hpcbatch environment map 'torch' --python" in warning


def test_a_map_to_an_interpreter_that_is_gone_is_an_error_that_names_the_map() -> None:
    with pytest.raises(SpecError, match="map 'torch'"):
        resolve_environment({"name": "torch"}, [{"glob": "torch", "python": "/nowhere/python"}], root=Path("/none"))
