"""Jobs of pipelines that are registered nowhere: their steps, nested pipelines, parallel steps, and their errors."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import NotFound, SpecError
from hpcbatch.operations.assets import create_compute
from hpcbatch.operations.deployments import create_deployment
from hpcbatch.operations.job_create import job_request
from hpcbatch.operations.job_definitions import definition_of
from hpcbatch.operations.pipelines import sealed_record
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.pipeline import PipelineRecord, StepInput, StepOutput, parse_pipeline
from hpcbatch.spec.yamlfile import load
from hpcbatch.steps import pipelinedir
from tests.unit.operations.pipelines import DEPLOYMENT


def _job(ws: Workspace, folder: Path, text: str, *sets: str) -> PipelineRecord:
    (folder / "job.yml").write_text(text)
    return sealed_record(ws, job_request(ws, load(folder / "job.yml").with_sets(sets)))[0]


JOB = """\
type: pipeline
display_name: once
experiment_name: tries
compute: azureml:batch-cluster
inputs:
  raw: {type: uri_folder, path: data}
  rate: 0.5
  retries: 3
  loud: true
outputs:
  out: {type: uri_file, mode: rw_mount}
settings: {force_rerun: true, default_compute: ignored}
jobs:
  first:
    type: command
    command: run ${{inputs.data}} ${{inputs.rate}} ${{inputs.label}} ${{inputs.loud}} ${{outputs.made}}
    environment: {image: x}
    inputs:
      data: ${{parent.inputs.raw}}
      rate: ${{parent.inputs.rate}}
      label: run-${{parent.inputs.retries}}-of-${{parent.inputs.rate}}
      loud: ${{parent.inputs.loud}}
    outputs:
      made: {name: made, version: 2, path: ./made}
  second:
    type: command
    command: run ${{inputs.made}} ${{inputs.data}} ${{inputs.rate}} ${{outputs.out}}
    environment: {image: x}
    is_deterministic: false
    inputs:
      made: ${{parent.jobs.first.outputs.made}}
      data: ${{parent.jobs.first.inputs.data}}
      rate: ${{parent.jobs.first.inputs.rate}}
    outputs:
      out: ${{parent.outputs.out}}
"""


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("azureml://datastores/workspaceblobstore/paths/${{name}}/", "{ws}/datastores/workspaceblobstore/{job}.first"),
        ("${{default_datastore}}/paths/a/${{output_name}}", "{ws}/datastores/workspaceblobstore/a/made"),
        ("./${{name}}/${{output_name}}", "{folder}/{job}.first/made"),
    ],
)
def test_a_path_of_an_output_of_a_step_is_filled_in(stocked: Workspace, graph: Path, path: str, place: str) -> None:
    """As Azure's sample hello-pipeline-customize-output-folder has it; two steps with `${{name}}` have two folders."""
    record = _job(stocked, graph, JOB.replace("path: ./made", f'path: "{path}"'))
    expected = place.format(ws=stocked.root, job=record.name, folder=graph)
    assert record.steps[0].outputs["made"].path == expected


def test_a_path_of_an_output_of_a_step_that_is_no_place_is_refused(stocked: Workspace, graph: Path) -> None:
    with pytest.raises(SpecError, match=r"jobs.first.outputs.made.path: \$\{\{nam\}\} is not known") as caught:
        _job(stocked, graph, JOB.replace("path: ./made", 'path: "./${{nam}}"'))
    assert caught.value.fields["allowed"] == "${{name}}, ${{output_name}}, ${{default_datastore}}"


def test_steps_written_in_a_job_have_the_types_of_what_they_are_bound_to(stocked: Workspace, graph: Path) -> None:
    record = _job(stocked, graph, JOB)
    first, second = record.steps
    assert {name: (one.type, one.kind, one.value) for name, one in first.inputs.items()} == {
        "data": ("uri_folder", "input", "raw"),
        "rate": ("number", "input", "rate"),
        "label": ("string", "literal", "run-3-of-0.5"),
        "loud": ("boolean", "input", "loud"),
    }
    assert first.outputs["made"] == StepOutput("uri_folder", path=str(graph / "made"), register_as="made:2")
    assert {name: (one.type, one.kind, one.value) for name, one in second.inputs.items()} == {
        "made": ("uri_folder", "step", "first.made"),
        "data": ("uri_folder", "input", "raw"),
        "rate": ("number", "input", "rate"),
    }
    assert second.outputs["out"] == StepOutput("uri_file", pipeline_output="out")
    assert second.is_deterministic is False
    assert {name: one.value for name, one in record.inputs.items()} == {
        "raw": str(graph / "data"),
        "rate": "0.5",
        "retries": "3",
        "loud": "True",
    }
    assert (record.display_name, record.experiment_name, record.endpoint) == ("once", "tries", None)
    assert (record.continue_on_step_failure, record.force_rerun) == (True, True)
    assert {step.compute.name for step in record.steps} == {"batch-cluster"}


def test_set_changes_the_inputs_of_a_job_relative_to_its_file(stocked: Workspace, graph: Path) -> None:
    (graph / "more").mkdir()
    record = _job(stocked, graph, JOB, "inputs.raw.path=more", "inputs.rate=0.75", "settings.force_rerun=false")
    assert (record.inputs["raw"].value, record.inputs["rate"].value) == (str(graph / "more"), "0.75")
    assert record.force_rerun is False


def test_a_job_of_a_component_file_names_it_relative_to_itself(stocked: Workspace, graph: Path) -> None:
    (graph / "jobs").mkdir()
    text = "type: pipeline\ncomponent: ../pipeline.yml\ninputs:\n  raw: {type: uri_folder}\noutputs: {scores: }\n"
    with pytest.raises(SpecError, match=r"job\.yml:4: inputs\.raw: the input 'raw' \(uri_folder\) has no value"):
        _job(stocked, graph / "jobs", text)
    record = _job(stocked, graph / "jobs", text, "inputs.raw.path=../data")
    assert record.inputs["raw"].value == str(graph / "data")


def test_the_job_of_one_command_is_a_pipeline_with_one_step(stocked: Workspace, graph: Path) -> None:
    text = (
        "command: python score.py ${{inputs.data}} ${{inputs.n}} ${{outputs.scores}}\ncode: src\n"
        "environment: {image: x}\ncompute: azureml:batch-cluster\n"
        "inputs:\n  data: {type: uri_folder, path: data}\n  n: 5\noutputs:\n  scores:\n    type: uri_folder\n"
    )
    record = _job(stocked, graph, text)
    (step,) = record.steps
    assert (step.name, step.compute.name, record.inputs["n"].value) == ("command", "batch-cluster", "5")
    assert step.outputs == {"scores": StepOutput("uri_folder", pipeline_output="scores")}
    with pytest.raises(SpecError, match=r"job\.yml:1: commnd: unknown field"):
        _job(stocked, graph, text.replace("command:", "commnd:", 1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("type: sweep\n", "type 'sweep' is not run by hpcbatch"),
        ("type: hyperdrive\n", "'hyperdrive' is not a type"),
        ("type: parallel\n", "'parallel' is not a type"),
        ("type: pipeline\ncomponent: components/prepare.yml\n", "is of type 'command'"),
        ("type: pipeline\njobs:\n  a: {type: spark}\n", "Step a is of type 'spark'"),
    ],
)
def test_a_job_that_is_no_pipeline_says_what_to_write(stocked: Workspace, graph: Path, text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        _job(stocked, graph, text)


NESTED = """\
type: pipeline
compute: local
inputs:
  raw: {type: uri_folder, path: data}
  speed: 0.75
  where: batch-cluster
outputs:
  scores: {type: uri_folder}
jobs:
  use:
    command: use ${{inputs.model}} ${{outputs.scores}}
    environment: {image: x}
    inputs: {model: "${{parent.jobs.train.outputs.learned}}"}
    outputs: {scores: "${{parent.outputs.scores}}"}
  train:
    type: pipeline
    compute: ${{parent.inputs.where}}
    component:
      inputs:
        data: {type: uri_folder}
        rate: {type: number, default: 0.1}
        note: {type: string, optional: true}
      outputs:
        learned: {type: custom_model}
        report: {type: uri_folder}
      jobs:
        fit:
          component: ./components/prepare.yml
          inputs:
            data: ${{parent.inputs.data}}
            rate: ${{parent.inputs.rate}}
          outputs:
            learned: ${{parent.outputs.learned}}
    inputs:
      data: ${{parent.inputs.raw}}
      rate: ${{parent.inputs.speed}}
"""


def test_a_pipeline_inside_a_pipeline_becomes_its_steps(stocked: Workspace, graph: Path) -> None:
    record = _job(stocked, graph, NESTED)
    fit, use = record.steps
    assert (fit.name, use.name) == ("train.fit", "use")
    assert fit.inputs["data"] == StepInput("uri_folder", "input", "raw")
    assert fit.inputs["rate"] == StepInput("number", "input", "speed")
    assert fit.outputs["learned"] == StepOutput("custom_model")
    assert use.inputs["model"] == StepInput("custom_model", "step", "train.fit.learned")
    assert use.dependencies == ("train.fit",)
    assert (fit.compute.name, use.compute.name) == ("batch-cluster", "local")


def test_an_output_that_nothing_inside_writes_cannot_be_read(stocked: Workspace, graph: Path) -> None:
    with pytest.raises(SpecError, match=r"jobs\.train\.outputs\.report: no step inside writes it"):
        _job(stocked, graph, NESTED.replace("train.outputs.learned", "train.outputs.report"))


def test_an_output_that_no_step_writes_is_told_as_a_warning(stocked: Workspace, graph: Path) -> None:
    record = _job(stocked, graph, JOB.replace("      out: ${{parent.outputs.out}}", "      out:"))
    assert "No step writes the output 'out' of the pipeline." in record.warnings


def test_a_deployment_can_be_made_of_what_a_job_ran(stocked: Workspace, graph: Path) -> None:
    record = _job(stocked, graph, JOB)
    body = definition_of(record)
    assert {name: port.get("default") for name, port in body["inputs"].items()} == {
        "raw": None,
        "rate": "0.5",
        "retries": "3",
        "loud": "True",
    }
    again = replace(record, properties={"definition": body})
    assert definition_of(again) == body


@pytest.mark.parametrize("reference", ["azureml:tried", "tried", "/subscriptions/x/resourceGroups/y/jobs/tried"])
def test_a_job_that_is_there_becomes_a_deployment(stocked: Workspace, graph: Path, reference: str) -> None:
    (graph / "job.yml").write_text(f"name: tried\n{JOB}")
    record, codes = sealed_record(stocked, job_request(stocked, load(graph / "job.yml")))
    assert pipelinedir.create(stocked.jobs / record.user / record.name, record, codes)
    (graph / "d.yml").write_text(DEPLOYMENT.replace("component: pipeline.yml", "job_definition: azureml:placeholder"))
    shown = create_deployment(stocked, file=graph / "d.yml", sets=[f"job_definition={reference}"])
    assert (shown["component"], shown["inputs"]["rate"]["default"]) == ("azureml:job-tried:1", "0.5")
    with pytest.raises(NotFound, match="no pipeline job named 'other'"):
        create_deployment(stocked, file=graph / "d.yml", sets=["job_definition=azureml:other"])


PARALLEL = """\
type: pipeline
compute: azureml:batch-cluster
inputs:
  files: {type: uri_folder, path: data}
  size: 5
jobs:
  score:
    type: parallel
    mini_batch_size: "${{inputs.size}}"
    mini_batch_error_threshold: 2
    max_concurrency_per_instance: 3
    retry_settings: {timeout: 30}
    input_data: ${{inputs.files}}
    logging_level: DEBUG
    resources: {instance_count: 2}
    inputs:
      files: ${{parent.inputs.files}}
      model: {type: mlflow_model, path: "azureml:heart@latest"}
      size: ${{parent.inputs.size}}
    outputs:
      rows: {type: uri_file}
    task:
      type: run_function
      code: ./src
      entry_script: score.py
      environment: {image: x}
      program_arguments: --model ${{inputs.model}}
      append_row_to: ${{outputs.rows}}
"""


def test_a_parallel_step_says_how_it_cuts_and_what_it_collects(stocked: Workspace, graph: Path) -> None:
    (step,) = _job(stocked, graph, PARALLEL).steps
    assert step.kind == "parallel"
    assert step.parallel is not None
    assert vars(step.parallel) == {
        "entry_script": "score.py",
        "input": "files",
        "program_arguments": "--model ${{inputs.model}}",
        "append_row_to": "rows",
        "mini_batch_size": 5,
        "mini_batch_error_threshold": 2,
        "error_threshold": -1,
        "max_concurrency_per_instance": 3,
        "max_retries": 2,
        "timeout_s": 30.0,
        "logging_level": "debug",
        "mini_batch_bytes": 0,
        "partition_keys": (),
    }
    assert step.code is not None
    assert (step.code.scoring_script, step.instance_count, step.compute.throttle) == ("score.py", 2, 2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"${{inputs.size}}"', "10kg", "jobs.score.mini_batch_size: '10kg' is no size"),
        ("  size: 5", "  size: 0", "0 is less than the min 1"),
        ("type: run_function", "type: model", "jobs.score.task.type: a model without a script"),
        ("      entry_script: score.py\n", "", "jobs.score.task.entry_script: it is missing"),
        ("    input_data: ${{inputs.files}}\n", "", "does not say which of its inputs"),
    ],
)
def test_what_a_parallel_step_cannot_do_is_refused(
    stocked: Workspace, graph: Path, old: str, new: str, message: str
) -> None:
    assert old in PARALLEL
    with pytest.raises(SpecError, match=message):
        _job(stocked, graph, PARALLEL.replace(old, new))


def test_a_step_of_another_place_than_the_rest_is_refused_at_its_line(stocked: Workspace, graph: Path) -> None:
    """The rest runs where the job says."""
    create_compute(stocked, name="big", type="slurm")
    text = PARALLEL.replace("    type: parallel\n", "    type: parallel\n    compute: big\n")
    text += "  more: {command: echo, environment: {image: x}}\n"
    with pytest.raises(SpecError, match="one job runs in one place") as caught:
        _job(stocked, graph, text)
    assert caught.value.fields["line"] == text[: text.index("  more:")].count("\n") + 1


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("mini_batch_size: 10kb", (1, 10240, ())),
        ("mini_batch_size: 2MB\n    partition_keys: [a, b]", (1, 2 << 20, ("a", "b"))),
    ],
)
def test_mini_batches_may_be_so_many_bytes_or_partitions(
    stocked: Workspace, graph: Path, line: str, cut: tuple[int, int, tuple[str, ...]]
) -> None:
    record = _job(stocked, graph, PARALLEL.replace('mini_batch_size: "${{inputs.size}}"', line))
    part = record.steps[0].parallel
    assert part is not None
    assert (part.mini_batch_size, part.mini_batch_bytes, part.partition_keys) == cut
    assert parse_pipeline(record.to_bytes(), "x") == record


def test_an_mltable_that_is_cut_is_the_files_that_it_names(stocked: Workspace, graph: Path) -> None:
    (graph / "data" / "MLTable").write_text("paths:\n- pattern: ./*.csv\n")
    text = PARALLEL.replace("files: {type: uri_folder, path: data}", "files: {type: mltable, path: data}")
    (step,) = _job(stocked, graph, text).steps
    assert step.inputs["files"] == StepInput("uri_folder", "path", str(graph / "data" / "*.csv"))
    sized = _job(stocked, graph, text.replace('"${{inputs.size}}"', "10kb"))
    assert any("run() is given paths of whole files" in one for one in sized.warnings)
    (graph / "data" / "MLTable").write_text("paths:\n- file: a.csv\n- file: b.csv\n")
    with pytest.raises(SpecError, match="has 2 paths; a parallel step is given one"):
        _job(stocked, graph, text)


def test_an_unknown_compute_is_refused_and_serverless_is_whatever_there_is(stocked: Workspace, graph: Path) -> None:
    text = JOB.replace("azureml:batch-cluster", "gpu")
    with pytest.raises(NotFound, match="compute: The compute 'gpu' is not registered") as caught:
        _job(stocked, graph, text)
    assert caught.value.fields["line"] == text[: text.rindex("gpu")].count("\n") + 1
    text = PARALLEL.replace("    type: parallel\n", "    type: parallel\n    compute: big\n")
    with pytest.raises(NotFound, match=r"jobs\.\w+\.compute: The compute 'big' is not registered") as caught:
        _job(stocked, graph, text)
    assert caught.value.fields["line"] == text[: text.index("compute: big")].count("\n") + 1
    record = _job(stocked, graph, JOB.replace("azureml:batch-cluster", "azureml:serverless"))
    assert {step.compute.name for step in record.steps} == {"default"}
