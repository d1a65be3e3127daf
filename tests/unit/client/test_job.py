"""Jobs from Python: real ones, on this machine."""

from __future__ import annotations

import pickle
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpcbatch
from hpcbatch import BatchClient, Data, Input, Job, JobError, NotFound, Output, SpecError
from hpcbatch.client.progress import SHOWS
from hpcbatch.errors import IncompleteError, JobCanceled
from tests.unit.client.hearts import make_project, set_up


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[BatchClient, Path, Job]]:
    """A client, the user's folder, and a Completed job."""
    folder = tmp_path_factory.mktemp("ran")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        project = make_project(folder / "project")
        client = set_up(BatchClient(folder / "ws"), project)
        job = client.batch_endpoints.invoke("heart-batch", input=project / "data", job_name="first")
        yield client, project, job.wait(progress=False)


Ran = tuple[BatchClient, Path, Job]


def test_a_job_is_found_by_its_name(ran: Ran) -> None:
    """By its name, in lists, and by the same call again, which starts nothing."""
    client, project, job = ran
    assert (job.status, job.endpoint, job.deployment, job.is_done) == ("Completed", "heart-batch", "blue", True)
    assert client.jobs.get("first") == job
    again = client.batch_endpoints.invoke("heart-batch", input=project / "data", job_name="first")
    assert again == job
    assert job in client.jobs.list(endpoint_name="heart-batch")
    assert job in client.batch_endpoints.list_jobs("heart-batch")
    assert client.batch_deployments.list_jobs("heart-batch", name="other") == []
    assert list(client.jobs.list(parent_job_name="first")) == [job]
    assert {job, again} == {job}
    with pytest.raises(NotFound):
        client.jobs.get("second")
    client.jobs.archive("first")
    assert client.jobs.list() == []
    client.jobs.restore("first")
    assert client.jobs.list() == [job]


def test_the_output_is_read_where_it_lies(ran: Ran) -> None:
    """Columns by the names that are given; a space is what separates fields, and nothing is guessed."""
    job = ran[2]
    assert Path(job.outputs["score"]) / "predictions.csv" == job.output_file
    frame = job.to_pandas(["file", "score"])
    assert list(frame["file"]) == [f"{number}.txt" for number in range(5)]
    assert list(frame["score"]) == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert list(job.to_pandas().columns) == [0, 1]
    assert list(job.to_pandas(["line"], sep="|")["line"])[1] == "1.txt 2.0"
    table = job.to_arrow(names=["file", "score"])
    assert table.column("score").to_pylist() == [0.0, 2.0, 4.0, 6.0, 8.0]
    assert job.to_arrow().column_names == ["f0", "f1"]
    for read in (job.to_pandas, job.to_arrow):
        with pytest.raises(SpecError, match=r"2 columns, and 3 names"):
            read(["file", "score", "more"])


def test_the_output_is_downloaded_as_azure_ml_lays_it_out(ran: Ran, tmp_path: Path) -> None:
    """Below named-outputs/score; logs on request."""
    client, _, job = ran
    assert job.download(tmp_path / "a") == tmp_path / "a"
    assert (tmp_path / "a" / "named-outputs" / "score" / "predictions.csv").read_bytes() == job.output_file.read_bytes()
    client.jobs.download(name="first", download_path=tmp_path / "b", output_name="score", all=True)
    assert list((tmp_path / "b" / "artifacts" / "logs").iterdir())


def test_logs_hold_what_the_script_printed(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    """At once with `logs`; on stdout with `stream`, which ends with the job."""
    client, _, job = ran
    assert "scoring 3.txt" in job.logs()
    assert client.jobs.stream("first") == job
    out = capsys.readouterr().out
    assert out.startswith("RunId: first\n")
    assert "scoring 3.txt" in out


def test_inputs_of_every_kind(ran: Ran) -> None:
    """A path, an Input, a data asset, Azure ML's `inputs`; overrides by our names and by Azure ML's."""
    client, project, _ = ran
    asset = client.data.create_or_update(Data(name="hearts", path=project / "data"))
    invoke = client.batch_endpoints.invoke
    file = invoke("heart-batch", input=project / "data" / "4.txt", mini_batch_size=1).wait(progress=False)
    assert file.output_file.read_text() == "4.txt 8.0\n"
    inputs = {"x": Input(path=project / "data", type="uri_folder")}
    changed = invoke(
        "heart-batch",
        deployment_name="blue",
        inputs=inputs,
        outputs={"score": Output(project / "results")},
        params_override=[
            {"mini_batch_size": "1"},
            {"retry_settings.max_retries": 1},
            {"settings.logging_level": "debug"},
        ],
        output_file_name="scores.csv",
    ).wait(progress=False)
    assert changed.shown["mini_batches"] == 5
    assert changed.output_file == project / "results" / "scores.csv"
    whole = invoke("heart-batch", input=asset, environment_variables={"A": "1"}).wait(progress=False)
    assert len(whole.to_pandas()) == 5
    typed = invoke("heart-batch", input=project / "data", output_file_name="x.parquet", output_input_column="file")
    typed.wait(progress=False)
    assert list(typed.to_pandas()["file"]) == [f"{number}.txt" for number in range(5)]
    headed = invoke("heart-batch", input=project / "data", output_header="name score").wait(progress=False)
    assert list(headed.to_pandas().columns) == headed.to_arrow().column_names == ["name", "score"]
    with pytest.raises(SpecError, match="exactly one data input"):
        invoke("heart-batch", inputs={"a": project / "data", "b": project / "data"})
    with pytest.raises(SpecError, match="needs an input"):
        invoke("heart-batch")
    with pytest.raises(SpecError, match="'mini_batchsize' cannot be set"):
        invoke("heart-batch", input=project / "data", mini_batchsize=1)


def test_a_failed_job_raises_what_the_script_raised(ran: Ran, tmp_path: Path) -> None:
    """The exception, its traceback and what was printed before it; the error travels between processes."""
    client, _, _ = ran
    (tmp_path / "notes.txt").write_text("not a number")
    job = client.batch_endpoints.invoke("heart-batch", input=tmp_path)
    with pytest.raises(JobError) as caught:
        job.wait(progress=False)
    text = str(caught.value)
    assert "could not convert string to float: 'not a number'" in text
    assert "scoring notes.txt" in text
    assert "score.py" in text
    assert f"hpcbatch job show --name {job.name}" in text
    assert job.failures[0]["type"] == "ValueError"
    assert str(pickle.loads(pickle.dumps(caught.value))) == text
    assert job.wait(progress=False, raise_on_error=False).status == "Failed"
    with pytest.raises(JobError):
        job.to_pandas()
    with pytest.raises(JobError):
        client.jobs.stream(job.name)
    page = job._repr_html_()
    assert "could not convert string to float: &#x27;not a number&#x27;" in page


def test_waiting_ends_at_its_time_and_the_job_goes_on_until_it_is_canceled(ran: Ran, tmp_path: Path) -> None:
    """TimeoutError says how to wait again; there is no output before the end."""
    client, _, _ = ran
    (tmp_path / "a.txt").write_text("slow")
    job = client.batch_endpoints.invoke("heart-batch", input=tmp_path)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=r"client\.jobs\.get"):
        job.wait(timeout_s=0.5, progress=False)
    assert time.monotonic() - began < 50
    with pytest.raises(IncompleteError, match=r"job\.wait"):
        job.to_pandas()
    client.jobs.begin_cancel(job.name).result()
    assert job.wait(progress=False, raise_on_error=False).status == "Canceled"
    with pytest.raises(JobCanceled):
        job.wait(progress=False)
    with pytest.raises(hpcbatch.Conflict):
        job.resume()


def test_a_summary_only_job_has_a_folder_and_no_file(ran: Ran) -> None:
    """The error says where the script's own files are."""
    client, project, _ = ran
    deployment = client.batch_deployments.get("blue", "heart-batch")
    deployment.settings.output_action = "summary_only"
    deployment.settings.output_file_name = None
    client.batch_deployments.create_or_update(deployment)
    job = client.batch_endpoints.invoke("heart-batch", input=project / "data").wait(progress=False)
    deployment = client.batch_deployments.get("blue", "heart-batch")
    deployment.settings.output_action = "append_row"
    client.batch_deployments.create_or_update(deployment)
    with pytest.raises(NotFound, match="summary_only"):
        job.to_pandas()


def test_progress_is_a_line_now_and_then(ran: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, and only where it was asked for."""
    client, project, _ = ran
    assert len(SHOWS) == 1
    job = client.batch_endpoints.invoke("heart-batch", input=project / "data").wait()
    err = capsys.readouterr().err
    assert err.splitlines()[-1].startswith(f"{job.name} Completed: 5 of 5 items, ")
    job.wait(progress=False)
    assert capsys.readouterr().err == ""


def test_warnings_of_an_invocation_are_warnings(ran: Ran, tmp_path: Path) -> None:
    """An environment that nobody maps runs with our Python, and says so."""
    client, project, _ = ran
    client.batch_deployments.create_or_update(hpcbatch.load(project / "deployment.yml", name="unmapped"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        client.batch_endpoints.invoke("heart-batch", deployment_name="unmapped", input=project / "data")
    assert any("heart-env" in str(one.message) for one in caught)
    assert {one.filename for one in caught if one.category is UserWarning} == {__file__}
