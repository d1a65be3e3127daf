"""Endpoints, deployments, assets and computes: what Azure ML's files say is understood, all else names the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.spec.assets import Data, Environment, Model
from hpcbatch.spec.base import Document, parse
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.deployment import ModelBatchDeployment, RetrySettings, parse_deployment
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.yamlfile import Loaded, loads
from tests.unit.spec.deployments import BAD, LEGACY, TYPED


def _loaded(text: str) -> Loaded:
    return loads(text.encode(), "deployment.yml", Path("/"))


def test_a_typed_deployment_is_understood() -> None:
    deployment = parse_deployment(_loaded(TYPED))
    assert isinstance(deployment.model, Model)
    assert isinstance(deployment.environment, Environment)
    settings = deployment.effective()
    assert (settings.instance_count, settings.mini_batch_size, settings.retry_settings.timeout) == (1, 10, 30.0)


def test_a_deployment_without_type_has_its_settings_at_the_root() -> None:
    settings = parse_deployment(_loaded(LEGACY)).effective()
    assert settings.model_dump(mode="json") == {
        "instance_count": 3,
        "mini_batch_size": 5,
        "max_concurrency_per_instance": 2,
        "error_threshold": 0,
        "retry_settings": {"max_retries": 1, "timeout": 9999.0},
        "output_action": "append_row",
        "output_file_name": "predictions.csv",
        "logging_level": "info",
        "environment_variables": {"RATIO": "1.10", "DEBUG": "true", "EMPTY": ""},
    }


def test_the_defaults_are_those_of_azure_ml() -> None:
    minimal = "name: blue\nendpoint_name: heart\ntype: model\nmodel: azureml:m:1\ncompute: c\n"
    assert parse_deployment(_loaded(minimal)).effective().model_dump(mode="json") == {
        "instance_count": 1,
        "mini_batch_size": 10,
        "max_concurrency_per_instance": 1,
        "error_threshold": -1,
        "retry_settings": {"max_retries": 3, "timeout": 30.0},
        "output_action": "append_row",
        "output_file_name": "predictions.csv",
        "logging_level": "info",
        "environment_variables": {},
    }


def test_what_may_stand_at_the_root_too_counts_unless_the_settings_say_otherwise() -> None:
    root = "error_threshold: 5\nenvironment_variables: {A: root, B: root}\n"
    head = "name: blue\nendpoint_name: heart\ntype: model\n" + root
    only = parse_deployment(_loaded(head)).effective()
    both = parse_deployment(
        _loaded(head + "settings: {error_threshold: 1, environment_variables: {A: own}}\n")
    ).effective()
    assert (only.error_threshold, only.environment_variables) == (5, {"A": "root", "B": "root"})
    assert (both.error_threshold, both.environment_variables) == (1, {"A": "own", "B": "root"})


@pytest.mark.parametrize("case", BAD)
def test_a_bad_deployment_names_file_line_field_found_and_allowed(case: str) -> None:
    old, new, line, field, found, allowed, said = BAD[case]
    assert old in TYPED
    with pytest.raises(SpecError) as caught:
        parse_deployment(_loaded(TYPED.replace(old, new, 1)))
    fields = caught.value.fields
    assert fields["file"] == "deployment.yml"
    assert fields["field"] == field
    assert fields["line"] == line or line is None
    if found is not None:
        assert fields["found"] == found
    assert allowed in str(fields["allowed"])
    assert said in str(caught.value)
    assert str(caught.value).endswith("Correct deployment.yml, and run the same command again.") or case == "pipeline"


LEGACY_BAD = {
    "value": ("mini_batch_size: 5", "mini_batch_size: none", 9, "mini_batch_size"),
    "nested value": ("max_retries: 1", "max_retries: x", 15, "retry_settings.max_retries"),
    "twice": ("resources:", "settings: {mini_batch_size: 3}\nresources:", 9, "mini_batch_size"),
    "settings is no mapping": ("resources:", "settings: [1]\nresources:", 12, "settings"),
    "component": ("model:", "component:", 4, "component"),
    "job_definition": ("model:", "job_definition:", 4, "job_definition"),
}


@pytest.mark.parametrize("case", LEGACY_BAD)
def test_a_bad_field_of_the_old_form_is_named_as_it_was_written(case: str) -> None:
    old, new, line, field = LEGACY_BAD[case]
    with pytest.raises(SpecError) as caught:
        parse_deployment(_loaded(LEGACY.replace(old, new, 1)))
    problems = caught.value.fields.get("problems") or [caught.value.fields]
    assert (line, field) in [(one["line"], one["field"]) for one in problems]


def test_all_problems_are_said_at_once_in_the_order_of_the_file() -> None:
    text = (
        TYPED.replace("mini_batch_size: 10", "mini_batch_size: 0")
        .replace("mnist-torch-dpl", "x")
        .replace("timeout", "tmeout")
    )
    with pytest.raises(SpecError) as caught:
        parse_deployment(_loaded(text))
    problems = caught.value.fields["problems"]
    assert [one["line"] for one in problems] == [2, 21, 26]
    assert "3 problems" in str(caught.value)
    for one in problems:
        assert f"line {one['line']}: {one['field']}" in str(caught.value)


def test_a_problem_that_came_from_the_command_line_says_so() -> None:
    with pytest.raises(SpecError) as caught:
        parse_deployment(_loaded(TYPED).with_sets(["settings.mini_batch_size=none"]))
    assert (caught.value.fields["file"], caught.value.fields["line"]) == ("the command line", None)
    text = TYPED.replace("mnist-torch-dpl", "x")
    with pytest.raises(SpecError, match=r"the command line: settings\.mini_batch_size"):
        parse_deployment(_loaded(text).with_sets(["settings.mini_batch_size=none"]))


def test_numbers_from_the_command_line_are_numbers() -> None:
    sets = ["settings.mini_batch_size=5", "settings.retry_settings.timeout=2.5", "resources.instance_count=4"]
    settings = parse_deployment(_loaded(TYPED).with_sets(sets)).effective()
    assert (settings.mini_batch_size, settings.retry_settings.timeout, settings.instance_count) == (5, 2.5, 4)


@pytest.mark.parametrize("name", ["abc", "a-b", "A1c", "a" * 32])
def test_good_names(name: str) -> None:
    assert parse(BatchEndpoint, {"name": name}).name == name


@pytest.mark.parametrize(
    "name", ["", "ab", "a" * 33, "1abc", "abc-", "-abc", "a_b", "a.b", "a/b", "a b", "abc\n", "äbc", None, 5]
)
def test_bad_names(name: Any) -> None:
    with pytest.raises(SpecError) as caught:
        parse(BatchEndpoint, {"name": name}, file="endpoint.yml")
    assert (caught.value.fields["field"], caught.value.fields["file"]) == ("name", "endpoint.yml")


def test_an_endpoint_as_show_prints_it_is_understood() -> None:
    shown = {
        "$schema": "s",
        "id": "x",
        "name": "heart",
        "auth_mode": "aad_token",
        "defaults": {"deployment_name": "blue"},
        "scoring_uri": "u",
        "openapi_uri": None,
        "provisioning_state": "Succeeded",
        "location": "",
        "tags": None,
        "properties": {},
        "creation_context": {},
    }
    endpoint = parse(BatchEndpoint, shown)
    assert endpoint.defaults is not None
    assert (endpoint.defaults.deployment_name, endpoint.tags) == ("blue", {})


def test_documents_cannot_be_changed() -> None:
    endpoint = parse(BatchEndpoint, {"name": "heart"})
    with pytest.raises(Exception, match="frozen"):
        endpoint.name = "other"  # type: ignore[misc]


def test_versions_keep_their_spelling() -> None:
    for text, version in (("1.10", "1.10"), ("007", "007"), ("'2'", "2"), ("2026-01-01", "2026-01-01")):
        assert parse(Model, _loaded(f"path: m\nversion: {text}\n")).version == version


@pytest.mark.parametrize(
    ("model", "text", "field"),
    [
        (Model, "path: m\ntype: keras\n", "type"),
        (Model, "path: m\nversion: true\n", "version"),
        (Model, "path: m\nversion: a/b\n", "version"),
        (Model, "path: m\nname: ../up\n", "name"),
        (Model, "path: ''\n", "path"),
        (Data, "type: mltables\npath: x\n", "type"),
        (Environment, "image: a\nbuild: {path: b}\n", ""),
        (Environment, "name: a\nchannels: [b]\ndependencies: [c]\n", ""),
        (Environment, 'image: "a\\nb"\n', ""),
        (Environment, "conda_file: 5\n", "conda_file"),
        (Environment, "python: 3.8\n", "python"),
        (Compute, "name: a\ntype: kubernetes\n", "type"),
        (Compute, "name: a\ntype: local\npartition: x\n", ""),
        (Compute, "name: a\nmin_instances: 5\nmax_instances: 2\n", ""),
        (Compute, "name: a\ntype: slurm\nmem: 1G\nmem_per_cpu: 1G\n", ""),
        (Compute, "name: a\ntype: slurm\ntime: 1h\n", "time"),
        (Compute, "name: a\ntype: slurm\ntime: 0\n", "time"),
        (Compute, "name: a\ntype: slurm\ntime: true\n", "time"),
        (Compute, "name: a\ntype: slurm\nsetup: ['#SBATCH -p x']\n", "setup"),
        (Compute, 'name: a\ntype: slurm\nsetup: ["a\\nb"]\n', "setup"),
        (Compute, "name: a\ntype: slurm\nsetup: {a: b}\n", "setup"),
        (Compute, "name: a\ntype: slurm\nmerge: {partitions: x}\n", "merge.partitions"),
        (Compute, "name: a\ntier: spot\n", "tier"),
        (Compute, "name: a\ntype: [slurm]\n", "type"),
        (RetrySettings, "timeout: soon\n", "timeout"),
        (RetrySettings, "timeout: true\n", "timeout"),
        (RetrySettings, "timeout: 1000000\n", "timeout"),
        (Compute, "name: a\ntype: slurm\npartition: {x: 1}\n", "partition"),
        (Compute, "name: a\nmerge: 5\n", "merge"),
        (Compute, "name: a\nssh_public_access_enabled: maybe\n", "ssh_public_access_enabled"),
    ],
)
def test_bad_assets_and_computes_name_the_field(model: type[Document], text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(model, _loaded(text))
    assert field in [one["field"] for one in caught.value.fields["problems"]]
    assert all(one["line"] for one in caught.value.fields["problems"])


SLURM = """\
name: gpu
type: slurm
partition: a,b
low_priority_partition: spot
tier: LowPriority
account: 1234
qos: high
mem: 4G
time: 1:30:00
gres: gpu:a100:2
nodelist: node[01-04]
max_array_tasks: 50
setup: |
  module load cuda
  source ~/.bashrc
merge: {partition: small, time: 5}
"""


def test_a_slurm_compute_is_understood() -> None:
    compute = parse(Compute, _loaded(SLURM))
    assert (compute.account, compute.time, compute.tier) == ("1234", "1:30:00", "low_priority")
    assert compute.setup == ["module load cuda", "source ~/.bashrc"]
    assert compute.merge is not None
    assert (compute.merge.partition, compute.merge.time) == ("small", 5)


def test_an_azure_ml_compute_is_understood() -> None:
    text = "name: lp\ntype: amlcompute\nsize: STANDARD_DS3_v2\ntier: low_priority\nmin_instances: 0\nmax_instances: 2\n"
    text += "idle_time_before_scale_down: 120\n"
    assert parse(Compute, _loaded(text)).max_instances == 2


INJECTIONS = [
    "x --wrap=id", "x\n#SBATCH --uid=0", "$(id)", "`id`", "a;b", "a|b", "a&b", "a'b", 'a"b', "a\\b", "#x", "%j", "-p",
    "--wrap=id", "", " a", "a ", "a\tb", "a\0b", "ä", "a\x7fb", "a>b", "a<b", "a{b}", "~/x", "!x",
]  # fmt: skip


@pytest.mark.parametrize("text", INJECTIONS)
@pytest.mark.parametrize(
    "field", ["partition", "account", "qos", "gres", "mem", "reservation", "nodelist", "exclude", "time"]
)
def test_nothing_that_sbatch_or_a_shell_would_read_otherwise_gets_through(text: str, field: str) -> None:
    with pytest.raises(SpecError):
        parse(Compute, {"name": "a", "type": "slurm", field: text})


@pytest.mark.parametrize(
    "text", ["normal", "a,b", "gpu:a100:2", "node[01-04,7]", "user@host", "4G", "a.b_c-d", "a/b", "x=1", "10", "a+b*"]
)
def test_ordinary_slurm_values_get_through(text: str) -> None:
    assert parse(Compute, {"name": "a", "type": "slurm", "partition": text}).partition == text


@pytest.mark.parametrize("time", [1, "90", "30:00", "1:30:00", "2-0", "2-12:30", "2-12:30:59"])
def test_slurm_times(time: Any) -> None:
    assert str(parse(Compute, {"name": "a", "type": "slurm", "time": time}).time) == str(time)


def test_a_time_of_the_command_line_is_the_number_that_a_file_has() -> None:
    assert parse(Compute, {"name": "a", "type": "slurm", "time": "60"}).time == 60


@pytest.mark.parametrize("text", ["a|b", "a&b", "[a|b]", "a,b", "[rack1*2&rack2*4]", "[(knl&snc4)*2|x]", "a&[b|c]"])
def test_what_sbatch_takes_as_a_constraint_gets_through(text: str) -> None:
    assert parse(Compute, {"name": "a", "type": "slurm", "constraint": text}).constraint == text
    with pytest.raises(SpecError, match="may not be given to Slurm"):
        parse(Compute, {"name": "a", "type": "slurm", "constraint": f"{text} --nice=7"})


@pytest.mark.parametrize(
    "text",
    ["|a", "a|", "a||b", "a&", "(a", "[a|b", "a|b\n", "a|b;x", "a|$(x)", "a|b#", "-a|b", "a|`b`"]
    + [text for text in INJECTIONS if text not in ("a|b", "a&b")],
)
def test_what_is_no_constraint_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="may not be given to Slurm"):
        parse(Compute, {"name": "a", "type": "slurm", "constraint": text})


def test_the_examples_overrides_for_slurm_keep_a_deployment_valid() -> None:
    text = TYPED.replace(
        "  instance_count: 1",
        "  instance_count: 1\n  properties:\n    ComputeSpecification: {x: 1}\n    slurm: {time: 60}",
    )
    deployment = parse_deployment(_loaded(text))
    assert isinstance(deployment, ModelBatchDeployment)
    assert deployment.resources is not None
    assert deployment.resources.properties is not None
    assert deployment.resources.properties.slurm is not None
    assert deployment.resources.properties.slurm.time == 60


def test_what_is_allowed_is_said_in_words() -> None:
    """Both types of a deployment, and a name without the pattern that checks it; no guess at what is not near."""
    with pytest.raises(SpecError) as caught:
        parse_deployment(_loaded("name: dep\nendpoint_name: end\ntype: modle\n"))
    assert (caught.value.fields["line"], caught.value.fields["allowed"]) == (3, "'model' or 'pipeline'")
    with pytest.raises(SpecError, match="name: 'my model' is not allowed") as caught:
        parse(Model, _loaded("name: my model\npath: x\nstatus: 1\n"))
    assert "at most 255 letters, digits, '.', '_' and '-', beginning with a letter or digit" in str(caught.value)
    assert "Did you mean" not in str(caught.value)
