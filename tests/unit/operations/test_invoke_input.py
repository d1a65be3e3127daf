"""What an invocation may point to: a path the cluster sees, or a registered data asset."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpcbatch.errors import NotFound, SpecError
from hpcbatch.operations import assets, deployments, endpoints
from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
from hpcbatch.operations.jobs import wait_job
from hpcbatch.operations.workspace import Workspace


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace with one endpoint on the local compute whose script gives back file names."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "s.py").write_text("import os\ndef run(b):\n    return [os.path.basename(p) for p in b]\n")
    (tmp_path / "data").mkdir()
    for name in ("b.txt", "a.txt"):
        (tmp_path / "data" / name).touch()
    deployment = {
        "name": "first",
        "type": "model",
        "model": {"path": "code/s.py"},
        "code_configuration": {"code": "code", "scoring_script": "s.py"},
        "environment": {"name": "e", "image": "x"},
        "compute": "local",
    }
    (tmp_path / "deployment.yml").write_text(json.dumps(deployment))
    found = Workspace(tmp_path / "ws")
    endpoints.create_endpoint(found, name="names")
    file = str(tmp_path / "deployment.yml")
    deployments.create_deployment(found, file=file, endpoint="names", set_default=True)
    return found


def scored(ws: Workspace, path: str, output_path: Path, **more: str) -> str:
    """The merged rows of one job over *path*."""
    job = invoke(ws, InvokeRequest("names", input=InputRef(path, **more), output_path=str(output_path)))
    found = wait_job(ws, job["name"], on_progress=lambda _: None, poll_s=0.05)
    assert found["status"] == "Completed", found["detail"]
    return (output_path / "predictions.csv").read_text()


def test_a_data_asset_is_scored_by_its_reference(ws: Workspace, tmp_path: Path) -> None:
    """`azureml:n:v`, `@latest` and the bare `azureml:n`; the asset's own type counts."""
    assets.create_data(ws, name="files", path=str(tmp_path / "data"), type="uri_folder")
    assets.create_data(ws, name="one", version="3", path=str(tmp_path / "data" / "b.txt"), type="uri_file")
    assert scored(ws, "azureml:files@latest", tmp_path / "o1") == "a.txt\nb.txt\n"
    assert scored(ws, "azureml:one:3", tmp_path / "o2") == "b.txt\n"
    with pytest.raises(NotFound):
        invoke(ws, InvokeRequest("names", input=InputRef("azureml:nothing:1")))


@pytest.mark.parametrize("path", ["s3://bucket/x", "https://example.org/x.csv", "azureml://datastores/d/paths/p"])
def test_what_cannot_be_read_here_is_refused_before_anything_is_made(ws: Workspace, path: str) -> None:
    """The sentence says what can be named instead; no job is left behind."""
    with pytest.raises(SpecError, match="not on a filesystem that the cluster sees"):
        invoke(ws, InvokeRequest("names", input=InputRef(path)))
    assert not ws.jobs.exists()


@pytest.mark.parametrize("name", ["_SUCCESS.json", ".hidden", "a/b", "rows.parquet"])
def test_an_output_name_that_would_mislead_is_refused(ws: Workspace, tmp_path: Path, name: str) -> None:
    """Names of ours, hidden ones, and formats that rows are not written in."""
    request = InvokeRequest("names", input=InputRef(str(tmp_path / "data")), overrides={"output_file_name": name})
    with pytest.raises(SpecError, match="output_file_name"):
        invoke(ws, request)


def test_results_in_a_folder_of_the_invoker_can_be_read_by_others(ws: Workspace, tmp_path: Path) -> None:
    """As a download can; the job's own folder is private."""
    scored(ws, str(tmp_path / "data"), tmp_path / "team")
    assert (tmp_path / "team" / "predictions.csv").stat().st_mode & 0o777 == 0o644
