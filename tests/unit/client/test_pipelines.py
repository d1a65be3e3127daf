"""Components, pipeline jobs and deployments of pipelines from Python."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpcbatch import BatchClient, BatchEndpoint, Compute, Input, Model, ModelBatchDeployment, SpecError, load
from hpcbatch.client import Component, PipelineComponentBatchDeployment, PipelineJob
from hpcbatch.client.azure import load_component, load_job
from hpcbatch.operations import pipelines
from hpcbatch.records.pipeline import PipelineRecord
from tests.unit.operations.pipelines import write_project


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    folder = write_project(tmp_path / "graph")
    (folder / "job.yml").write_text(
        "type: pipeline\ncompute: batch-cluster\ncomponent: pipeline.yml\ninputs: {raw: {type: uri_folder}}\n"
    )
    return folder


@pytest.fixture
def client(tmp_path: Path, graph: Path) -> BatchClient:
    """A workspace with everything that the pipeline names."""
    client = BatchClient(tmp_path / "ws")
    client.models.create_or_update(Model(name="heart", type="mlflow_model", path=graph / "model"))
    client.computes.create_or_update(Compute(name="batch-cluster", type="local"))
    client.environments.map("*", sys.executable)
    client.batch_endpoints.create_or_update(BatchEndpoint(name="heart-batch"))
    return client


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[PipelineRecord]:
    """The jobs that would have been started."""
    found: list[PipelineRecord] = []

    def start(_ws: Any, record: PipelineRecord, _codes: Any, **_: Any) -> dict[str, Any]:
        found.append(record)
        return {"name": record.name, "status": "Preparing"}

    monkeypatch.setattr(pipelines, "create_and_start", start)
    return found


def test_a_component_is_loaded_registered_and_got(client: BatchClient, graph: Path) -> None:
    loaded = load_component(graph / "components" / "prepare.yml")
    created = client.components.create_or_update(loaded)
    assert (created.name, created.version, created.type) == ("prepare", "1", "command")
    assert client.components.get("prepare", label="latest").inputs["rate"]["default"] == "0.10"
    assert [one.name for one in client.components.list()] == ["prepare"]
    client.components.archive("prepare")
    assert client.components.list() == []
    (graph / "bad.yml").write_text("type: magic\n")
    with pytest.raises(SpecError, match=r"bad\.yml:1: type"):
        Component.load(graph / "bad.yml")


def test_a_pipeline_is_deployed_and_invoked_with_values_by_name(
    client: BatchClient, graph: Path, started: list[PipelineRecord], tmp_path: Path
) -> None:
    component = client.components.create_or_update(Component.load(graph / "pipeline.yml"))
    deployment = PipelineComponentBatchDeployment(
        name="graph", endpoint_name="heart-batch", component=component, settings={"default_compute": "batch-cluster"}
    )
    created = client.batch_deployments.create_or_update(deployment, set_default=True)
    assert created.component == "azureml:prepare_and_score:1"
    job = client.batch_endpoints.invoke(
        "heart-batch",
        inputs={"raw": Input(graph / "data"), "mode": "replace", "rate": 0.25},
        outputs={"scores": tmp_path / "scores"},
        force_rerun=True,
    )
    assert job.name == started[0].name
    assert {name: one.value for name, one in started[0].inputs.items()} == {
        "raw": str(graph / "data"),
        "mode": "replace",
        "rate": "0.25",
    }
    assert (started[0].outputs["scores"].path, started[0].force_rerun) == (str(tmp_path / "scores"), True)
    client.batch_endpoints.invoke("heart-batch", input=graph / "data")
    assert started[1].inputs["raw"].value == str(graph / "data")
    with pytest.raises(SpecError, match="does not say which output"):
        client.batch_endpoints.invoke("heart-batch", input=graph / "data", output_path=tmp_path / "x")


def test_a_deployment_that_was_got_is_changed_where_it_differs(client: BatchClient, graph: Path) -> None:
    client.create_or_update(load(graph / "deployment.yml"))
    found = client.batch_deployments.get("graph", "heart-batch")
    assert isinstance(found, PipelineComponentBatchDeployment)
    found.settings["force_rerun"] = True
    changed = client.batch_deployments.create_or_update(found)
    assert changed.settings["force_rerun"] is True
    assert changed.component == found.component
    assert [type(one) for one in client.batch_deployments.list("heart-batch")] == [PipelineComponentBatchDeployment]


def test_a_job_is_started_from_its_file_with_changes(
    client: BatchClient, graph: Path, started: list[PipelineRecord]
) -> None:
    job = load_job(graph / "job.yml", name="mine")
    job.inputs["raw"] = {"type": "uri_folder", "path": "data"}
    assert client.jobs.create_or_update(job).name == "mine"
    assert started[0].inputs["raw"].value == str(graph / "data")
    with pytest.raises(SpecError, match="A job is started"):
        client.create_or_update(job)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("type: pipeline\nname: p\njobs: {a: {component: x.yml}}\n", Component),
        ("type: pipeline\nexperiment_name: e\njobs: {a: {component: x.yml}}\n", PipelineJob),
        ("type: command\ncommand: run\nenvironment: e\n", PipelineJob),
        ("type: command\nname: c\ncommand: run\nenvironment: e\n", Component),
        ("$schema: x/latest/pipelineJob.schema.json\nname: j\ntype: pipeline\ncomponent: p.yml\n", PipelineJob),
        ("type: parallel\ntask: {entry_script: s.py}\n", Component),
        ("type: pipeline\nname: blue\nendpoint_name: heart\ncomponent: p.yml\n", PipelineComponentBatchDeployment),
        ("type: model\nname: blue\nendpoint_name: heart\nmodel: azureml:m:1\n", ModelBatchDeployment),
    ],
)
def test_load_tells_components_jobs_and_deployments_apart(tmp_path: Path, text: str, kind: type) -> None:
    (tmp_path / "document.yml").write_text(text)
    assert type(load(tmp_path / "document.yml")) is kind
