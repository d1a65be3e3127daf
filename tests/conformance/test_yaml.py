"""Azure ML's YAML, field by field: what `show` says after `create -f`. A case is named after the field."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

Cli = Callable[..., Any]
SCHEMA = "https://azuremlschemas.azureedge.net/latest/{}.schema.json"

ENDPOINT: dict[str, tuple[Any, str, Any]] = {
    "$schema": (SCHEMA.format("batchEndpoint"), "name", "heart-batch"),
    "name": ("Heart-2", "name", "Heart-2"),
    "description": ("A classifier", "description", "A classifier"),
    "tags": ({"team": "cardio", "n": 1}, "tags", {"team": "cardio", "n": "1"}),
    "properties": ({"a": {"b": 1}}, "properties", {"a": {"b": 1}}),
    "auth_mode": ("aad_token", "auth_mode", "aad_token"),
    "auth_mode key": ("key", "auth_mode", "key"),
    "auth_mode aml_token": ("AMLToken", "auth_mode", "aml_token"),
    "defaults.deployment_name": ({"deployment_name": "later"}, "defaults.deployment_name", "later"),
    "identity": ({"type": "system_assigned"}, "name", "heart-batch"),
    "location": ("westeurope", "location", "westeurope"),
    "provisioning_state": ("Succeeded", "provisioning_state", "Succeeded"),
    "scoring_uri": ("https://x", "name", "heart-batch"),
    "openapi_uri": (None, "openapi_uri", None),
    "id": ("/subscriptions/x", "name", "heart-batch"),
}


def _key(case: str) -> str:
    """The field at the root that a case is about."""
    return re.split(r"[ .,]", case)[0]


@pytest.mark.parametrize("field", ENDPOINT)
def test_1_1_endpoint(az: Cli, project: Path, field: str) -> None:
    value, path, expected = ENDPOINT[field]
    document = {"name": "heart-batch", _key(field): value}
    (project / "e.yml").write_text(yaml.safe_dump(document))
    az("batch-endpoint create -f e.yml")
    shown = az("batch-endpoint", "show", "-n", str(document["name"])).json
    assert at(shown, path) == expected


@pytest.mark.parametrize("name", ["ab", "a" * 33, "1abc", "abc-", "a_b", "a.b"])
def test_1_1_endpoint_name_rule(cli: Cli, project: Path, name: str) -> None:
    (project / "e.yml").write_text(yaml.safe_dump({"name": name}))
    ran = cli("batch-endpoint create -f e.yml")
    assert (ran.exit_code, "3 to 32 letters" in ran.err) == (2, True)


BASE: dict[str, Any] = {
    "name": "first", "endpoint_name": "heart-batch", "type": "model", "model": "azureml:heart@latest",
    "code_configuration": {"code": "code", "scoring_script": "batch_driver.py"}, "environment": "azureml:here@latest",
    "compute": "azureml:batch-cluster",
}  # fmt: skip
DEPLOYMENT: dict[str, tuple[dict[str, Any], str, Any]] = {
    "$schema": ({"$schema": SCHEMA.format("modelBatchDeployment")}, "type", "model"),
    "$schema decides nothing": ({"$schema": SCHEMA.format("pipelineComponentBatchDeployment")}, "type", "model"),
    "name": ({"name": "Second-2"}, "name", "Second-2"),
    "endpoint_name": ({"endpoint_name": "HEART-batch"}, "endpoint_name", "heart-batch"),
    "description": ({"description": "d"}, "description", "d"),
    "tags": ({"tags": {"a": True}}, "tags", {"a": "true"}),
    "properties": ({"properties": {"a": 1}}, "properties", {"a": 1}),
    "model azureml:n:v": ({"model": "azureml:heart:1"}, "model", "azureml:heart:1"),
    "model azureml:n@latest": ({"model": "azureml:heart@latest"}, "model", "azureml:heart:1"),
    "model azureml:n": ({"model": "azureml:heart"}, "model", "azureml:heart:1"),
    "model bare": ({"model": "heart"}, "model", "azureml:heart:1"),
    "model of a registry": ({"model": "azureml://registries/r/models/heart/versions/1"}, "model", "azureml:heart:1"),
    "model ARM id": ({"model": "/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/"
                      "workspaces/w/models/heart/versions/1"}, "model", "azureml:heart:1"),
    "model inline": ({"model": {"name": "mine", "version": 7, "path": "model"}}, "model", "azureml:mine:7"),
    "model inline without a name": ({"model": {"path": "model/model.pkl"}}, "settings.mini_batch_size", 10),
    "code_configuration.scoring_script": ({}, "code_configuration.scoring_script", "batch_driver.py"),
    "environment azureml:n@latest": ({}, "environment", "azureml:here:1"),
    "environment inline": ({"environment": {"name": "e", "image": "i", "conda_file": "environment/conda.yaml"}},
                           "environment", "azureml:e:1"),
    "environment inline conda": ({"environment": {"image": "i", "conda_file": {"dependencies": ["pip"]}}},
                                 "settings.mini_batch_size", 10),
    "compute azureml:c": ({}, "compute", "azureml:batch-cluster"),
    "compute bare": ({"compute": "batch-cluster"}, "compute", "azureml:batch-cluster"),
    "resources.instance_count": ({"resources": {"instance_count": 3}}, "resources.instance_count", 3),
    "resources, the rest": ({"resources": {"instance_type": "S", "properties": {"x": 1}, "locations": ["l"],
                             "shm_size": "2g", "max_instance_count": 9, "docker_args": "-x"}}, "resources",
                            {"instance_type": "S", "properties": {"x": 1}, "locations": ["l"], "shm_size": "2g",
                             "max_instance_count": 9, "docker_args": "-x", "instance_count": 1}),
    "error_threshold at the root": ({"error_threshold": 4}, "settings.error_threshold", 4),
    "environment_variables at the root": ({"environment_variables": {"A": 1}}, "settings.environment_variables",
                                          {"A": "1"}),
    "type in capitals": ({"type": "Model"}, "type", "model"),
}  # fmt: skip


def created(az: Cli, project: Path, document: dict[str, Any], *more: str) -> dict[str, Any]:
    """The deployment as `show` says it after `create -f`."""
    (project / "d.yml").write_text(yaml.safe_dump(document, sort_keys=False))
    shown: dict[str, Any] = az("batch-deployment", "create", "-f", "d.yml", *more).json
    name, endpoint = shown["name"], shown["endpoint_name"]
    assert shown.items() <= az("batch-deployment", "show", "-n", name, "-e", endpoint).json.items()
    return shown


def at(shown: Any, path: str) -> Any:
    for part in path.split("."):
        shown = shown[part]
    return shown


@pytest.mark.parametrize("field", DEPLOYMENT)
def test_1_2_model_deployment(az: Cli, project: Path, field: str) -> None:
    change, path, expected = DEPLOYMENT[field]
    assert at(created(az, project, {**BASE, **change}), path) == expected


SETTINGS: dict[str, tuple[Any, Any]] = {
    "mini_batch_size": (7, 7),
    "max_concurrency_per_instance": (4, 4),
    "error_threshold": (0, 0),
    "error_threshold -1": (-1, -1),
    "retry_settings": ({"max_retries": 1, "timeout": 300}, {"max_retries": 1, "timeout": 300.0}),
    "retry_settings.max_retries alone": ({"max_retries": 0}, {"max_retries": 0, "timeout": 30.0}),
    "retry_settings.timeout alone": ({"timeout": 1800}, {"max_retries": 3, "timeout": 1800.0}),
    "output_action": ("append_row", "append_row"),
    "output_action AppendRow": ("AppendRow", "append_row"),
    "output_action summary_only": ("summary_only", "summary_only"),
    "output_action SummaryOnly": ("SummaryOnly", "summary_only"),
    "output_file_name": ("mine.csv", "mine.csv"),
    "logging_level": ("debug", "debug"),
    "logging_level Warning": ("Warning", "warning"),
    "environment_variables": ({"A": 1.10, "B": True, "C": None}, {"A": "1.1", "B": "true", "C": ""}),
}
DEFAULTS = {
    "mini_batch_size": 10, "max_concurrency_per_instance": 1, "error_threshold": -1, "output_action": "append_row",
    "output_file_name": "predictions.csv", "logging_level": "info", "environment_variables": {},
    "retry_settings": {"max_retries": 3, "timeout": 30.0},
}  # fmt: skip


@pytest.mark.parametrize("generation", ["1_2 settings", "1_4 at the root"])
@pytest.mark.parametrize("field", SETTINGS)
def test_1_2_and_1_4_settings_of_both_generations(az: Cli, project: Path, field: str, generation: str) -> None:
    """Below `settings:` with `type: model`, and at the root without a type; everything else keeps its default."""
    value, expected = SETTINGS[field]
    key = _key(field)
    base = {name: one for name, one in BASE.items() if name != "type"}
    document = {**BASE, "settings": {key: value}} if generation.startswith("1_2") else {**base, key: value}
    assert created(az, project, document)["settings"] == {**DEFAULTS, key: expected}


def test_1_2_instance_count_in_settings(az: Cli, project: Path) -> None:
    shown = created(az, project, {**BASE, "settings": {"instance_count": 3}})
    assert shown["resources"]["instance_count"] == 3


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "instance_count twice": ({"resources": {"instance_count": 1}, "settings": {"instance_count": 2}},
                             "Can't set instance_count when resources is provided"),
    "output_file_name with summary_only": ({"settings": {"output_action": "summary_only", "output_file_name": "x.csv"}},
                                           "the output_file_name need not to be specified"),
    "MLflow model, script, no environment": ({"model": "azureml:flow:1", "environment": None},
                                             "'Environment Id' must not be empty"),
    "no script for a custom model": ({"code_configuration": None}, "needs a code_configuration"),
    "a model that is not there": ({"model": "azureml:nope:1"}, "not registered"),
    "a version that is not there": ({"model": "azureml:heart:9"}, "has no version '9'"),
    "an endpoint that is not there": ({"endpoint_name": "nope"}, "does not exist"),
    "a code asset": ({"code_configuration": {"code": "azureml:c:1", "scoring_script": "s.py"}}, "is not a local path"),
    "a scoring script that is not there": ({"code_configuration": {"code": "code", "scoring_script": "s.py"}},
                                           "batch_driver.py"),
    "mini_batch_size 0": ({"settings": {"mini_batch_size": 0}}, ">= 1"),
    "error_threshold -2": ({"settings": {"error_threshold": -2}}, ">= -1"),
    "timeout of more than three days": ({"settings": {"retry_settings": {"timeout": 259201}}}, "<= 259200"),
    "an unknown field": ({"minibatch_size": 1}, "unknown field"),
    "an unknown type": ({"type": "online"}, "type"),
    "channels at the root of an environment": ({"environment": {"name": "e", "channels": ["x"]}}, "channels"),
    "image and build": ({"environment": {"name": "e", "image": "x", "build": {"path": "."}}}, "image and build"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_1_2_what_cannot_be_is_an_error_that_names_the_field(cli: Cli, az: Cli, project: Path, case: str) -> None:
    """Exit code 2 or 3, what is wrong, and nothing is registered."""
    change, words = REFUSED[case]
    (project / "d.yml").write_text(yaml.safe_dump({k: v for k, v in {**BASE, **change}.items() if v is not None}))
    ran = cli("batch-deployment create -f d.yml")
    assert (ran.exit_code in (2, 3), ran.out) == (True, "")
    assert words in ran.err
    assert az("batch-deployment list -e heart-batch").json == []


def test_1_2_the_script_is_read_unless_asked_not_to(cli: Cli, az: Cli, project: Path) -> None:
    (project / "code" / "batch_driver.py").write_text("def run(m)\n")
    (project / "d.yml").write_text(yaml.safe_dump(BASE))
    ran = cli("batch-deployment create -f d.yml")
    assert (ran.exit_code, "batch_driver.py:1" in ran.err) == (2, True)
    assert created(az, project, BASE, "--skip-script-validation")["name"] == "first"


def test_1_2_an_mlflow_model_needs_neither_script_nor_environment(az: Cli, project: Path) -> None:
    document = {key: BASE[key] for key in ("name", "endpoint_name", "type", "compute")} | {
        "model": "azureml:flow@latest"
    }
    shown = created(az, project, document)
    assert (shown["code_configuration"], shown["environment"]) == (None, None)


def test_1_2_relative_paths_start_at_the_files_own_folder(az: Cli, project: Path, monkeypatch: Any) -> None:
    (project / "d.yml").write_text(yaml.safe_dump({**BASE, "model": {"path": "model"}}))
    monkeypatch.chdir(project.parent)
    assert az("batch-deployment create -f project/d.yml --query name").json == "first"


def test_1_4_a_foundation_models_file_is_completed_by_sets(az: Cli, project: Path) -> None:
    """No type, no model, no endpoint, a bare compute: those come from `--set`."""
    (project / "d.yml").write_text(yaml.safe_dump({
        "$schema": SCHEMA.format("batchDeployment"), "name": "demo", "description": "d", "error_threshold": 0,
        "logging_level": "info", "max_concurrency_per_instance": 2, "mini_batch_size": 5, "output_action": "append_row",
        "output_file_name": "predictions.csv", "resources": {"instance_count": 1},
        "retry_settings": {"max_retries": 1, "timeout": 9999}, "compute": "cpu-cluster",
    }))  # fmt: skip
    sets = ("model=azureml://registries/azureml/models/flow/versions/1", "endpoint_name=HEART-BATCH",
            "compute=batch-cluster", "name=demo-2", "settings.environment_variables.K=V")  # fmt: skip
    shown = az("batch-deployment", "create", "--file", "d.yml", "--set", *sets).json
    assert (shown["name"], shown["endpoint_name"], shown["compute"]) == (
        "demo-2",
        "heart-batch",
        "azureml:batch-cluster",
    )
    assert shown["settings"]["environment_variables"] == {"K": "V"}
    assert (shown["settings"]["error_threshold"], shown["settings"]["retry_settings"]["timeout"]) == (0, 9999)


ASSETS: dict[str, tuple[str, dict[str, Any], str, Any]] = {
    "data name, version, description, tags, path, type": (
        "data", {"$schema": SCHEMA.format("data"), "name": "d", "version": 3, "description": "x", "tags": {"a": "b"},
                 "path": "data", "type": "uri_folder"},
        "[version,description,tags.a,type]", ["3", "x", "b", "uri_folder"]),
    "data type by default": ("data", {"name": "d", "path": "data"}, "type", "uri_folder"),
    "data type uri_file": ("data", {"name": "d", "path": "data/a.csv", "type": "uri_file"}, "type", "uri_file"),
    "data version by itself": ("data", {"name": "d", "path": "data"}, "version", "1"),
    "environment image": ("environment", {"name": "e", "image": "i"}, "image", "i"),
    "environment build": ("environment", {"name": "e", "build": {"path": ".", "dockerfile_path": "D"}},
                          "build.dockerfile_path", "D"),
    "environment conda_file, a path": (
        "environment", {"name": "e", "image": "i", "conda_file": "environment/conda.yaml"}, "conda_file.name", "e"),
    "environment conda_file, inline": ("environment", {"name": "e", "image": "i", "conda_file": {"name": "z"}},
                                       "conda_file.name", "z"),
    "environment os_type": ("environment", {"name": "e", "image": "i", "os_type": "Linux"}, "os_type", "linux"),
    "environment inference_config, datastore": (
        "environment", {"name": "e", "image": "i", "inference_config": {"a": {}}, "datastore": "x"}, "name", "e"),
    "model type by default": ("model", {"name": "m", "path": "model"}, "type", "custom_model"),
    "model mlflow_model": ("model", {"name": "m", "path": "mlflow", "type": "mlflow_model"}, "type", "mlflow_model"),
    "model triton_model": ("model", {"name": "m", "path": "model", "type": "triton_model"}, "type", "triton_model"),
    "model properties, flavors, stage": ("model", {"name": "m", "path": "model", "properties": {"p": 1}, "stage": "S",
                                         "flavors": {"f": {"v": 1}}}, "[properties.p,stage,flavors.f.v]", [1, "S", 1]),
    "compute amlcompute low_priority": (
        "compute", {"$schema": SCHEMA.format("amlCompute"), "name": "lp", "type": "amlcompute", "size": "S", "tier":
                    "low_priority", "min_instances": 0, "max_instances": 5, "idle_time_before_scale_down": 120},
        "[tier,max_instances]", ["low_priority", 5]),
}  # fmt: skip


@pytest.mark.parametrize("case", ASSETS)
def test_1_8_assets(az: Cli, project: Path, case: str) -> None:
    kind, document, query, expected = ASSETS[case]
    (project / "a.yml").write_text(yaml.safe_dump(document))
    az(kind, "create", "-f", "a.yml")
    assert az(kind, "show", "-n", document["name"], "--query", query).json == expected


def test_1_8_latest_is_the_one_that_was_created_last(az: Cli, project: Path) -> None:
    """Not the highest number."""
    for version, path in (("9", "model"), ("2", "data")):
        az("model", "create", "--name", "m", "--version", version, "--path", path)
    for words in (("--label", "latest"), ()):
        assert az("model", "show", "--name", "m", *words, "--query", "version").json == "2"
    document = {**BASE, "model": "azureml:m@latest"}
    assert created(az, project, document)["model"] == "azureml:m:2"


def test_what_show_prints_can_be_given_back(az: Cli, project: Path) -> None:
    """`show -o yaml > file; create -f file`: endpoints and computes; JSON is YAML."""
    for noun, name in (("batch-endpoint", "heart-batch"), ("compute", "batch-cluster")):
        shown = az(noun, "show", "-n", name).json
        (project / "back.yml").write_text(json.dumps(shown))
        again = az(noun, "create", "-f", "back.yml").json
        assert {k: v for k, v in again.items() if k != "creation_context"} == {
            k: v for k, v in shown.items() if k != "creation_context"
        }
