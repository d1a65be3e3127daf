"""JSON schemas for editors: they take what hpcbatch takes, and underline what it would refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from hpcbatch.spec.schema import KINDS_OF_DOCUMENTS, schema_of
from hpcbatch.spec.yamlfile import load
from tests.conformance.test_yaml import ASSETS, BASE, DEPLOYMENT, ENDPOINT, SETTINGS

ROOT = Path(__file__).resolve().parents[3]
VALIDATORS = {kind: Draft7Validator(schema_of(kind)) for kind in KINDS_OF_DOCUMENTS}
# The kind by the name that Azure ML gives the schema of a file.
KINDS = {
    **dict.fromkeys(("batchDeployment", "modelBatchDeployment"), "batch-deployment"),
    "pipelineComponentBatchDeployment": "batch-deployment",
    **dict.fromkeys(("commandComponent", "sparkComponent", "pipelineComponent"), "component"),
    **dict.fromkeys(("commandJob", "pipelineJob", "sweepJob", "sparkJob"), "job"),
    "batchEndpoint": "batch-endpoint", "data": "data", "environment": "environment", "model": "model",
    "amlCompute": "compute", "compute": "compute",
}  # fmt: skip
EXAMPLES = {
    "endpoint.yml": "batch-endpoint", "deployment.yml": "batch-deployment", "pipeline.yml": "component",
    "pipeline-job.yml": "job", "local.yml": "compute", "slurm.yml": "compute", "slurm-preemptible.yml": "compute",
    "train.yml": "component", "choose.yml": "component", "prepare.yml": "component", "transform.yml": "component",
    "score.yml": "component",
}  # fmt: skip
NO_SCHEMA = {"inputs.yml", "environment.yml"}  # values for an invocation; conda's


def problems(kind: str, document: Any) -> list[str]:
    """What an editor would underline."""
    return [f"{'.'.join(map(str, one.path))}: {one.message[:200]}" for one in VALIDATORS[kind].iter_errors(document)]


@pytest.mark.parametrize("kind", KINDS_OF_DOCUMENTS)
def test_a_schema_is_one_and_is_json(kind: str) -> None:
    schema = schema_of(kind)
    Draft7Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").rglob("*.yml")), ids=lambda path: f"{path.parent.name}/{path.name}"
)
def test_our_examples_are_right(path: Path) -> None:
    if path.name in NO_SCHEMA:
        return
    assert problems(EXAMPLES[path.name], load(path).data) == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "corpus" / "shapes").iterdir()), ids=lambda path: path.stem)
def test_the_minimal_files_are_right(path: Path) -> None:
    found = problems(KINDS[path.stem], load(path).data)
    assert [one.partition(":")[0] for one in found] == (["type"] if path.stem == "sweepJob" else [])


STEPS: dict[str, Any] = {
    "a component by name": {"component": "azureml:c:1", "inputs": {"a": 1, "b": "${{parent.inputs.x}}", "c": None}},
    "a command": {"type": "Command", "command": "x", "environment": "e", "resources": {"instance_count": 2}},
    "a component within": {"component": {"type": "parallel", "task": {"entry_script": "s.py"}}, "task": None},
    "parallel": {"type": "parallel", "mini_batch_size": "10kb", "partition_keys": ["k"], "logging_level": "WARN",
                 "task": {"type": "run_function", "entry_script": "s.py"}, "input_data": "${{inputs.a}}"},
    "a pipeline": {"type": "pipeline", "component": "azureml:c@latest", "inputs": {}, "settings": None},
    "not run, and kept": {"type": "automl", "task": "classification", "whatever": [1]},
    "values": {"component": "c", "type": "command",
               "inputs": {"a": {"path": "s3://b/", "mode": "ro_mount", "storage_options": {"anon": True}}},
               "outputs": {"o": {"type": "uri_folder", "mode": "upload", "storage_options": {}}, "p": None, "q": "x"}},
}  # fmt: skip


def conforming() -> dict[str, tuple[str, Any]]:
    """The documents of the conformance suite: a case's name, its kind, and the document."""
    settings = {case.split(" ")[0].split(".")[0]: value for case, (value, _) in SETTINGS.items()}
    typeless = {key: value for key, value in BASE.items() if key != "type"}
    return {
        **{f"1.1 {f}": ("batch-endpoint", {"name": "heart-batch", f.split(" ")[0].split(".")[0]: v})
           for f, (v, _, _) in ENDPOINT.items()},
        **{f"1.2 {case}": ("batch-deployment", {**BASE, **change}) for case, (change, _, _) in DEPLOYMENT.items()},
        **{f"1.2 settings.{k}": ("batch-deployment", {**BASE, "settings": {k: v}}) for k, v in settings.items()},
        **{f"1.4 {k}": ("batch-deployment", {**typeless, k: v}) for k, v in settings.items()},
        **{f"1.8 {case}": (kind, document) for case, (kind, document, _, _) in ASSETS.items()},
        "settings: of nothing": ("batch-deployment", {**BASE, "settings": None}),
        "numbers as text": ("batch-deployment", {**BASE, "settings": {"mini_batch_size": "10"}}),
        "without names": ("batch-deployment", {"model": {"path": "model"}, "type": "model"}),
        "by component": ("batch-deployment", {"name": "abc", "component": "azureml:c:1", "settings": {"x": 1}}),
        "shell lines": ("compute", {"name": "c", "type": "slurm", "setup": "module load x\nmodule load y"}),
        "docker of 2021": ("environment", {"name": "e", "docker": {"image": "i"}}),
        **{f"step: {case}": ("job", {"jobs": {"s": step}}) for case, step in STEPS.items()},
        **{f"step of a component: {case}": ("component", {"type": "pipeline", "name": "c", "jobs": {"s": step}})
           for case, step in STEPS.items()},
        "a job of one command": (
            "job", {"$schema": "s", "name": "j", "command": "x", "environment": {"docker": {"image": "i"}},
                    "compute": {"target": "azureml:c", "instance_count": 2}, "inputs": {"a": {"folder": "d"}}}),
        "a command of a component": ("job", {"type": "command", "component": "azureml:c:1", "inputs": {"a": 1}}),
        "a job of 2021": ("job", {"job_type": "Pipeline", "jobs": {"s": {"type": "component_job", "component": "c"}}}),
        "code of 2021": ("component", {"name": "c", "type": "command_job", "command": "x", "environment": "e",
                                       "code": {"local_path": "src"}}),
        "outputs of no words": (
            "component", {"name": "c", "command": "x", "environment": "e", "outputs": {"model": None}}),
        "no outputs": ("component", {"name": "c", "command": "x", "environment": "e", "inputs": None, "outputs": None}),
        "booleans and numbers as text": (
            "component", {"name": "c", "command": "x", "environment": "e", "resources": {"instance_count": "2.0"},
                          "inputs": {"a": {"type": "string", "optional": "True"}}}),
        "storage options": ("job", {"component": "azureml:c:1", "inputs": {
            "a": {"type": "uri_folder", "path": "s3://b/", "storage_options": {"anon": True}}}, "outputs": None}),
        "priority of 2021": ("compute", {"name": "c", "type": "amlcompute", "priority": "LowPriority"}),
    }  # fmt: skip


@pytest.mark.parametrize("case", conforming())
def test_what_conforms_is_right(case: str) -> None:
    assert problems(*conforming()[case]) == []


WRONG: dict[str, tuple[str, Any]] = {
    "an unknown field": ("batch-endpoint", {"name": "heart-batch", "color": "red"}),
    "a name that is too short": ("batch-endpoint", {"name": "ab"}),
    "another auth_mode": ("batch-endpoint", {"name": "heart-batch", "auth_mode": "password"}),
    "mini_batch_size 0": ("batch-deployment", {**BASE, "settings": {"mini_batch_size": 0}}),
    "mini_batch_size many": ("batch-deployment", {**BASE, "settings": {"mini_batch_size": "many"}}),
    "error_threshold -2": ("batch-deployment", {**BASE, "settings": {"error_threshold": -2}}),
    "timeout of more than three days": (
        "batch-deployment", {**BASE, "settings": {"retry_settings": {"timeout": 259201}}}),
    "a setting at the root of today's form": ("batch-deployment", {**BASE, "mini_batch_size": 5}),
    "a typing error in the form of old": ("batch-deployment", {"name": "abc", "minibatch_size": 5}),
    "a type that nothing has": ("batch-deployment", {**BASE, "type": "online"}),
    "another output_action": ("batch-deployment", {**BASE, "settings": {"output_action": "append"}}),
    "a list as a model": ("batch-deployment", {**BASE, "model": ["a"]}),
    "a model without a path": ("batch-deployment", {**BASE, "model": {"name": "m"}}),
    "a pipeline with a model": ("batch-deployment", {"name": "abc", "type": "pipeline", "model": "m"}),
    "a model that has no path": ("model", {"name": "m"}),
    "data of a type of another thing": ("data", {"name": "d", "path": "x", "type": "mlflow_model"}),
    "channels at the root": ("environment", {"name": "e", "channels": ["x"]}),
    "a tier that is none": ("compute", {"name": "c", "tier": "cheap"}),
    "a component without a command": ("component", {"name": "c", "type": "command", "environment": "e"}),
    "a port without a type": (
        "component", {"name": "c", "type": "command", "command": "x", "environment": "e", "inputs": {"a": {}}}),
    "a typing error in a step": ("job", {"jobs": {"s": {"type": "command", "command": "x", "enviroment": "e"}}}),
    "a typing error in a step without a type": ("job", {"jobs": {"s": {"component": "c", "input": {}}}}),
    "a typing error in a step of a component": (
        "component", {"type": "pipeline", "jobs": {"s": {"type": "parallel", "task": {"script": "s.py"}}}}),
    "a list as the value of an input": ("job", {"jobs": {"s": {"component": "c", "inputs": {"a": [1]}}}}),
    "a mode that is none": ("job", {"component": "c", "inputs": {"a": {"path": "d", "mode": "copy"}}}),
    "a step of a type that nothing has": ("job", {"jobs": {"s": {"type": "comand", "command": "x"}}}),
    "a job without steps": ("job", {"type": "pipeline", "jobs": {}}),
    "a command job with an unknown field": ("job", {"command": "x", "environment": "e", "script": "y"}),
    "a job that is not run": ("job", {"type": "sweep", "trial": {}}),
    "a component without a type that is no command": ("component", {"name": "c", "components": []}),
    "a job of a type that nothing has": ("job", {"type": "pipelines", "steps": {}}),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_underlined(case: str) -> None:
    assert problems(*WRONG[case])
