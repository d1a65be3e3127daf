"""Outputs that go to another place: there once and whole, or said not to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict, SpecError
from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
from hpcbatch.operations.jobs import download_job, find_job, resume_job
from hpcbatch.rounds import local
from tests.servers import S3, SECRET_KEY
from tests.site import ECHO, ENDPOINT, Site, echoed

pytestmark = pytest.mark.slow


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "local").set_up()


def start(site: Site, data: Path, output_path: str, **more: Any) -> str:
    deployment = site.deploy(more.pop("script", ECHO), **more.pop("settings", {}))
    request = InvokeRequest(ENDPOINT, deployment, InputRef(str(data)), output_path=output_path, **more)
    return str(invoke(site.ws, request)["name"])


def test_the_merged_output_is_put_there_and_downloaded_from_here(site: Site, s3: S3, tmp_path: Path) -> None:
    """Nothing else is left there."""
    s3.bucket("results")
    name = start(site, site.data(7), "s3://results/run/1")
    ended = site.wait(name, 120)
    assert ended.status == "Completed", ended
    assert s3.keys("results") == ["run/1/predictions.csv"]
    assert s3.read("results", "run/1/predictions.csv") == echoed(7)
    assert ended.job["outputs"]["score"]["path"] == "s3://results/run/1/"
    download_job(site.ws, name, download_path=str(tmp_path / "here"))
    assert (tmp_path / "here" / "named-outputs" / "score" / "predictions.csv").read_bytes() == echoed(7)


def test_what_is_there_already_is_not_overwritten(site: Site, s3: S3) -> None:
    """Said before anything is made."""
    s3.bucket("taken", {"out/predictions.csv": b"mine"})
    with pytest.raises(Conflict, match=r"'s3://taken/out/predictions\.csv' exists; nothing is overwritten"):
        start(site, site.data(1), "s3://taken/out")
    assert not site.ws.jobs.exists()
    assert s3.read("taken", "out/predictions.csv") == b"mine"


def test_an_output_that_cannot_be_sent_stays_here_and_is_sent_by_resume(site: Site, s3: S3, tmp_path: Path) -> None:
    """The state is honest: not Completed, with the cause and the command."""
    s3.bucket("later")
    (tmp_path / "go").mkdir()
    wait = "import os, time\ndef init():\n    while not os.path.exists(os.environ['GO']): time.sleep(0.05)\n"
    go = tmp_path / "go" / "now"
    settings = {"environment_variables": {"GO": str(go)}}
    name = start(site, site.data(3), "s3://later/out", script=wait + ECHO, settings=settings)
    s3.client.put_object(Bucket="later", Key="out/predictions.csv", Body=b"somebody was faster")
    go.touch()
    ended = site.wait(name, 120)
    assert ended.status == "NotResponding"
    assert "'s3://later/out/predictions.csv' exists and holds something else" in ended.detail
    assert f"hpcbatch job resume --name {name}" in ended.detail
    assert find_job(site.ws, name).verdict() is None
    download_job(site.ws, name, download_path=str(tmp_path / "here"))
    assert (tmp_path / "here" / "named-outputs" / "score" / "predictions.csv").read_bytes() == echoed(3)
    assert s3.read("later", "out/predictions.csv") == b"somebody was faster"
    s3.client.delete_object(Bucket="later", Key="out/predictions.csv")
    resume_job(site.ws, name)
    assert site.wait(name, 120).status == "Completed"
    assert s3.keys("later") == ["out/predictions.csv"]
    assert s3.read("later", "out/predictions.csv") == echoed(3)


def test_the_same_bytes_under_the_name_count_as_sent(site: Site, s3: S3, eventually: Any) -> None:
    """A merge that was killed after sending, and runs again, finds its work done."""
    s3.bucket("again")
    name = start(site, site.data(2), "s3://again/out")
    assert site.wait(name, 120).status == "Completed"
    job = find_job(site.ws, name)
    eventually(lambda: not local.supervisor(job), 60)
    (job.paths.out / "_SUCCESS.json").unlink()
    resume_job(site.ws, name)
    assert site.wait(name, 120).status == "Completed"
    assert s3.keys("again") == ["out/predictions.csv"]


def test_files_that_the_script_wrote_go_there_too(site: Site, s3: S3) -> None:
    s3.bucket("files")
    write = """
import os

def run(mini_batch):
    for path in mini_batch:
        name = os.path.basename(path)
        with open(os.path.join(os.environ["AZUREML_BI_OUTPUT_PATH"], name), "w") as file:
            file.write(name)
    return mini_batch
"""
    name = start(site, site.data(2), "s3://files/out", script=write, settings={"output_action": "summary_only"})
    assert site.wait(name, 120).status == "Completed"
    assert s3.keys("files") == ["out/00000.txt", "out/00001.txt"]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https://host/out", "Nothing can be written"),
        ("azureml://datastores/d/paths/out", r"known to the datastore 'd'(.|\n)*blob\.core\.windows\.net"),
        (f"s3://key:{SECRET_KEY}@bucket/out", "carries a password"),
        ("gs://bucket/out", r"pip install 'hpcbatch\[gs\]'"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_refused(site: Site, path: str, words: str) -> None:
    """With the way out, without the secret, before anything is made."""
    with pytest.raises(SpecError, match=words) as caught:
        start(site, site.data(1), path)
    assert SECRET_KEY not in str(caught.value) + str(caught.value.fields)
    assert not site.ws.jobs.exists()
