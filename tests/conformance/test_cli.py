"""`az ml`'s verbs: each has its parameters, and lines as Azure's scripts have them do what they do there."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.grammar import GLOBAL_OPTIONS, verb_parser, verbs_of
from hpcbatch.cli.main import ALIASES, NOUNS

Cli = Callable[..., Any]

# Every verb of `az ml` for these nouns, with its parameters. What stands behind `!` is left out, for the reason given.
VERBS = """
batch-endpoint create: --file -f --name -n --set --no-wait
batch-endpoint show: --name -n
batch-endpoint list:
batch-endpoint update: --name -n --file -f --defaults --no-wait --set --add --remove --force-string
batch-endpoint delete: --name -n --yes -y --no-wait
batch-endpoint invoke: --name -n --deployment-name -d --input --input-type --inputs --outputs --output-path \
--mini-batch-size -m --instance-count -c --job-name --experiment-name --file -f --set
batch-endpoint list-jobs: --name -n
batch-deployment create: --file -f --name -n --endpoint-name -e --set --set-default --skip-script-validation --no-wait
batch-deployment show: --name -n --endpoint-name -e
batch-deployment delete: --name -n --endpoint-name -e --yes -y --no-wait
batch-deployment list: --endpoint-name -e
batch-deployment list-jobs: --name -n --endpoint-name -e
batch-deployment update: --name -n --endpoint-name -e --file -f --set --add --remove --no-wait
job create: --file -f --name -n --set --save-as -a --stream -s --web -e --skip-validation
job validate: --file -f --set
job show: --name -n --web -e
job stream: --name -n
job list: --max-results -r --all-results --parent-job-name -p --include-archived --archived-only
job download: --name -n --output-name --download-path -p --all
job cancel: --name -n --no-wait
job archive: --name -n
job restore: --name -n
job update: --name -n --set --add --remove --force-string --web
model create: --name -n --version -v --path -p --type -t --file -f --set --stage --description
model show: --name -n --version -v --label -l
model list: --name -n --max-results -r --include-archived --archived-only
model update: --name -n --version -v --label -l --set --add --remove
model archive: --name -n --version -v --label -l
model restore: --name -n --version -v --label -l
model download: --name -n --version -v --download-path -p
data create: --name -n --version -v --path -p --type -t --file -f --set --description
data show: --name -n --version -v --label -l
data list: --name -n --max-results -r --include-archived --archived-only
data update: --name -n --version -v --label -l --set --add --remove
data archive: --name -n --version -v --label -l
data restore: --name -n --version -v --label -l
environment create: --name -n --version -v --image -i --conda-file -c --file -f --set --description --os-type
environment show: --name -n --version -v --label -l
environment list: --name -n --max-results -r --include-archived --archived-only
environment update: --name -n --version -v --label -l --set --add --remove
environment archive: --name -n --version -v --label -l
environment restore: --name -n --version -v --label -l
compute create: --name -n --type -t --size -s --tier --min-instances --max-instances --idle-time-before-scale-down \
--file -f --set --no-wait --location -l --description
compute show: --name -n
compute list: --type -t --max-results
compute update: --name -n --file -f --min-instances --max-instances --idle-time-before-scale-down --set --no-wait
compute delete: --name -n --yes -y --no-wait
configure : --defaults -d --list-defaults -l
"""
ABSENT = {
    "job show-services": "a job has no interactive services",
    "job connect-ssh": "a job has none of Azure's nodes; on a cluster: srun --jobid=ID --overlap --pty bash",
    "model package": "there are no images to build",
    "model share": "there are no registries above a workspace; a workspace is shared by its folder",
    "data share": "as model share",
    "environment share": "as model share",
    "data mount": "data lie in folders that are mounted already",
    "data import": "nothing is copied into a workspace",
    "compute start": "computes are partitions; there is nothing to start",
    "compute stop": "as compute start",
    "datastore show": "data lie in folders",
}
ROWS = [row for row in VERBS.strip().splitlines() if row]


def _verbs(noun: str) -> dict[str, Any]:
    return verbs_of(importlib.import_module(f"hpcbatch.cli.{NOUNS[noun][0]}"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.partition(":")[0])
def test_2_verb_has_azures_parameters(row: str) -> None:
    command, _, parameters = row.partition(":")
    noun, _, name = command.partition(" ")
    verb = _verbs(noun)[name.strip()]
    flags = {flag for each in (*verb.options, *GLOBAL_OPTIONS) for flag in each.flags}
    assert set(parameters.split()) - flags == set()
    everywhere = {"--query", "--output", "-o", "--debug", "--verbose", "--only-show-errors", "--workspace-name", "-w",
                  "--resource-group", "-g"}  # fmt: skip
    assert everywhere <= flags


@pytest.mark.parametrize("command", ABSENT)
def test_2_verb_that_is_absent_for_a_reason(command: str) -> None:
    noun, _, name = command.partition(" ")
    assert noun not in NOUNS or name not in _verbs(noun)


@pytest.mark.parametrize(("short", "whole"), ALIASES.items())
def test_2_short_forms(cli: Cli, short: str, whole: str) -> None:
    assert cli(short).out == cli(whole).out


FORMATS = {
    "json": '{\n  "name": "heart-batch"\n}\n', "jsonc": '{\n  "name": "heart-batch"\n}\n', "none": "",
    "yaml": "name: heart-batch\n", "yamlc": "name: heart-batch\n", "tsv": "heart-batch\n",
    "table": "Name\n-----------\nheart-batch\n",
}  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_2_output_formats(az: Cli, form: str) -> None:
    assert az("batch-endpoint", "show", "-n", "heart-batch", "--query", "{name: name}", "-o", form).out == FORMATS[form]


def test_2_jmespath(az: Cli) -> None:
    """Projections, filters, functions, and az's habit of unquoted `[].name`."""
    assert az("model list --query [].name -o tsv").out == "flow\nheart\n"
    assert az("model", "list", "--query", "[?type=='mlflow_model'].name | [0]", "-o", "tsv").out == "flow\n"
    assert az("model", "list", "--query", "length(@)").json == 2
    assert az("batch-endpoint", "show", "-n", "heart-batch", "--query", "{Name:name, Defaults:defaults}").json == {
        "Name": "heart-batch", "Defaults": {"deployment_name": None},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("noun", "verb", "words", "dest"),
    [
        ("batch-endpoint", "create", ["--f", "x"], "file"),
        ("batch-endpoint", "invoke", ["--f", "x"], "file"),
        ("batch-deployment", "create", ["--f", "x", "--endpoint", "x"], "endpoint_name"),
        ("batch-deployment", "create", ["-f", "d.yml", "--end", "x"], "endpoint_name"),
        ("batch-endpoint", "invoke", ["--deployment", "x"], "deployment_name"),
        ("batch-endpoint", "invoke", ["--mini", "5"], "mini_batch_size"),
        ("job", "download", ["--name", "j", "--output-n", "x"], "output_name"),
        ("model", "show", ["--na", "x"], "name"),
    ],
)
def test_2_prefixes(noun: str, verb: str, words: list[str], dest: str) -> None:
    assert getattr(verb_parser(noun, _verbs(noun)[verb]).parse_args(words), dest) in ("x", 5)


def test_2_an_ambiguous_prefix_is_refused(cli: Cli) -> None:
    ran = cli("batch-endpoint invoke --in x")
    assert (ran.exit_code, "ambiguous" in ran.err.lower()) == (2, True)


def test_2_1_create_works_with_only_a_name_and_overwrites(az: Cli) -> None:
    assert az("batch-endpoint create --name MY-Endpoint --set description=one").json["name"] == "my-endpoint"
    assert az("batch-endpoint create --name my-endpoint").json["description"] is None
    assert az("batch-endpoint delete --name my-endpoint --yes --no-wait").out == ""


@pytest.mark.parametrize("text", ["novalue", "=x"])
def test_2_1_set_without_a_value_shows_its_usage(cli: Cli, az: Cli, text: str) -> None:
    ran = cli("batch-endpoint", "create", "--name", "heart-batch", "--set", text)
    assert (ran.exit_code, "usage: --set KEY=VALUE [KEY=VALUE ...]" in ran.err) == (2, True)


DEPLOYMENT = """\
name: first
endpoint_name: heart-batch
type: model
model: azureml:heart@latest
code_configuration: {code: code, scoring_script: batch_driver.py}
environment: azureml:here@latest
compute: azureml:local
description: as it was
tags: {a: b}
settings: {mini_batch_size: 2, retry_settings: {max_retries: 1, timeout: 77}, environment_variables: {K: V}}
"""


@pytest.fixture
def deployed(az: Cli, project: Path) -> Cli:
    (project / "deployment.yml").write_text(DEPLOYMENT)
    az("batch-deployment create --f deployment.yml --endpoint heart-batch --set-default")
    return az


def test_2_1_the_default_moves_and_invoke_says_what_az_says(cli: Cli, deployed: Cli, project: Path) -> None:
    """`--defaults`, `--set`; no default; an unknown deployment; no deployment at all."""
    deployed("batch-deployment create -f deployment.yml --name second")
    deployed("batch-endpoint", "update", "--name", "heart-batch", "--defaults", "deployment_name=second")
    show = "batch-endpoint show -n heart-batch --query defaults.deployment_name -o tsv"
    assert deployed(show).out == "second\n"
    deployed("batch-endpoint update --name heart-batch --set defaults.deployment_name=first")
    assert deployed(show).out == "first\n"
    deployed("batch-deployment delete --name first --endpoint-name heart-batch --yes")
    ran = cli("batch-endpoint invoke -n heart-batch --input data")
    assert ran.exit_code == 2
    assert "Set a default deployment or provide a deployment name through cli command." in ran.err
    ran = cli("batch-endpoint invoke -n heart-batch -d nope --input data")
    assert (ran.exit_code, "Deployment name nope not found for this endpoint" in ran.err) == (3, True)
    deployed("batch-deployment delete --name second --endpoint-name heart-batch --yes")
    ran = cli("batch-endpoint invoke -n heart-batch --input data")
    assert (ran.exit_code, "No deployment exists for this endpoint" in ran.err) == (3, True)


@pytest.mark.parametrize(
    ("change", "path", "expected"),
    [
        ("--set settings.mini_batch_size=9", "settings.mini_batch_size", 9),
        ("--set settings.retry_settings.timeout=300", "settings.retry_settings.timeout", 300),
        ("--set settings.environment_variables.X=1", "settings.environment_variables.X", "1"),
        ("--set resources.instance_count=4", "resources.instance_count", 4),
        ("--set code_configuration.scoring_script=other.py", "code_configuration.scoring_script", "other.py"),
        ("--set model=azureml:heart:1", "model", "azureml:heart:1"),
        ("--set compute=batch-cluster", "compute", "azureml:batch-cluster"),
        ("--set description=new", "description", "new"),
        ("--add tags team=cardio", "tags.team", "cardio"),
        ("--remove tags.a", "tags.a", None),
        ("--remove settings.retry_settings.timeout", "settings.retry_settings.timeout", 30),
        ("--file change.yml", "settings.error_threshold", 3),
    ],
)
def test_2_2_update_changes_one_thing_and_drops_nothing(
    deployed: Cli, project: Path, change: str, path: str, expected: Any
) -> None:
    """Complaint: `update` silently dropped the settings of a deployment."""
    (project / "change.yml").write_text("settings: {error_threshold: 3}\n")
    (project / "code" / "other.py").write_text("def run(m):\n    return m\n")
    before = _flat(deployed("batch-deployment show -n first -e heart-batch").json)
    deployed(f"batch-deployment update -n first -e heart-batch {change}")
    after = _flat(deployed("batch-deployment show -n first -e heart-batch").json)
    assert after.get(path) == expected
    differs = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    known = {path, "revision", "code_configuration.code"}
    known |= {f"creation_context.last_modified_{word}" for word in ("at", "by")}
    assert {key for key in differs - known if not key.startswith("interpreter")} == set()


def _flat(document: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(document, dict):
        return {prefix.removesuffix("."): document}
    return {key: value for name, below in document.items() for key, value in _flat(below, f"{prefix}{name}.").items()}


def test_2_3_jobs(cli: Cli, deployed: Cli, project: Path) -> None:
    """`--query name -o tsv`, the words of the status, list, stream, download, archive; what a script compares."""
    job = deployed("batch-endpoint invoke --name heart-batch --input data --query name -o tsv").out.strip()
    assert deployed(f"job stream -n {job}").out.startswith(f"RunId: {job}\nWeb View: ")
    assert deployed(f"job show -n {job} --web --query status -o tsv").out == "Completed\n"
    assert {"id", "name", "type", "status"} <= deployed(f"job show -n {job}").json.keys()
    lists = "job list --max-results 1", "batch-endpoint list-jobs --name heart-batch"
    for line in (*lists, "batch-deployment list-jobs --name first --endpoint-name heart-batch"):
        assert deployed(f"{line} --query [].name -o tsv").out == f"{job}\n"
    deployed(f"job download --name {job} --output-name score --download-path ./out")
    assert (project / "out/named-outputs/score/predictions.csv").read_text() == "a.csv\nb.csv\nc.csv\n"
    ran = cli(f"job download --name {job} --output-name nope")
    assert (ran.exit_code, "score" in ran.err) == (3, True)
    assert deployed(f"job cancel -n {job} --no-wait").json["status"] == "Completed"


def test_2_3_a_failed_job_makes_stream_fail(cli: Cli, deployed: Cli, project: Path) -> None:
    """Complaint: only `SystemExit: 42` was seen; here the error of the script is on the terminal, and the code is 5."""
    (project / "code" / "batch_driver.py").write_text("def run(mini_batch):\n    raise KeyError('the column')\n")
    deployed("batch-deployment update -n first -e heart-batch --set code_configuration.code=code")
    job = deployed("batch-endpoint invoke --name heart-batch --input data --query name -o tsv").out.strip()
    ran = cli(f"job stream -n {job}")
    assert ran.exit_code == 5
    assert "KeyError: 'the column'" in ran.out
    assert "Failed" in ran.err
    assert deployed(f"job show -n {job} --query status -o tsv").out == "Failed\n"


def test_2_3_a_running_job_cannot_be_downloaded(cli: Cli, deployed: Cli, project: Path) -> None:
    """The error names the states in which it can."""
    (project / "code" / "batch_driver.py").write_text(
        "import time\n\n\ndef run(m):\n    time.sleep(60)\n    return m\n"
    )
    deployed("batch-deployment update -n first -e heart-batch --set code_configuration.code=code")
    job = deployed("batch-endpoint invoke --name heart-batch --input data --query name -o tsv").out.strip()
    ran = cli(f"job download --name {job}")
    assert (ran.exit_code, "Completed, Failed, Canceled" in ran.err) == (2, True)
    assert deployed(f"job cancel -n {job} --query status -o tsv").out.strip() in ("CancelRequested", "Canceled")


def test_2_3_validate_starts_nothing(cli: Cli, az: Cli, project: Path) -> None:
    """A job that could be created; one that names an input that its command does not have."""
    job = "type: command\ncommand: echo ${{inputs.word}}\ninputs: {word: hello}\n"
    (project / "job.yml").write_text(job + "environment: azureml:here@latest\ncompute: azureml:local\n")
    assert az("job validate -f job.yml").json["result"] == "Succeeded"
    assert cli("job validate -f job.yml --set nonsense=1").exit_code == 2
    assert az("job list").json == []


def test_2_4_what_the_example_scripts_call(az: Cli, project: Path) -> None:
    for line in (
        "model create --name m --path model --type custom_model --version 3",
        "model show --name m --label latest",
        "data create --name d --type uri_folder --path data",
        "compute create -n gpu --type amlcompute --size STANDARD_NV6 --min-instances 0 --max-instances 2",
        "compute create -n lp --type amlcompute --tier low_priority --max-instances 2",
        "compute delete -n gpu --yes",
        "configure --defaults group=g workspace=w location=l",
        "-g group -w ./other batch-endpoint list",
    ):
        az(line)
