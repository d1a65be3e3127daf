"""What an invocation may point to: a path the cluster sees, or a registered data asset."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.dataio.addresses import parse_address
from hpcbatch.errors import Conflict, FilesystemError, NotFound, SpecError
from hpcbatch.operations import assets, deployments, endpoints
from hpcbatch.operations.inputs import resolve_input
from hpcbatch.operations.invoke import InputRef, InvokeRequest, draft_of, invoke
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
    long = InvokeRequest("names", input=InputRef("azureml://registries/azureml/data/one/versions/3"))
    assert draft_of(ws, long, tmp_path / "job")[0].record.items == 1


def test_links_whose_file_is_gone_are_a_warning_of_the_job(ws: Workspace, tmp_path: Path) -> None:
    """They are no items, and the job says which they are."""
    for number in range(4):
        (tmp_path / "data" / f"gone-{number}.txt").symlink_to("absent")
    draft, _ = draft_of(ws, InvokeRequest("names", input=InputRef(str(tmp_path / "data"))), tmp_path / "job")
    (warning,) = (each for each in draft.record.warnings if "lead nowhere" in each)
    assert warning.endswith(": 'gone-0.txt', 'gone-1.txt', 'gone-2.txt', ... (4 in all)")
    assert draft.record.items == 2


def test_a_datastore_is_a_folder_or_a_link_of_the_workspace(ws: Workspace, tmp_path: Path) -> None:
    """Its paths are read, and written to; `workspaceblobstore` needs no folder before. None leads out of its store."""
    (ws.root / "datastores").mkdir()
    (ws.root / "datastores" / "lake").symlink_to(tmp_path)
    assets.create_data(ws, name="files", path="azureml://datastores/lake/paths/data", type="uri_folder")
    for source, name in (("azureml://datastores/lake/paths/data/", "o1"), ("azureml:files:1", "o2")):
        where = f"azureml://datastores/workspaceblobstore/paths/{name}"
        job = invoke(ws, InvokeRequest("names", input=InputRef(source), output_path=where))
        assert wait_job(ws, job["name"], on_progress=lambda _: None, poll_s=0.05)["status"] == "Completed"
        folder = ws.root / "datastores" / "workspaceblobstore" / name
        assert (folder / "predictions.csv").read_text() == "a.txt\nb.txt\n"
        assert job["outputs"]["score"]["path"] == str(folder)
        assert folder.parent.stat().st_mode & 0o7777 == 0o1777  # other users of the workspace have it too
    with pytest.raises(Conflict, match="nothing is overwritten"):
        invoke(ws, InvokeRequest("names", input=InputRef(source), output_path=where))
    with pytest.raises(SpecError, match="leads out of its datastore"):
        invoke(ws, InvokeRequest("names", input=InputRef("azureml://datastores/lake/paths/../x")))


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "azureml://datastores/d/paths/p/q",
            r"known to the datastore 'd'(.|\n)*blob\.core\.windows\.net/CONTAINER/p/q",
        ),
        ("azureml://subscriptions/s/workspaces/w/datastores/d/paths/p", "known to the datastore 'd'"),
        ("https://user:tell-nobody@example.org/x.csv", "carries a password"),
        ("https://tell-nobody@example.org/x.csv", "carries a user"),
        ("https://a.blob.core.windows.net/c/x.csv?sv=1&sig=tell-nobody", r"carries a secret \(`sig="),
        ("https://b.s3.amazonaws.com/x?X-Amz-Signature=tell-nobody", "X-Amz-Signature"),
        ("https://host/x?access_token=tell-nobody", "access_token"),
        ("s3://key:tell-nobody@bucket/x", "carries a password"),
        ("simplecache::s3://bucket/x", "chained"),
        ("memory://x", "cannot read"),
        ("adl://x/y", "cannot read"),
    ],
)
def test_what_cannot_be_read_is_refused_before_anything_is_made(ws: Workspace, path: str, words: str) -> None:
    """The sentence says what can be named instead, and never what is secret; no job is left behind."""
    with pytest.raises(SpecError, match=words) as caught:
        invoke(ws, InvokeRequest("names", input=InputRef(path)))
    assert "tell-nobody" not in str(caught.value) + str(caught.value.fields)
    assert not ws.jobs.exists()


@pytest.mark.parametrize(
    ("text", "protocol", "path", "options"),
    [
        ("wasbs://data@acc.blob.core.windows.net/a/b", "abfs", "data/a/b", {"account_name": "acc"}),
        ("abfss://data@acc.dfs.core.windows.net/a", "abfs", "data/a", {"account_name": "acc"}),
        ("https://acc.blob.core.windows.net/data/a%20b/", "abfs", "data/a b", {"account_name": "acc"}),
        ("https://host/a%20b?x=1", "https", "https://host/a b", {}),
        ("s3://bucket/a?b", "s3", "bucket/a?b", {}),
    ],
)
def test_azure_s_forms_are_understood(text: str, protocol: str, path: str, options: dict[str, str]) -> None:
    """Containers are read by Azure's own protocol; one blob at a web address by the web's."""
    found = parse_address(text, field="input", listed=True)
    assert (found.protocol, found.path, found.options) == (protocol, path, options)
    one = parse_address("https://acc.blob.core.windows.net/data/x.csv", field="input", listed=False)
    assert (one.protocol, one.path) == ("https", "https://acc.blob.core.windows.net/data/x.csv")


def test_secrets_of_the_shell_do_not_travel_by_accident(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing would work with them and the job would not: said at once, with the line to type."""
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "tell-nobody")
    with pytest.raises(SpecError, match=r"storage_options\.secret\.env=AWS_SECRET_ACCESS_KEY"):
        invoke(ws, InvokeRequest("names", input=InputRef("s3://bucket/x")))


def test_file_addresses_are_paths(ws: Workspace, tmp_path: Path) -> None:
    assert scored(ws, f"file://{tmp_path}/data", tmp_path / "o1") == "a.txt\nb.txt\n"
    assert scored(ws, f"{tmp_path}/d*/b*", tmp_path / "o2") == "b.txt\n"


@pytest.mark.parametrize("name", ["_SUCCESS.json", ".hidden", "a/b"])
def test_an_output_name_that_would_mislead_is_refused(ws: Workspace, tmp_path: Path, name: str) -> None:
    """Names of ours, hidden ones, and paths."""
    request = InvokeRequest("names", input=InputRef(str(tmp_path / "data")), overrides={"output_file_name": name})
    with pytest.raises(SpecError, match="output_file_name"):
        invoke(ws, request)


def test_results_in_a_folder_of_the_invoker_can_be_read_by_others(ws: Workspace, tmp_path: Path) -> None:
    """As a download can; the job's own folder is private."""
    scored(ws, str(tmp_path / "data"), tmp_path / "team")
    assert (tmp_path / "team" / "predictions.csv").stat().st_mode & 0o777 == 0o644


def test_the_same_words_in_another_folder_are_another_invocation(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative output is where one stands: the job of that name would not write there. An asset is the same."""
    assets.create_data(ws, name="files", path=str(tmp_path / "data"), type="uri_folder")
    request = InvokeRequest("names", input=InputRef("azureml:files:1"), output_path="out", job_name="j1")
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    monkeypatch.chdir(folders[0])
    job = invoke(ws, request)
    assert invoke(ws, request)["name"] == job["name"]
    monkeypatch.chdir(folders[1])
    with pytest.raises(Conflict, match="was invoked with something else"):
        invoke(ws, request)
    there = replace(request, output_path=str(folders[0] / "out"))
    assert invoke(ws, there)["name"] == job["name"]
    wait_job(ws, "j1", on_progress=lambda _: None, poll_s=0.05)


def test_an_output_path_that_is_a_file_is_refused(ws: Workspace, tmp_path: Path) -> None:
    """Before anything is made, as a sentence."""
    file = tmp_path / "data" / "a.txt"
    with pytest.raises(FilesystemError, match="Not a directory"):
        invoke(ws, InvokeRequest("names", input=InputRef(str(tmp_path / "data")), output_path=str(file)))
    assert not ws.jobs.exists()


def test_a_server_that_does_not_answer_is_not_an_empty_folder(ws: Workspace) -> None:
    """Listing over the web leaves out what went wrong; the message must not."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/data/"
        with pytest.raises(FilesystemError, match="Cannot connect"):
            invoke(ws, InvokeRequest("names", input=InputRef(address)))


@pytest.mark.parametrize("folder", ["", "/elsewhere/"])
def test_the_bare_name_of_an_asset_is_a_path_and_the_asset_is_suggested(
    ws: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assets.create_data(ws, name="my-data", path=str(tmp_path / "data"))
    with pytest.raises(SpecError, match="my-data is a registered data asset") as caught:
        resolve_input(ws, InputRef(f"{folder}my-data"))
    assert "azureml:my-data@latest" in caught.value.hint
    (tmp_path / "my-data").mkdir()
    assert resolve_input(ws, InputRef("my-data")).path == "my-data"
