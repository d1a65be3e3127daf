"""From YAML and values to the record of a pipeline job: what is bound to what, with every value checked before."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FileDamaged, NotFound, SpecError
from hpcbatch.ids import sha256
from hpcbatch.operations.assets import create_compute, create_data
from hpcbatch.operations.components import create_component
from hpcbatch.operations.deployments import create_deployment, show_deployment, update_deployment
from hpcbatch.operations.pipeline_invoke import PipelineInvocation, pipeline_request
from hpcbatch.operations.pipelines import sealed_record
from hpcbatch.operations.resolve import deployment_type, resolve_deployment
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.pipeline import PipelineRecord, StepInput, StepOutput, parse_pipeline
from hpcbatch.registry.snapshots import code_file
from hpcbatch.spec.yamlfile import Loaded
from tests.unit.operations.pipelines import DEPLOYMENT, PIPELINE


def _invoked(ws: Workspace, folder: Path, given: dict[str, Any], **more: Any) -> PipelineRecord:
    document = Loaded(given, "inputs.yml", {}, folder)
    return sealed_record(ws, pipeline_request(ws, PipelineInvocation("heart-batch", "graph", document, **more)))[0]


@pytest.fixture
def deployed(stocked: Workspace, graph: Path) -> Workspace:
    create_deployment(stocked, file=graph / "deployment.yml", set_default=True)
    return stocked


def test_an_invocation_becomes_a_record_with_every_binding_resolved(deployed: Workspace, graph: Path) -> None:
    record = _invoked(deployed, graph, {"inputs": {"raw": {"path": "data"}, "mode": {"default": "replace"}}})
    assert [step.name for step in record.steps] == ["prepare", "score"]
    prepare, score = record.steps
    assert {name: (one.type, one.kind, one.value) for name, one in prepare.inputs.items()} == {
        "data": ("uri_folder", "input", "raw"),
        "encoding": ("string", "literal", "ordinal"),
        "rate": ("number", "literal", "0.10"),
    }
    assert set(prepare.optional_inputs) == {"transforms", "encoding"}
    assert score.inputs["data"] == StepInput("uri_folder", "step", "prepare.prepared")
    assert score.inputs["mode"] == StepInput("string", "input", "mode")
    assert (score.inputs["model"].type, score.inputs["model"].kind) == ("mlflow_model", "path")
    assert Path(score.inputs["model"].value, "MLmodel").is_file()
    assert len(score.inputs["model"].digest) == 64
    assert prepare.outputs == {
        "prepared": StepOutput("uri_folder"),
        "learned": StepOutput("custom_model", pipeline_output="learned"),
    }
    assert (prepare.instance_count, prepare.timeout_s, prepare.environment_variables) == (2, 60.0, {"THREADS": "4"})
    assert (prepare.compute.name, prepare.compute.kind) == ("batch-cluster", "local")
    assert (prepare.python, prepare.environment_origin) == (sys.executable, "map '*'")
    assert {name: one.value for name, one in record.inputs.items()} == {
        "raw": str(graph / "data"),
        "mode": "replace",
    }
    assert record.outputs["scores"].path == str(deployed.jobs / record.user / record.name / "out" / "scores")
    assert (record.endpoint, record.deployment, record.deployment_revision) == ("heart-batch", "graph", 1)
    assert (record.continue_on_step_failure, record.force_rerun) == (False, False)
    assert parse_pipeline(record.to_bytes(), "pipeline.json").to_bytes() == record.to_bytes()


def test_the_code_of_the_steps_comes_with_the_record(deployed: Workspace, graph: Path) -> None:
    asked = PipelineInvocation("heart-batch", "graph", Loaded({"inputs": {"raw": "data"}}, "f", {}, graph))
    record, codes = sealed_record(deployed, pipeline_request(deployed, asked))
    assert {step.code.digest for step in record.steps if step.code} == set(codes)
    assert all(sha256(content) == digest for digest, content in codes.items())
    path = code_file(deployed.root, next(iter(codes)))
    path.chmod(0o644)
    path.write_bytes(b"changed")
    with pytest.raises(FileDamaged, match="not the code that was registered"):
        sealed_record(deployed, pipeline_request(deployed, asked))


def test_an_optional_input_with_a_value_reaches_the_step(deployed: Workspace, graph: Path) -> None:
    record = _invoked(deployed, graph, {"inputs": {"raw": "data", "rate": 0.25}})
    assert record.steps[0].inputs["rate"] == StepInput("number", "input", "rate")
    assert record.inputs["rate"].value == "0.25"


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ({}, "inputs.raw", "has no value"),
        ({"raw": "data", "rate": "fast"}, "inputs.rate", "'fast' is not a number"),
        ({"raw": "data", "rate": 5}, "jobs.prepare.inputs.rate", "5 is more than the max 1"),
        ({"raw": "data", "mode": "never"}, "jobs.score.inputs.mode", "none of its enum"),
        ({"raw": "data", "mod": "append"}, "inputs.mod", "no input 'mod'; did you mean 'mode'"),
        ({"raw": 5}, "inputs.raw", "is a literal"),
        ({"raw": "missing"}, "inputs.raw.path", "does not exist"),
        ({"raw": "data/a.csv"}, "inputs.raw.path", "is not a folder"),
        ({"raw": {"path": "data/a.csv", "type": "uri_file"}}, "inputs.raw.type", "is a uri_folder"),
        ({"raw": {"path": "data", "type": "string"}}, "inputs.raw.type", "is a uri_folder"),
        ({"raw": "data", "mode": {"path": "data"}}, "inputs.mode.path", "is a string"),
        ({"raw": "data", "mode": {"type": "uri_folder", "path": "data"}}, "inputs.mode.type", "is a string"),
        ({"raw": "data", "rate": [1]}, "inputs.rate", "is not allowed"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_before_anything_is_made(
    deployed: Workspace, graph: Path, given: dict[str, Any], field: str, message: str
) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        _invoked(deployed, graph, {"inputs": given})
    assert caught.value.fields["field"] == field
    assert not deployed.jobs.exists()


def test_data_is_named_in_every_form_that_azure_ml_has(deployed: Workspace, graph: Path) -> None:
    create_data(deployed, name="raw", path=str(graph / "data"))
    store = deployed.root / "datastores" / "lake" / "x"
    store.mkdir(parents=True)
    forms = {
        "data": graph / "data",
        f"file://{graph}/data": graph / "data",
        "azureml:raw:1": graph / "data",
        "azureml:raw@latest": graph / "data",
        "azureml://datastores/lake/paths/x/": store,
    }
    for text, expected in forms.items():
        record = _invoked(deployed, graph, {"inputs": {"raw": {"type": "uri_folder", "path": text}}})
        assert record.inputs["raw"].value == str(expected)
    with pytest.raises(NotFound, match="data 'other' is not registered"):
        _invoked(deployed, graph, {"inputs": {"raw": "azureml:other:1"}})
    with pytest.raises(SpecError, match="leads out of its datastore"):
        _invoked(deployed, graph, {"inputs": {"raw": "azureml://datastores/lake/paths/../../x"}})


def test_an_address_is_data_whose_credentials_are_names(
    deployed: Workspace, graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-north-1")
    named = {"key": {"env": "TEAM_KEY"}, "secret": {"file": "/home/me/secret"}}
    raw = {"path": "s3://bucket/raw", "storage_options": named}
    record = _invoked(
        deployed, graph, {"inputs": {"raw": raw}, "outputs": {"scores": "s3://bucket/scores"}, "storage_options": named}
    )
    assert (record.inputs["raw"].value, record.inputs["raw"].options) == ("s3://bucket/raw", named)
    assert record.outputs["scores"].options == named
    assert record.secrets == ("TEAM_KEY",)
    assert {"TEAM_KEY", "AWS_REGION"} <= set(record.travelling)
    assert parse_pipeline(record.to_bytes(), "x") == record
    create_data(deployed, name="far", path="s3://bucket/raw", sets=["storage_options.key.env=TEAM_KEY"])
    assert _invoked(deployed, graph, {"inputs": {"raw": "azureml:far:1"}}).secrets == ("TEAM_KEY",)
    direct = _invoked(deployed, graph, {"inputs": {"raw": {**raw, "mode": "direct"}}})
    assert direct.step("prepare").inputs["data"].direct
    assert _invoked(deployed, graph, {"inputs": {"raw": "data"}}).travelling == ()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"path": "https://me:word@example.org/raw"}, "carries a password"),
        ({"path": "s3://bucket/raw", "storage_options": {"secret": "abc"}}, "holds a secret that would be stored"),
        ({"path": "memory://raw"}, "cannot read"),
        ({"path": "s3://bucket/raw"}, "AWS_SECRET_ACCESS_KEY of this shell would not reach the job"),
    ],
)
def test_an_address_that_a_job_must_not_keep_or_cannot_reach_is_refused(
    deployed: Workspace, graph: Path, monkeypatch: pytest.MonkeyPatch, raw: dict[str, Any], message: str
) -> None:
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    with pytest.raises(SpecError, match=message):
        _invoked(deployed, graph, {"inputs": {"raw": raw}})
    assert not deployed.jobs.exists()


def test_outputs_go_where_the_invocation_says(deployed: Workspace, graph: Path, tmp_path: Path) -> None:
    outputs = {
        "scores": {"path": str(tmp_path / "${{name}}" / "${{output_name}}"), "name": "scored", "version": 3},
        "learned": {"path": "azureml://datastores/lake/paths/models", "type": "custom_model", "mode": "upload"},
    }
    record = _invoked(deployed, graph, {"inputs": {"raw": "data"}, "outputs": outputs}, job_name="run-1")
    assert record.outputs["scores"].path == str(tmp_path / "run-1" / "scores")
    assert record.outputs["scores"].register_as == "scored:3"
    assert record.outputs["learned"].path == str(deployed.root / "datastores" / "lake" / "models")
    for path, message in (("x/${{secret}}", "is not known in a path"), ("azureml:some:1", "not a place for an output")):
        with pytest.raises(SpecError, match=message):
            _invoked(deployed, graph, {"inputs": {"raw": "data"}, "outputs": {"scores": {"path": path}}})
    with pytest.raises(SpecError, match="no output 'score'"):
        _invoked(deployed, graph, {"inputs": {"raw": "data"}, "outputs": {"score": {}}})


def test_settings_are_those_of_the_deployment_unless_the_invocation_says_otherwise(
    deployed: Workspace, graph: Path
) -> None:
    given = {"inputs": {"raw": "data"}}
    create_compute(deployed, name="other", type="local")
    overrides = {"force_rerun": "true", "continue_on_step_failure": True, "default_compute": "azureml:other"}
    record = _invoked(deployed, graph, given, overrides=overrides)
    assert (record.force_rerun, record.continue_on_step_failure) == (True, True)
    assert {step.compute.name for step in record.steps} == {"other"}
    with pytest.raises(SpecError, match="mini_batch_size cannot be changed for one job of a pipeline"):
        _invoked(deployed, graph, given, overrides={"mini_batch_size": 5})


def test_input_without_a_name_is_the_one_that_takes_data(deployed: Workspace, graph: Path) -> None:
    assert _invoked(deployed, graph, {}, input="data").inputs["raw"].value == str(graph / "data")
    two = PIPELINE.replace("  raw: {type: uri_folder}", "  raw: {type: uri_folder}\n  other: {type: uri_folder}")
    (graph / "pipeline.yml").write_text(two)
    create_deployment(deployed, file=graph / "deployment.yml")
    with pytest.raises(SpecError, match="does not say which input"):
        _invoked(deployed, graph, {}, input="data")


def test_the_same_request_has_the_same_digest_and_another_another(deployed: Workspace, graph: Path) -> None:
    one, same = (_invoked(deployed, graph, {"inputs": {"raw": "data"}}, job_name="a") for _ in range(2))
    other = _invoked(deployed, graph, {"inputs": {"raw": "data", "mode": "replace"}}, job_name="a")
    assert one.request_sha256 == same.request_sha256 != other.request_sha256
    with pytest.raises(SpecError, match=r"Job name .* is not allowed"):
        _invoked(deployed, graph, {"inputs": {"raw": "data"}}, job_name="../x")


def test_a_pipeline_deployment_is_shown_updated_and_told_from_a_model(deployed: Workspace, graph: Path) -> None:
    shown = show_deployment(deployed, "graph", "heart-batch")
    assert (shown["type"], shown["component"], shown["steps"]) == (
        "pipeline",
        "azureml:prepare_and_score:1",
        ["score", "prepare"],
    )
    assert shown["settings"] == {"continue_on_step_failure": False, "default_compute": "batch-cluster"}
    assert deployment_type(deployed, "heart-batch", None) == "pipeline"
    changed = update_deployment(deployed, "graph", "heart-batch", sets=["settings.force_rerun=true", "description=New"])
    assert (changed["settings"]["force_rerun"], changed["description"], changed["revision"]) == (True, "New", 2)
    assert changed["component"] == shown["component"]
    with pytest.raises(SpecError, match="is a pipeline; it has no model"):
        resolve_deployment(deployed, "heart-batch", "graph")


def test_later_edits_of_the_files_change_nothing_of_a_deployment(deployed: Workspace, graph: Path) -> None:
    before = _invoked(deployed, graph, {"inputs": {"raw": "data"}}, job_name="a")
    (graph / "src" / "prepare.py").write_text("print('changed')\n")
    (graph / "pipeline.yml").write_text("broken")
    after = _invoked(deployed, graph, {"inputs": {"raw": "data"}}, job_name="a")
    assert after.steps == before.steps


@pytest.mark.parametrize(
    ("component", "error", "message"),
    [
        ("components/prepare.yml", SpecError, "needs a component of type pipeline"),
        ("azureml:prepare", SpecError, "needs a component of type pipeline"),
        ("azureml:missing@latest", NotFound, "is not registered"),
        ("missing.yml", SpecError, "does not exist"),
    ],
)
def test_a_deployment_needs_a_pipeline_component_that_is_there(
    stocked: Workspace, graph: Path, component: str, error: type[Exception], message: str
) -> None:
    create_component(stocked, file=graph / "components" / "prepare.yml")
    (graph / "d.yml").write_text(DEPLOYMENT.replace("component: pipeline.yml", f"component: {component}"))
    with pytest.raises(error, match=message):
        create_deployment(stocked, file=graph / "d.yml")


def test_a_deployment_of_steps_that_only_azure_ml_runs_says_what_to_use(stocked: Workspace, graph: Path) -> None:
    (graph / "pipeline.yml").write_text("name: p\ntype: pipeline\njobs:\n  tune: {type: sweep, trial: t.yml}\n")
    assert create_component(stocked, file=graph / "pipeline.yml")["version"] == "1"
    with pytest.raises(SpecError, match=r"Step tune is of type 'sweep'.*\n.*several steps of type command"):
        create_deployment(stocked, file=graph / "deployment.yml")


def test_a_job_definition_may_be_written_in_the_deployment(stocked: Workspace, graph: Path) -> None:
    text = "job_definition: {type: pipeline, component: pipeline.yml}\n"
    (graph / "d.yml").write_text(DEPLOYMENT.replace("component: pipeline.yml\n", text))
    create_deployment(stocked, file=graph / "d.yml")
    assert [step.name for step in _invoked(stocked, graph, {"inputs": {"raw": "data"}}).steps] == ["prepare", "score"]


def test_a_component_may_also_be_written_in_the_deployment(stocked: Workspace, graph: Path) -> None:
    inline = "component:\n  jobs:\n    a:\n      command: echo hi\n      environment: {image: x}\n"
    (graph / "d.yml").write_text(DEPLOYMENT.replace("component: pipeline.yml\n", inline))
    assert create_deployment(stocked, file=graph / "d.yml")["component"] is None
    (step,) = _invoked(stocked, graph, {}).steps
    assert (step.name, step.command, step.component) == ("a", "echo hi", "anonymous")
