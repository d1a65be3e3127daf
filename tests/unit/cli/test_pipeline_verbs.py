"""Components, pipeline jobs and pipeline deployments from the command line, as az has them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.component import component_card
from hpcbatch.operations import pipelines
from hpcbatch.records.pipeline import PipelineRecord
from tests.unit.cli.conftest import Cli
from tests.unit.operations.pipelines import write_project


@pytest.fixture
def graph(tmp_path: Path, cli: Cli) -> Path:
    """A project with a pipeline in the current workspace: its model, its compute, an endpoint."""
    folder = write_project(tmp_path / "graph")
    for line in (
        f"model create --name heart --type mlflow_model --path {folder}/model",
        "compute create -n batch-cluster --type local",
        f"environment map '*' --python {sys.executable}",
        "batch-endpoint create -n heart-batch",
    ):
        assert cli(line).exit_code == 0
    return folder


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[PipelineRecord]:
    """The jobs that would have been started."""
    found: list[PipelineRecord] = []

    def start(_ws: Any, record: PipelineRecord, _codes: Any, **_: Any) -> dict[str, Any]:
        found.append(record)
        return {"name": record.name, "status": "Preparing", "warnings": list(record.warnings)}

    monkeypatch.setattr(pipelines, "create_and_start", start)
    return found


def test_a_component_is_created_shown_listed_and_archived(cli: Cli, graph: Path) -> None:
    assert cli(f"component create -f {graph}/components/prepare.yml --query id -o tsv").out == "azureml:prepare:1\n"
    assert cli(f"component create -f {graph}/components/prepare.yml --version 7").json["version"] == "7"
    assert cli("component show -n prepare --label latest --query version -o tsv").out == "7\n"
    assert cli("component show -n prepare --version 1 --query code.digest -o tsv").exit_code == 0
    assert [one["version"] for one in cli("component list --name prepare").json] == ["7", "1"]
    assert cli("component archive -n prepare").exit_code == 0
    assert cli("component list").json == []
    assert cli("component restore -n prepare").exit_code == 0
    assert "prepare" in cli("component list -o table").out
    assert cli("component update -n prepare --version 1 --set description=Old").json["description"] == "Old"


def test_a_component_that_is_wrong_is_refused_with_file_and_line(cli: Cli, graph: Path) -> None:
    text = (graph / "pipeline.yml").read_text()
    (graph / "pipeline.yml").write_text(text.replace("${{parent.inputs.raw}}", "${{parent.inputs.row}}"))
    ran = cli(f"component create -f {graph}/pipeline.yml")
    assert ran.exit_code == 2
    line = text[: text.index("data: ${{parent.inputs.raw}}")].count("\n") + 1
    assert f"{graph}/pipeline.yml:{line}: jobs.prepare.inputs.data" in ran.err
    assert "Did you mean 'raw'?" in ran.err


def test_a_pipeline_deployment_is_invoked_with_a_file_sets_and_flags(
    cli: Cli, graph: Path, started: list[PipelineRecord], tmp_path: Path
) -> None:
    created = cli(f"batch-deployment create -f {graph}/deployment.yml --endpoint heart-batch --set-default")
    assert created.json["component"] == "azureml:prepare_and_score:1"
    (graph / "inputs.yml").write_text(
        "inputs:\n  raw: {type: uri_folder, path: data}\n  mode: {type: string, default: replace}\n"
        f"outputs:\n  scores: {{type: uri_folder, mode: upload, path: {tmp_path}/scores}}\n"
    )
    ran = cli(f"batch-endpoint invoke -n heart-batch --f {graph}/inputs.yml --query name -o tsv")
    assert ran.out.strip() == started[0].name
    assert started[0].inputs["raw"].value == str(graph / "data")
    assert (started[0].inputs["mode"].value, started[0].outputs["scores"].path) == ("replace", str(tmp_path / "scores"))

    sets = f"--set inputs.raw.path={graph}/data inputs.mode=append inputs.rate=0.25 settings.force_rerun=true"
    assert cli(f"batch-endpoint invoke -n heart-batch {sets} --job-name mine --experiment-name e").exit_code == 0
    assert {name: one.value for name, one in started[1].inputs.items()} == {
        "raw": str(graph / "data"),
        "mode": "append",
        "rate": "0.25",
    }
    assert (started[1].name, started[1].experiment_name, started[1].force_rerun) == ("mine", "e", True)

    inputs = json.dumps({"raw": {"path": str(graph / "data")}})
    assert cli("batch-endpoint", "invoke", "-n", "heart-batch", "--inputs", inputs).exit_code == 0
    assert cli(f"batch-endpoint invoke -n heart-batch --input {graph}/data").exit_code == 0
    assert {record.inputs["raw"].value for record in started} == {str(graph / "data")}


def test_output_path_is_for_the_one_output_that_is_named_and_an_unknown_field_is_said(
    cli: Cli, graph: Path, started: list[PipelineRecord], tmp_path: Path
) -> None:
    cli(f"batch-deployment create -f {graph}/deployment.yml --set-default")
    (graph / "in.yml").write_text("inputs: {raw: {path: data}}\noutputs: {scores: }\nmini_batch_size: 5\n")
    ran = cli(f"batch-endpoint invoke -n heart-batch -f {graph}/in.yml --output-path {tmp_path}/here")
    assert ran.exit_code == 0
    assert started[0].outputs["scores"].path == str(tmp_path / "here")
    assert "mini_batch_size is ignored" in ran.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--set inputs.raw.path=missing", "does not exist"),
        ("--set inputs.row.path=data", "no input 'row'; did you mean 'raw'?"),
        ("--set inputs.raw.path={graph}/data inputs.rate=fast", "'fast' is not a number"),
        ("--input {graph}/data --mini-batch-size 5", "--mini-batch-size is for deployments of models"),
        ("--input {graph}/data --max-retries 5", "--max-retries is for deployments of models"),
        ("--input {graph}/data --dependency afterok:5", "Only jobs on Slurm can wait for other Slurm jobs"),
        ("--input {graph}/data --parsable", "--parsable prints a Slurm job id, and the compute of this pipeline is"),
        ("--input {graph}/data --output-path x", "does not say which output"),
        ("--input {graph}/data --set mini_batch_size=5", "mini_batch_size cannot be changed for one job of a pipeline"),
        ("", "the input 'raw' (uri_folder) has no value"),
    ],
)
def test_what_a_pipeline_does_not_take_is_refused_before_anything_starts(
    cli: Cli, graph: Path, started: list[PipelineRecord], arguments: str, message: str
) -> None:
    cli(f"batch-deployment create -f {graph}/deployment.yml --set-default")
    ran = cli(f"batch-endpoint invoke -n heart-batch {arguments.format(graph=graph)}")
    assert ran.exit_code == 2
    assert message in ran.err
    assert not started


def test_a_dry_run_tells_the_graph_and_makes_nothing(
    cli: Cli, graph: Path, started: list[PipelineRecord], tmp_path: Path
) -> None:
    cli(f"batch-deployment create -f {graph}/deployment.yml --set-default")
    found = cli(f"batch-endpoint invoke -n heart-batch --input {graph}/data --dry-run").json
    assert (found["dry_run"], found["steps"], list(found["jobs"])) == (True, 2, ["prepare", "score"])
    assert found["jobs"]["score"]["depends_on"] == ["prepare"]
    (graph / "job.yml").write_text(
        "type: pipeline\ncompute: batch-cluster\ncomponent: pipeline.yml\ninputs: {raw: {path: data}}\n"
    )
    assert cli(f"job create -f {graph}/job.yml --dry-run").json["inputs"]["raw"] == str(graph / "data")
    assert not started
    assert not (tmp_path / "ws" / "jobs").exists()


def test_a_job_is_created_from_its_file(cli: Cli, graph: Path, started: list[PipelineRecord]) -> None:
    (graph / "job.yml").write_text(
        "type: pipeline\ncompute: batch-cluster\ncomponent: pipeline.yml\ninputs: {raw: {type: uri_folder}}\n"
    )
    refused = cli(f"job create -f {graph}/job.yml")
    assert (refused.exit_code, "--set inputs.raw.path=PATH" in refused.err) == (2, True)
    ran = cli(f"job create -f {graph}/job.yml --set inputs.raw.path=data --name mine --web --query name -o tsv")
    assert (ran.out, started[0].name) == ("mine\n", "mine")
    assert started[0].inputs["raw"].value == str(graph / "data")


def test_a_deployment_of_a_sweep_says_what_to_use(cli: Cli, graph: Path) -> None:
    (graph / "pipeline.yml").write_text("type: pipeline\njobs:\n  tune: {type: sweep, trial: train.yml}\n")
    ran = cli(f"batch-deployment create -f {graph}/deployment.yml")
    assert ran.exit_code == 2
    assert "Step tune is of type 'sweep', which hpcbatch does not run." in ran.err


def test_people_see_what_goes_in_what_comes_out_and_what_runs_after_what(cli: Cli, graph: Path) -> None:
    prepare = component_card(cli(f"component create -f {graph}/components/prepare.yml").json)
    assert prepare.title == "prepare 1"
    assert dict(prepare.fields)["input rate"] == "number, default 0.10, max 1"
    assert dict(prepare.fields)["input encoding"] == "string, default ordinal, one of ordinal, onehot, optional"
    pipeline = component_card(cli(f"component create -f {graph}/pipeline.yml").json)
    assert dict(pipeline.fields)["step score"] == "written in place (command) <- prepare"
    cli(f"batch-deployment create -f {graph}/deployment.yml")
    assert "prepare_and_score:1" in cli("batch-deployment list -e heart-batch -o table").out
