"""Components, steps, pipeline jobs and deployments of pipelines: what Azure ML's files say, in every form they have."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.spec.assets import Environment
from hpcbatch.spec.base import parse
from hpcbatch.spec.bindings import Binding, binding_of, expressions, substituted, whole_expression
from hpcbatch.spec.component import (
    CommandComponent,
    OtherComponent,
    ParallelComponent,
    PipelineComponent,
    parse_component,
)
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.pipeline import (
    CommandStep,
    OtherStep,
    PipelineBatchDeployment,
    PipelineJob,
    StepDocument,
    input_value,
    output_value,
    parse_steps,
)
from hpcbatch.spec.preview import modern
from tests.unit.spec.components import COMMAND, PIPELINE, loaded


def _steps(text: str) -> list[StepDocument]:
    document = loaded(text)
    return parse_steps(document, document.data["jobs"])


def test_a_command_component_is_understood() -> None:
    component = parse_component(loaded(COMMAND))
    assert isinstance(component, CommandComponent)
    assert (component.name, component.version, component.is_deterministic) == ("prepare", "007", False)
    assert component.distribution is not None
    assert (component.distribution.type, component.distribution.process_count_per_instance) == ("pytorch", 4)
    assert component.environment_variables == {"THREADS": "4"}
    assert component.additional_includes == ["../shared"]
    assert component.limits is not None
    assert component.limits.timeout == 300


@pytest.mark.parametrize(
    ("written", "kind"),
    [
        ("type: command\ncommand: echo\nenvironment: e\n", CommandComponent),
        ("command: echo\nenvironment: e\n", CommandComponent),
        ("jobs: {a: {component: x.yml}}\n", PipelineComponent),
        ("type: Pipeline\njobs: {a: {component: x.yml}}\n", PipelineComponent),
        ("task: {entry_script: s.py}\n", ParallelComponent),
        ("type: spark\nentry: {file: s.py}\nconf: {a: 1}\n", OtherComponent),
    ],
)
def test_a_component_is_what_its_type_or_its_fields_say(written: str, kind: type) -> None:
    assert isinstance(parse_component(loaded(written)), kind)


def test_a_type_that_nothing_has_is_refused_at_its_line() -> None:
    with pytest.raises(SpecError, match="'CommandComponent' is not a type") as caught:
        parse_component(loaded("name: old\ntype: CommandComponent\n"))
    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, "type")


def test_the_steps_of_a_pipeline_are_understood_with_their_three_forms_of_outputs() -> None:
    prepare, score = _steps(PIPELINE)
    assert isinstance(prepare.step, CommandStep)
    assert prepare.step.component == "./prepare.yml"
    assert output_value(prepare.loaded, "prepared", None).path is None
    assert output_value(score.loaded, "scores", score.loaded.data["outputs"]["scores"]).mode == "upload"
    assert output_value(score.loaded, "scores", "${{parent.outputs.scores}}").path == "${{parent.outputs.scores}}"


def test_the_problems_of_all_steps_are_told_at_once_with_the_lines_of_the_file() -> None:
    text = PIPELINE.replace("    limits: {timeout: 60}", "    limits: {timout: 60}").replace(
        "    outputs:\n      prepared:\n", "    outputs:\n      prepared:\n    computee: c\n"
    )
    with pytest.raises(SpecError) as caught:
        _steps(text)
    problems = caught.value.fields["problems"]
    assert [(one["field"], text.splitlines()[one["line"] - 1].strip()) for one in problems] == [
        ("jobs.prepare.computee", "computee: c"),
        ("jobs.score.limits.timout", "limits: {timout: 60}"),
    ]
    assert "Did you mean 'compute'?" in str(caught.value)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ("{inputs: {}}", "neither component nor command"),
        ("{component: a.yml, command: run}", "component, and command"),
        ("{type: parallel}", "neither component nor task"),
        ("{type: pipeline}", "component: is required"),
        ("{type: hyperdrive}", "'hyperdrive' is not a type"),
        ("{type: 5, component: a.yml}", "'5' is not a type"),
        ("{type: command, component: a.yml, inputs: 5}", "inputs: 5 is not allowed"),
    ],
)
def test_a_step_that_says_nothing_to_run_is_refused(step: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        _steps(f"jobs:\n  first:\n    {step}\n")
    assert caught.value.fields["line"] in (2, 3)
    assert str(caught.value.fields["field"]).startswith("jobs.first")


@pytest.mark.parametrize("name", ["two words", "a.b", "1st", "ü"])
def test_a_step_needs_a_name_that_bindings_can_hold(name: str) -> None:
    with pytest.raises(SpecError, match="cannot name a step"):
        _steps(f"jobs:\n  '{name}': {{component: a.yml}}\n")


@pytest.mark.parametrize("kind", ["sweep", "spark", "automl", "import", "data_transfer"])
def test_steps_that_only_azure_ml_runs_are_kept_as_they_are(kind: str) -> None:
    (step,) = _steps(f"jobs:\n  other: {{type: {kind}, trial: t.yml, whatever: {{a: [1]}}}}\n")
    assert isinstance(step.step, OtherStep)


@pytest.mark.parametrize(
    ("given", "field", "expected"),
    [
        ("{type: integer, default: 5}", "default", 5),
        ("{value: text}", "value", "text"),
        ("{path: azureml:heart@latest, type: mlflow_model}", "path", "azureml:heart@latest"),
        ("{path: data, mode: ro_mount}", "mode", "ro_mount"),
        ("7", "value", 7),
        ("true", "value", True),
    ],
)
def test_the_forms_of_an_input_are_understood(given: str, field: str, expected: Any) -> None:
    document = loaded(f"inputs:\n  x: {given}\n")
    assert getattr(input_value(document, "x", document.data["inputs"]["x"]), field) == expected


@pytest.mark.parametrize("given", ["[1, 2]", "{pth: x}", "{type: uri_foldr, path: x}"])
def test_an_input_of_another_form_is_refused_at_its_line(given: str) -> None:
    document = loaded(f"inputs:\n  x: {given}\n")
    with pytest.raises(SpecError) as caught:
        input_value(document, "x", document.data["inputs"]["x"])
    assert caught.value.fields["line"] == 2


def test_a_number_is_no_output() -> None:
    document = loaded("outputs:\n  x: 5\n")
    with pytest.raises(SpecError, match=r"outputs\.x: '5' is not allowed"):
        output_value(document, "x", 5)


@pytest.mark.parametrize(
    ("text", "binding"),
    [
        ("${{parent.inputs.raw}}", Binding("input", "raw")),
        ("${{ parent.inputs.raw }}", Binding("input", "raw")),
        ("${{inputs.raw}}", Binding("input", "raw")),
        ("${{parent.jobs.a-b.outputs.x}}", Binding("step_output", "x", "a-b")),
        ("${{jobs.a.outputs.x.path}}", Binding("step_output", "x", "a")),
        ("${{parent.jobs.a.inputs.x}}", Binding("step_input", "x", "a")),
        ("${{parent.outputs.y}}", Binding("output", "y")),
    ],
)
def test_a_binding_is_read(text: str, binding: Binding) -> None:
    whole = whole_expression(text)
    assert whole is not None
    assert binding_of(whole) == binding


def test_text_around_a_binding_is_no_binding() -> None:
    assert whole_expression("run-${{parent.inputs.a}}-${{name}}") is None
    assert expressions("run-${{parent.inputs.a}}-${{ name }}") == ["parent.inputs.a", "name"]
    assert substituted("run-${{ name }}-${{other}}", {"name": "job7"}) == "run-job7-${{other}}"
    assert binding_of("secrets.x") is None


def test_a_pipeline_job_has_one_graph() -> None:
    assert parse(PipelineJob, loaded("type: pipeline\ncomponent: p.yml\nsettings:\n")).settings.force_rerun is None
    for text, message in (("jobs: {a: {}}\ncomponent: p.yml\n", "mutually exclusive"), ("inputs: {}\n", "no steps")):
        with pytest.raises(SpecError, match=message):
            parse(PipelineJob, loaded(text))


def test_a_pipeline_deployment_has_one_component() -> None:
    head = "name: blue\nendpoint_name: heart\ntype: pipeline\n"
    settings = "settings: {default_compute: azureml:c, force_rerun: true, something_of_azure: 1}\n"
    found = parse(PipelineBatchDeployment, loaded(f"{head}component: p.yml\n{settings}"))
    assert (found.settings.default_compute, found.settings.force_rerun) == ("azureml:c", True)
    for text in (head, f"{head}component: p.yml\njob_definition: azureml:j\n"):
        with pytest.raises(SpecError, match=r"neither component nor|both component and"):
            parse(PipelineBatchDeployment, loaded(text))
    with pytest.raises(SpecError, match=r"settings\.force_rerun"):
        parse(PipelineBatchDeployment, loaded(f"{head}component: p.yml\nsettings: {{force_rerun: sometimes}}\n"))


def test_what_the_previews_of_2021_wrote_is_read_as_it_is_written_today() -> None:
    old = """\
type: component_job
code: {local_path: ./src}
command: python train.py --data {inputs.corpus} --rate {search_space.lr} --braces {inputs.none}
inputs:
  corpus: {data: "azureml:corpus:1", mode: download}
  folder: {folder: "azureml://datastores/d/paths/x"}
  rate: 3
compute: {target: "azureml:gpu", instance_count: 2}
"""
    assert modern(loaded(old)).data == {
        "code": "./src",
        "command": "python train.py --data ${{inputs.corpus}} --rate {search_space.lr} --braces {inputs.none}",
        "inputs": {
            "corpus": {"mode": "download", "path": "azureml:corpus:1"},
            "folder": {"type": "uri_folder", "path": "azureml://datastores/d/paths/x"},
            "rate": 3,
        },
        "compute": "azureml:gpu",
        "resources": {"instance_count": 2},
    }
    assert parse(Environment, loaded("docker: {image: i}\n")).image == "i"
    built = parse(Environment, loaded("docker: {build: {dockerfile: Dockerfile}}\n")).build
    assert built is not None
    assert built.dockerfile_path == "Dockerfile"
    with pytest.raises(SpecError, match="docker: unknown field"):
        parse(Environment, loaded("docker: {arguments: [a]}\n"))
    assert parse(Compute, loaded("name: c\ntype: amlcompute\npriority: LowPriority\n")).tier == "low_priority"
    assert modern(loaded("job_type: Sweep\n")).data == {"type": "sweep"}
    assert modern(loaded("type: command_job\n")).data == {"type": "command"}
