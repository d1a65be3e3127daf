"""Models, environments, data, computes: versions never change, the newest is found, what is missing is named."""

from __future__ import annotations

import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.operations import assets
from hpcbatch.operations.workspace import Workspace


def test_a_model_gets_the_next_version_when_its_content_is_new(ws: Workspace, project: Path) -> None:
    path = project / "model"
    first = assets.create_model(ws, name="heart", path=str(path), type="custom_model")
    again = assets.create_model(ws, name="heart", path=str(path))
    (path / "model.pkl").write_bytes(b"better")
    second = assets.create_model(ws, name="heart", path=str(path))
    assert (first["version"], again["version"], second["version"]) == ("1", "1", "2")
    assert again == first
    assert Path(first["path"], "model.pkl").read_bytes() == b"weights"
    assert assets.show_model(ws, "heart") == second == assets.show_model(ws, "heart", label="latest")
    assert assets.show_model(ws, "heart", version="1") == first
    assert [one["version"] for one in assets.list_models(ws, "heart")] == ["2", "1"]
    assert [one["id"] for one in assets.list_models(ws)] == ["azureml:heart:2"]


def test_a_version_never_changes(ws: Workspace, project: Path) -> None:
    path = project / "model"
    first = assets.create_model(ws, name="heart", version="7", path=str(path))
    assert assets.create_model(ws, name="heart", version="7", path=str(path)) == first
    (path / "model.pkl").write_bytes(b"better")
    with pytest.raises(Conflict, match="heart:7 exists already"):
        assets.create_model(ws, name="heart", version="7", path=str(path))
    assert assets.show_model(ws, "heart", version="7") == first
    assert assets.create_model(ws, name="heart", path=str(path))["version"] == "8"


def test_latest_is_the_most_recently_created_not_the_highest(ws: Workspace, project: Path) -> None:
    for version in ("9", "2026-01-01", "3"):
        (project / "model" / "model.pkl").write_text(version)
        assets.create_model(ws, name="heart", version=version, path=str(project / "model"))
    assert assets.show_model(ws, "heart", label="latest")["version"] == "3"


def test_a_model_from_a_file_has_its_path_beside_the_file(ws: Workspace, project: Path) -> None:
    (project / "model.yml").write_text("name: heart\nversion: 1.10\ntype: custom_model\npath: model\ntags: {a: b}\n")
    made = assets.create_model(ws, file=project / "model.yml", sets=["tags.c=d"])
    assert (made["version"], made["tags"], made["basename"]) == ("1.10", {"a": "b", "c": "d"}, "model")


def test_the_command_lines_path_starts_at_the_current_folder(
    ws: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / "model")
    assert assets.create_model(ws, name="heart", path="model.pkl")["is_folder"] is False


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        ({"name": "heart"}, "path"),
        ({"path": "."}, "name"),
        ({"name": "heart", "path": "nowhere"}, "path"),
        ({"name": "heart", "path": "azureml://datastores/d/paths/p"}, "path"),
        ({"name": "heart", "path": "https://example.org/model.zip"}, "path"),
        ({"name": "a/b", "path": "."}, "name"),
        ({"name": "heart", "path": ".", "type": "keras"}, "type"),
        ({"name": "heart", "path": ".", "type": "mlflow_model"}, "path"),
    ],
)
def test_a_bad_model_names_the_field(
    ws: Workspace, project: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any], field: str
) -> None:
    monkeypatch.chdir(project)
    with pytest.raises(SpecError) as caught:
        assets.create_model(ws, **flags)
    assert caught.value.fields["field"] == field
    assert not ws.root.exists()


def test_an_mlflow_model_is_a_folder_with_mlmodel(ws: Workspace, project: Path) -> None:
    (project / "model" / "MLmodel").write_text("flavors: {}\n")
    assert assets.create_model(ws, name="m", path=str(project / "model"), type="mlflow_model")["type"] == "mlflow_model"


def test_what_is_not_registered_is_told_with_what_is(ws: Workspace, project: Path) -> None:
    with pytest.raises(NotFound, match="There are none") as caught:
        assets.show_model(ws, "lung")
    assert "hpcbatch model create --name lung" in caught.value.hint
    assets.create_model(ws, name="heart", path=str(project / "model"))
    for arguments, words in (({}, "heart"), ({"version": "5"}, "heart")):
        with pytest.raises(NotFound, match=words):
            assets.show_model(ws, "lung", **arguments)
    with pytest.raises(NotFound, match="It has: 1"):
        assets.show_model(ws, "heart", version="5")
    with pytest.raises(NotFound, match="label"):
        assets.show_model(ws, "heart", label="production")
    with pytest.raises(NotFound):
        assets.list_models(ws, "lung")


def _register(ws: Workspace, folder: Path, number: int) -> None:
    path = folder / f"m{number}" / "model.pkl"
    path.parent.mkdir()
    path.write_text(str(number))
    assets.create_model(ws, name="heart", path=str(path))


def test_models_registered_at_once_get_one_version_each(ws: Workspace, tmp_path: Path) -> None:
    context = get_context("fork")
    processes = [context.Process(target=_register, args=(ws, tmp_path, number)) for number in range(8)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    found = assets.list_models(ws, "heart")
    assert sorted(int(one["version"]) for one in found) == list(range(1, 9))
    assert len({one["digest"] for one in found}) == 8


def test_an_environment_keeps_its_conda_file_and_an_absolute_python(ws: Workspace, project: Path) -> None:
    (project / "bin").mkdir()
    (project / "bin" / "python").symlink_to(sys.executable)
    (project / "environment.yml").write_text(
        "name: e\nimage: i\nconda_file: environment/conda.yaml\npython: ./bin/python\nos_type: Linux\n"
    )
    made = assets.create_environment(ws, file=project / "environment.yml")
    assert made["python"] == str(project / "bin" / "python")
    assert made["conda_file"]["dependencies"] == ["python=3.8.5", {"pip": ["pandas"]}]
    assert assets.show_environment(ws, "e") == made == assets.list_environments(ws)[0]


def test_an_environment_that_cannot_be_is_refused(ws: Workspace, project: Path) -> None:
    for text, field in (
        ("name: e\nconda_file: nowhere.yaml\n", "conda_file"),
        ("name: e\npython: nowhere/python\n", "python"),
        ("image: i\n", "name"),
    ):
        (project / "environment.yml").write_text(text)
        with pytest.raises(SpecError) as caught:
            assets.create_environment(ws, file=project / "environment.yml")
        assert caught.value.fields["field"] == field


def test_maps_are_tried_in_order_and_the_one_for_everything_stays_last(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert assets.list_environment_maps(ws) == []
    assert assets.map_environment(ws, "*", sys.executable) == {"glob": "*", "python": sys.executable}
    assets.map_environment(ws, "torch-*", sys.executable)
    assets.map_environment(ws, "sklearn-*", sys.executable)
    assets.map_environment(ws, "torch-*", str(tmp_path))
    assert [(one["glob"], one["python"]) for one in assets.list_environment_maps(ws)] == [
        ("torch-*", str(tmp_path)),
        ("sklearn-*", sys.executable),
        ("*", sys.executable),
    ]
    with pytest.raises(SpecError, match="does not exist"):
        assets.map_environment(ws, "x", str(tmp_path / "nowhere"))
    with pytest.raises(SpecError, match="pattern"):
        assets.map_environment(ws, "", sys.executable)


def test_data_points_to_files_and_copies_nothing(ws: Workspace, project: Path) -> None:
    made = assets.create_data(ws, name="scans", type="uri_folder", path=str(project / "model"))
    assert (made["path"], made["type"]) == (str(project / "model"), "uri_folder")
    assert (
        assets.create_data(ws, name="one", type="uri_file", path=str(project / "model" / "model.pkl"))["version"] == "1"
    )
    assert assets.create_data(ws, name="far", path="https://example.org/x")["path"] == "https://example.org/x"
    assert assets.show_data(ws, "scans") == made
    assert [one["name"] for one in assets.list_data(ws)] == ["far", "one", "scans"]
    for kind, path, other in (("uri_file", "model", "uri_folder"), ("uri_folder", "model/model.pkl", "uri_file")):
        with pytest.raises(SpecError, match="is not a") as caught:
            assets.create_data(ws, name="wrong", type=kind, path=str(project / path))
        assert other in caught.value.hint


def test_a_compute_is_what_was_said_last(ws: Workspace) -> None:
    assets.create_compute(ws, name="gpu", type="slurm", sets=["partition=a", "time=2:00:00"], max_instances=4)
    made = assets.create_compute(ws, name="gpu", type="slurm", sets=["partition=b"])
    assert (made["partition"], made.get("time"), made["tier"]) == ("b", None, "dedicated")
    assert [one["name"] for one in assets.list_computes(ws)] == ["gpu", "local"]
    assets.delete_compute(ws, "gpu")
    with pytest.raises(NotFound, match="There are: local"):
        assets.show_compute(ws, "gpu")
    with pytest.raises(NotFound):
        assets.delete_compute(ws, "gpu")


def test_the_compute_local_is_always_there(ws: Workspace) -> None:
    assert assets.show_compute(ws, "local")["type"] == "local"
    assert [one["name"] for one in assets.list_computes(ws)] == ["local"]
    with pytest.raises(SpecError, match="always there"):
        assets.delete_compute(ws, "local")
    assets.update_compute(ws, "local", description="the big one")
    assets.delete_compute(ws, "local")
    assert "description" not in assets.show_compute(ws, "local")
