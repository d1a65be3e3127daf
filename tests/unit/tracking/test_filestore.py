"""MLflow's files, written without it; that MLflow reads them is tests/contract/test_tracking.py's business."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.tracking import filestore
from hpcbatch.tracking.filestore import Run

RUN = Run("a" * 32, "step: one", "my 'experiment'", "me", parent_id="b" * 32)
ROOT = Run("b" * 32, "job", "my 'experiment'", "me")


def meta(store: Path, run: Run = RUN) -> Path:
    return store / filestore.experiment_id(run.experiment) / run.run_id / "meta.yaml"


def test_a_run_that_nobody_logged_to_is_unused(tmp_path: Path) -> None:
    filestore.begin(tmp_path, RUN)
    assert not filestore.was_used(tmp_path, RUN)
    (meta(tmp_path).parent / "tags" / "mine").write_text("1")
    assert filestore.was_used(tmp_path, RUN)


def test_a_metric_another_run_an_artifact_and_a_model_are_use(tmp_path: Path) -> None:
    for number, where in enumerate(
        ("{run}/metrics/m", "other/meta.yaml", "{run}/artifacts/f", "../models/x/meta.yaml")
    ):
        store = tmp_path / str(number)
        filestore.begin(store, RUN)
        path = meta(store).parent.parent / where.format(run=RUN.run_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("1")
        assert filestore.was_used(store, RUN), where


def test_the_end_is_said_once_and_a_torn_description_is_mended(tmp_path: Path) -> None:
    filestore.begin(tmp_path, RUN)
    filestore.end(tmp_path, RUN, succeeded=False)
    said = meta(tmp_path).read_text()
    assert "status: 4\n" in said
    assert "end_time: null" not in said
    filestore.end(tmp_path, RUN, succeeded=True)
    assert meta(tmp_path).read_text() == said
    meta(tmp_path).write_text("")
    filestore.end(tmp_path, RUN, succeeded=True)
    assert f'run_id: "{RUN.run_id}"' in meta(tmp_path).read_text()
    assert "status: 3\n" in meta(tmp_path).read_text()


def test_stores_are_put_together_below_the_run_of_the_job(tmp_path: Path) -> None:
    together = tmp_path / "all"
    for number, copy in enumerate((False, True, True)):
        run = Run(str(number) * 32, "r", RUN.experiment, "me", parent_id=ROOT.run_id)
        filestore.begin(tmp_path / str(number), run)
        (tmp_path / str(number) / "99" / "x").mkdir(parents=True)
        torn = meta(tmp_path / str(number)).parent.parent / f"torn{number}"
        torn.mkdir()
        (torn / "meta.yaml").write_text("")
        filestore.collect(together, tmp_path / str(number), ROOT, copy=copy)
        filestore.collect(together, tmp_path / str(number), ROOT, copy=copy)
    ours = together / filestore.experiment_id(ROOT.experiment)
    assert sorted(p.name for p in ours.iterdir()) == ["0" * 32, "1" * 32, "2" * 32, "b" * 32, "meta.yaml"]
    assert (ours / ("0" * 32)).is_symlink()
    assert not (ours / ("1" * 32)).is_symlink()
    assert (together / "99" / "x").is_dir()


def test_registered_models_are_found_where_their_files_are(tmp_path: Path) -> None:
    files = tmp_path / "the files"
    files.mkdir()
    for name, text in (
        ("new", f"source: models:/m-1\nstorage_location: {files.as_uri()}\n"),
        ("old", f"source: {files}\n"),
        ("gone", "source: /not/there\n"),
        ("odd", "source: runs:/1/model\n"),
    ):
        folder = tmp_path / "models" / name / "version-2"
        folder.mkdir(parents=True)
        (folder / "meta.yaml").write_text(text)
        (folder.parent / "meta.yaml").write_text("")
    found = filestore.registered_models(tmp_path)
    assert [(model.name, model.version, model.path) for model in found] == [("new", 2, files), ("old", 2, files)]
