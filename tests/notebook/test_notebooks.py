"""Notebooks are executed in real kernels: the example as it is, and one as Azure ML's users write theirs."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from hpcbatch import BatchClient
from tests.unit.client.hearts import make_project, set_up

EXAMPLE = Path(__file__).parents[2] / "examples" / "notebooks" / "quickstart.ipynb"
AZURE = [
    """
    from hpcbatch.client.azure import (
        AmlCompute, AssetTypes, BatchDeploymentOutputAction, BatchEndpoint, BatchRetrySettings, CodeConfiguration,
        Environment, Input, MLClient, Model, ModelBatchDeployment, ModelBatchDeploymentSettings,
    )
    ml_client = MLClient("credential", "subscription", "resource group", "./workspace")
    """,
    """
    model = ml_client.models.create_or_update(Model(name="heart", path="model", type=AssetTypes.CUSTOM_MODEL))
    compute_cluster = AmlCompute(name="cpu-cluster", description="amlcompute", min_instances=0, max_instances=5)
    ml_client.begin_create_or_update(compute_cluster).result()
    endpoint = BatchEndpoint(name="heart-batch", description="Scores hearts", tags={"type": "heart"})
    ml_client.begin_create_or_update(endpoint).result()
    """,
    """
    import sys
    ml_client.environments.map("batch-*", sys.executable)
    env = Environment(name="batch-env", conda_file="conda.yaml", image="mcr.microsoft.com/azureml/openmpi:latest")
    deployment = ModelBatchDeployment(
        name="blue",
        endpoint_name=endpoint.name,
        model=model,
        code_configuration=CodeConfiguration(code="code", scoring_script="score.py"),
        environment=env,
        compute=compute_cluster.name,
        settings=ModelBatchDeploymentSettings(
            max_concurrency_per_instance=2,
            mini_batch_size=2,
            instance_count=2,
            output_action=BatchDeploymentOutputAction.APPEND_ROW,
            output_file_name="predictions.csv",
            retry_settings=BatchRetrySettings(max_retries=3, timeout=30),
            logging_level="info",
        ),
    )
    ml_client.begin_create_or_update(deployment).result()
    """,
    """
    endpoint = ml_client.batch_endpoints.get(endpoint.name)
    endpoint.defaults.deployment_name = deployment.name
    ml_client.batch_endpoints.begin_create_or_update(endpoint).result()
    """,
    """
    job = ml_client.batch_endpoints.invoke(
        endpoint_name=endpoint.name, input=Input(path="data", type=AssetTypes.URI_FOLDER)
    )
    ml_client.jobs.stream(name=job.name)
    """,
    """
    import pandas as pd
    scoring_job = list(ml_client.jobs.list(parent_job_name=job.name))[0]
    ml_client.jobs.download(name=scoring_job.name, download_path=".", output_name="score")
    score = pd.read_csv("named-outputs/score/predictions.csv", header=None, names=["file", "score"], sep=" ")
    assert list(score["score"]) == [0.0, 2.0, 4.0, 6.0, 8.0]
    """,
    """
    ml_client.batch_endpoints.begin_delete(name=endpoint.name).result()
    ml_client.compute.begin_delete("cpu-cluster").result()
    """,
]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's, and no Slurm: an `amlcompute` is this machine."""
    for name in ("HOME", "IPYTHONDIR", "JUPYTER_CONFIG_DIR", "XDG_CONFIG_HOME", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv("HPCBATCH_WORKSPACE", raising=False)
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if not (Path(f) / "sbatch").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))


def executed(notebook: nbformat.NotebookNode, folder: Path) -> list[list[nbformat.NotebookNode]]:
    """The outputs of each code cell, in a kernel that starts in *folder*."""
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    try:
        client.execute()
    except CellExecutionError as error:
        raise AssertionError(str(error)) from error
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def pages(outputs: list[nbformat.NotebookNode], kind: str) -> list[str]:
    """The HTML of the outputs of this kind."""
    return [one.data["text/html"] for one in outputs if one.output_type == kind and "text/html" in one.data]


def test_the_example_runs_and_shows_what_it_promises(tmp_path: Path) -> None:
    """A bar that was drawn in place until its end, cards and tables, a failure with its traceback."""
    notebook = nbformat.read(EXAMPLE, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "the notebook is kept without outputs"

    cells = executed(notebook, tmp_path)

    bars = [page for cell in cells for page in pages(cell, "display_data")]
    assert len(bars) == 3, "one bar for each wait(), drawn again in its place"
    assert "12 of 12 items, 0 failed" in bars[0].replace(" items/s, ", " ")
    assert "Completed" in bars[0]
    assert "Failed" in bars[2]
    results = [page for cell in cells for page in pages(cell, "execute_result")]
    assert sum("<b>nearest</b>" in page for page in results) == 1
    [failed] = [page for page in results if "What the scoring script said" in page]
    assert "ValueError: could not convert string to float: &#x27;not&#x27;" in failed
    assert "<script" not in failed
    jobs = next(page for page in results if "<th" in page and "Failed" in page)
    assert jobs.count("<tr>") == 4
    [text] = [one.text for cell in cells for one in cell if one.output_type == "stream" and "Traceback" in one.text]
    assert text.startswith("Job '")


def test_a_notebook_of_azure_ml_runs_with_its_imports_changed(tmp_path: Path) -> None:
    """Its client, its entities, its pollers, its stream and its download."""
    project = make_project(tmp_path / "project")
    cells = [nbformat.v4.new_code_cell(textwrap.dedent(source)) for source in AZURE]
    outputs = executed(nbformat.v4.new_notebook(cells=cells), project)
    assert "scoring 3.txt" in "".join(one.text for one in outputs[4] if one.output_type == "stream")
    assert (project / "named-outputs" / "score" / "predictions.csv").read_text().startswith("0.txt 0.0\n")


def test_an_interrupted_wait_says_that_the_job_goes_on(tmp_path: Path) -> None:
    """Ctrl-C, or the stop button, leaves the job as it is."""
    project = make_project(tmp_path / "project")
    (project / "data" / "0.txt").write_text("slow")
    set_up(BatchClient(tmp_path / "ws"), project)
    source = f"""
    import _thread, threading
    from hpcbatch import BatchClient
    client = BatchClient("./ws")
    job = client.batch_endpoints.invoke("heart-batch", input={str(project / "data")!r})
    try:
        threading.Timer(5, _thread.interrupt_main).start()
        job.wait()
    except KeyboardInterrupt:
        assert not job.refresh().is_done
        job.cancel()
    """
    cell = nbformat.v4.new_code_cell(textwrap.dedent(source))
    [outputs] = executed(nbformat.v4.new_notebook(cells=[cell]), tmp_path)
    assert "Stopped waiting; the job goes on." in pages(outputs, "display_data")[0]
