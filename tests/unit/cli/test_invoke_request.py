"""What `invoke` was asked for: flags, file and sets become one request."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.invoke_request import Given, request_of
from hpcbatch.errors import SpecError
from hpcbatch.operations.invoke import InputRef


def test_flags_alone() -> None:
    """An input without a type is a folder, as in az."""
    request = request_of(
        Given(endpoint="heart", deployment="first", input="./data", mini_batch_size=5, instance_count=2)
    )
    assert (request.endpoint, request.deployment) == ("heart", "first")
    assert request.input == InputRef("./data", "uri_folder")
    assert request.overrides == {"mini_batch_size": 5, "instance_count": 2}
    assert (request.job_name, request.experiment_name, request.output_path) == (None, None, None)


def test_sets_are_honoured() -> None:
    """Every override of Azure and ours, as text on the command line, parsed to its type."""
    sets = (
        "output_file_name=x.csv", "mini_batch_size=7", "error_threshold=-1", "retry_settings.max_retries=2",
        "retry_settings.timeout=1.5", "max_concurrency_per_instance=4", "logging_level=debug", "groups=8",
        "environment_variables.A=b=c", "compute.instance_count=3", "properties.experimentName=exp", "job_name=j1",
        "inputs.heart.path=/data/one.csv", "inputs.heart.type=uri_file", "outputs.score.path=/out",
        "endpoint=e", "deployment=d",
    )  # fmt: skip
    request = request_of(Given(sets=sets))
    assert request.overrides == {
        "output_file_name": "x.csv", "mini_batch_size": 7, "error_threshold": -1, "max_retries": 2, "timeout_s": 1.5,
        "max_concurrency_per_instance": 4, "logging_level": "debug", "groups": 8, "environment_variables": {"A": "b=c"},
        "instance_count": 3,
    }  # fmt: skip
    assert request.input == InputRef("/data/one.csv", "uri_file")
    assert (request.endpoint, request.deployment, request.job_name) == ("e", "d", "j1")
    assert (request.experiment_name, request.output_path) == ("exp", "/out")


def test_the_settings_prefix_is_understood() -> None:
    """The same key as in the deployment's file."""
    assert request_of(Given(endpoint="e", sets=("settings.mini_batch_size=2",))).overrides == {"mini_batch_size": 2}


def test_flags_win_over_sets() -> None:
    """The flag is the more particular one."""
    request = request_of(Given(endpoint="e", mini_batch_size=1, sets=("mini_batch_size=2",)))
    assert request.overrides == {"mini_batch_size": 1}


@pytest.fixture
def inputs_file(tmp_path: Path) -> Path:
    """An invoke file in a folder of its own."""
    path = tmp_path / "inputs.yml"
    path.write_text(
        "inputs:\n  heart:\n    type: uri_folder\n    path: data/raw\n"
        "outputs:\n  score:\n    type: uri_folder\n    path: out\n"
        "deployment: second\nendpoint: heart\nsomething_else: 1\nmini_batch_size: 3\n"
    )
    return path


def test_a_file(inputs_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Relative paths start at the file; what is not understood is named and ignored, as Azure ignores it."""
    request = request_of(Given(file=str(inputs_file), input="./ignored"))
    assert request.input == InputRef(str(inputs_file.parent / "data/raw"), "uri_folder")
    assert request.output_path == str(inputs_file.parent / "out")
    assert (request.endpoint, request.deployment, request.overrides) == ("heart", "second", {"mini_batch_size": 3})
    assert "something_else is ignored" in capsys.readouterr().err


def test_flags_and_sets_over_a_file(inputs_file: Path) -> None:
    """-n, -d and --output-path win; `--set inputs.…` replaces all inputs."""
    request = request_of(
        Given(endpoint="e", deployment="d", output_path="o", file=str(inputs_file), sets=("inputs.other.path=x",))
    )
    assert (request.endpoint, request.deployment, request.output_path) == ("e", "d", "o")
    assert request.input == InputRef("x", "uri_folder")


@pytest.mark.parametrize(
    "path", ["azureml:heart:1", "azureml://datastores/d/paths/p", "https://host/x", "s3://bucket/x"]
)
def test_addresses_in_a_file_stay(path: str, tmp_path: Path) -> None:
    """Only local paths are relative to anything."""
    file = tmp_path / "i.yml"
    file.write_text(f"inputs:\n  x:\n    path: {path}\n    type: uri_file\n")
    assert request_of(Given(endpoint="e", file=str(file))).input == InputRef(path, "uri_file")


def test_home_in_a_file(tmp_path: Path) -> None:
    """`~` is the user's home."""
    file = tmp_path / "i.yml"
    file.write_text("inputs:\n  x:\n    path: ~/x\n")
    request = request_of(Given(endpoint="e", file=str(file)))
    assert request.input is not None
    assert request.input.path == os.path.expanduser("~/x")


def test_inputs_as_json() -> None:
    """`--inputs` and `--outputs` say the same as the file."""
    inputs = json.dumps({"x": {"path": "/d", "type": "uri_file"}})
    request = request_of(Given(endpoint="e", inputs=inputs, outputs='{"score": {"path": "/o"}}'))
    assert (request.input, request.output_path) == (InputRef("/d", "uri_file"), "/o")


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"endpoint": None}, "--name", "endpoint"),
        ({"inputs": "[]"}, "--inputs", "JSON"),
        ({"inputs": "{"}, "--inputs", "JSON"),
        ({"sets": ("nonsense",)}, "nonsense", "--set KEY=VALUE"),
        ({"sets": ("mini_batch_szie=3",)}, "mini_batch_szie", "mini_batch_size?"),
        ({"sets": ("settings.output_action=summary_only",)}, "settings.output_action", "update"),
        ({"sets": ("mini_batch_size=many",)}, "mini_batch_size", "whole number"),
        ({"sets": ("mini_batch_size=²",)}, "mini_batch_size", "whole number"),
        ({"sets": ("retry_settings.timeout=long",)}, "retry_settings.timeout", "seconds"),
        ({"sets": ("output_file_name=",)}, "output_file_name", "text"),
        ({"sets": ("environment_variables=x",)}, "environment_variables", "mapping"),
        ({"sets": ("environment_variables.A-B=x",)}, "environment_variables.A-B", "'A-B' cannot be"),
        ({"settings": {"environment_variables": {"A B": "x"}}}, "environment_variables.A B", "'A B' cannot be"),
        ({"sets": ("logging_level=trace",)}, "logging_level", "warning, info or debug"),
        ({"sets": ("inputs.x=5",)}, "inputs.x", "literal"),
        ({"sets": ("inputs.x.type=mltable", "inputs.x.path=y")}, "inputs.x.type", "uri_folder or uri_file"),
        ({"sets": ("inputs.x.path=a", "inputs.y.path=b")}, "inputs", "exactly one"),
        ({"sets": ("outputs.x.path=a", "outputs.y.path=b")}, "outputs", "exactly one"),
    ],
)
def test_what_cannot_be_is_told(given: dict[str, Any], field: str, words: str) -> None:
    """The field, what is wrong with it, and how it is right."""
    with pytest.raises(SpecError) as raised:
        request_of(Given(**{"endpoint": "e", **given}))
    assert raised.value.fields["field"] == field
    assert words in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("front", ["", "properties.hpcbatch.", "settings."])
def test_options_of_the_output_may_be_set_for_one_job(front: str) -> None:
    """By their short names, or by where they stand in a deployment."""
    sets = (f"{front}output_header=true", f"{front}output_input_column=file")
    assert request_of(Given(endpoint="e", sets=sets)).overrides == {
        "output_header": "true",
        "output_input_column": "file",
    }


@pytest.mark.parametrize(
    ("line", "sets", "where"),
    [
        ("mini_batch_size: ten", (), ":6: mini_batch_size is 'ten'"),
        ("settings: {retry_settings: {timeout: soon}}", (), ":6: retry_settings.timeout is 'soon'"),
        ("inputs: [1]", (), ":6: A model deployment takes exactly one data input; inputs is [1], which names none"),
        ("mini_batch_size: 3", ("mini_batch_size=ten",), "mini_batch_size is 'ten'"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    tmp_path: Path, line: str, sets: tuple[str, ...], where: str
) -> None:
    """And what the command line said is not put down to the file."""
    file = tmp_path / "i.yml"
    head = "outputs:\n  score: {path: /o}\n" if line.startswith("inputs") else "inputs:\n  x: {path: /d}\n"
    file.write_text(f"# of one job\nendpoint: e\ndeployment: d\n{head}{line}\n")
    with pytest.raises(SpecError) as raised:
        request_of(Given(file=str(file), sets=sets))
    assert str(raised.value).startswith(f"{file}{where}" if where.startswith(":") else where)
