"""Models without a script: files that nothing reads are named at once; the job carries our script and its advice."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path

import pytest

from hpcbatch.dataio.inputs import Items
from hpcbatch.errors import SpecError
from hpcbatch.ids import sha256
from hpcbatch.operations import assets
from hpcbatch.operations.deployments import create_deployment
from hpcbatch.operations.mlflow_models import builtin_code, check_items
from hpcbatch.operations.resolve import resolve_deployment
from hpcbatch.operations.workspace import Workspace
from hpcbatch.scoring import mlflow_model


def test_every_supported_file_passes() -> None:
    names = [f"in/x{kind}".encode() for kind in (*mlflow_model.TABULAR, *mlflow_model.IMAGES)]
    check_items(Items("/data/", [*names, b"X.CSV", b"\xff.Png"]))


def test_the_others_are_named_all_at_once_up_to_twenty() -> None:
    names = [b"good.csv", *(b"b%02d.avro" % number for number in range(30)), b"it's.txt", b"csv"]
    with pytest.raises(SpecError, match=r"32 of 33 files cannot be scored: 'b00\.avro', ") as caught:
        check_items(Items("/data/", names))
    assert "'b19.avro' and 12 more. File type '', 'avro', 'txt' is not supported" in caught.value.message
    assert len(caught.value.fields["found"]) == 32
    assert "mv /data/b00.avro ELSEWHERE" in caught.value.hint
    with pytest.raises(SpecError) as caught:
        check_items(Items("/my data/", [b"it's.txt"]))
    assert "mv '/my data/it'\"'\"'s.txt' ELSEWHERE" in caught.value.hint


def _about(ws: Workspace) -> dict[str, str]:
    """What the job would carry beside the script."""
    resolved = resolve_deployment(ws, "heart-batch", "flow")
    data, part = builtin_code(resolved)
    assert (part.digest, part.scoring_script) == (sha256(data), "mlflow_model.py")
    assert builtin_code(resolved) == (data, part)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("mlflow_model.py") == Path(mlflow_model.__file__).read_bytes()
        return dict(json.loads(archive.read(mlflow_model.ABOUT)))


@pytest.mark.parametrize(
    ("environment", "pattern"),
    [
        ("", "mlflow:heart"),
        ("environment: azureml:some-env@latest\n", "some-env"),
        ("environment: {image: some/image}\n", "some/image"),
        ("environment: {name: mine, python: PYTHON}\n", None),
    ],
)
def test_the_advice_names_the_map_that_would_help(
    ready: Workspace, project: Path, environment: str, pattern: str | None
) -> None:
    (project / "model" / "MLmodel").write_text("flavors: {python_function: {}}\n")
    (project / "mlflow.yml").write_text(
        "name: flow\nendpoint_name: heart-batch\ntype: model\ncompute: local\n"
        "model: {name: heart, path: model, type: mlflow_model}\n" + environment.replace("PYTHON", sys.executable)
    )
    create_deployment(ready, file=project / "mlflow.yml")
    about = _about(ready)
    for text in about.values():
        assert "MLflow model heart" in text
        assert f"{sys.executable} -m pip install " in text
        assert ("environment map" in text) == (pattern is not None)
        assert pattern is None or text.endswith(f"hpcbatch environment map '{pattern}' --python PATH")
    assert about["without_package"].count(" PACKAGE") == 1
    (project / "model" / "requirements.txt").write_text("xgboost\n")
    create_deployment(ready, file=project / "mlflow.yml")
    found = resolve_deployment(ready, "heart-batch", "flow").model
    assert found is not None
    assert f"-r {found.path}/model/requirements.txt" in _about(ready)["without_package"]


def test_a_map_chosen_for_the_model_is_where_it_looks(ready: Workspace, project: Path) -> None:
    """The map is asked at every invocation."""
    (project / "model" / "MLmodel").write_text("flavors: {python_function: {}}\n")
    (project / "mlflow.yml").write_text(
        "name: flow\nendpoint_name: heart-batch\ntype: model\ncompute: local\n"
        "model: {name: heart, path: model, type: mlflow_model}\n"
    )
    create_deployment(ready, file=project / "mlflow.yml")
    assert "hpcbatch's own" in resolve_deployment(ready, "heart-batch", "flow").warnings[0]
    assert "environment map 'mlflow:heart'" in resolve_deployment(ready, "heart-batch", "flow").warnings[0]
    assets.map_environment(ready, "mlflow:*", sys.executable)
    assert resolve_deployment(ready, "heart-batch", "flow").warnings == ()
