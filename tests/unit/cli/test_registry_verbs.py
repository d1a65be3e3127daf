"""The verbs that register things, on a real workspace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.environments.wheels import wheel

Cli = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's folder: endpoint.yml, deployment.yml, a script and a model; the current folder."""
    folder = tmp_path / "project"
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "score.py").write_text(
        "def init():\n    pass\n\n\ndef run(mini_batch):\n    return mini_batch\n"
    )
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "endpoint.yml").write_text("name: heart\ndescription: A classifier\ntags: {team: cardio}\n")
    (folder / "deployment.yml").write_text(
        "name: first\nendpoint_name: elsewhere\ntype: model\nmodel: azureml:heart@latest\n"
        "code_configuration: {code: code, scoring_script: score.py}\nenvironment: azureml:anything:1\ncompute: local\n"
        "settings: {mini_batch_size: 2}\n"
    )
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def deployed(cli: Cli, files: Path) -> Cli:
    """An endpoint with a default deployment."""
    for line in (
        "batch-endpoint create --f endpoint.yml",
        "model create --name heart --path model.bin --type custom_model",
        "batch-deployment create --f deployment.yml --endpoint heart --set-default",
    ):
        ran = cli(line)
        assert ran.exit_code == 0, ran.err
    return cli


def test_an_endpoint_with_only_a_name(cli: Cli) -> None:
    """As in az; the name is lowered."""
    assert cli("batch-endpoint", "create", "-n", "Heart").json["name"] == "heart"
    assert cli("endpoint", "show", "-n", "heart", "--query", "name", "-o", "tsv").out == "heart\n"


def test_a_walk_over_endpoint_and_deployment(deployed: Cli) -> None:
    """Create, show, list, update and delete in the words of az."""
    cli = deployed
    assert cli("endpoint show -n heart --query defaults.deployment_name -o tsv").out == "first\n"
    assert cli("deployment show -n first -e heart --query settings.mini_batch_size").json == 2
    assert cli("deployment update -n first -e heart --set settings.mini_batch_size=9 --add tags a=b").exit_code == 0
    shown = cli("deployment show -n first -e heart").json
    assert (shown["settings"]["mini_batch_size"], shown["tags"]) == (9, {"a": "b"})
    table = cli("deployment list -e heart -o table").out.splitlines()
    assert table[2].split() == ["first", "heart:1", "local"]
    changed = cli("endpoint update -n heart --set tags.a=1 --add tags b=2 --remove tags.team")
    assert changed.json["tags"] == {"a": "1", "b": "2"}
    assert cli("deployment delete -n first -e heart -y").out == ""
    assert cli("endpoint delete -n heart --yes").exit_code == 0
    assert cli("endpoint", "list").json == []


def test_the_default_can_be_moved(deployed: Cli) -> None:
    """With --defaults or with --set; never to what is not there."""
    deployed("deployment create -f deployment.yml -e heart -n second")
    for words in (("--defaults", "deployment_name=second"), ("--set", "defaults.deployment_name=first")):
        ran = deployed("endpoint", "update", "-n", "heart", *words)
        assert ran.json["defaults"]["deployment_name"] == words[1].partition("=")[2]
    ran = deployed("endpoint", "update", "-n", "heart", "--defaults", "deployment_name=third")
    assert ran.exit_code == 3
    assert "first, second" in ran.err


def test_models_data_environments(cli: Cli, files: Path) -> None:
    """Versions count up; @latest is the last one."""
    import sys

    assert cli("model create --name m --path model.bin --query version -o tsv").out == "1\n"
    assert cli("model show --name m --label latest --query [name,version,type] -o tsv").out == "m\n1\ncustom_model\n"
    assert cli("model list --query [].name -o tsv").out == "m\n"
    assert cli("data create --name d --path code --type uri_folder").json["path"] == str(files / "code")
    assert cli("data list -o table").out.splitlines()[2].split()[:3] == ["d", "1", "uri_folder"]
    made = cli("environment", "create", "-n", "e", "--python", sys.executable, "--image", "img")
    assert (made.json["python"], made.json["image"]) == (sys.executable, "img")
    assert cli("environment", "show", "-n", "e").json["version"] == "1"


def test_environment_maps(cli: Cli) -> None:
    """Two sides, or none to list them."""
    import sys

    assert cli("environment", "map", "*sklearn*", "--python", sys.executable).exit_code == 0
    assert cli("environment", "map").json == [{"glob": "*sklearn*", "python": sys.executable}]
    assert cli("environment", "map", "x").exit_code == 2
    assert cli("environment", "map", "--python", sys.executable).exit_code == 2


def test_computes(cli: Cli, files: Path) -> None:
    """Azure's flags and ours; `local` is always there."""
    made = cli("compute create -n cpu --type amlcompute --min-instances 0 --max-instances 5 --tier low_priority")
    assert (made.json["max_instances"], made.json["tier"]) == (5, "low_priority")
    cli("compute create -n short --type slurm --set partition=short mem=4G")
    assert cli("compute list --query [].name -o tsv").out == "cpu\nlocal\nshort\n"
    assert cli("compute delete -n short -y").exit_code == 0
    assert cli("compute show -n short").exit_code == 3


def test_configure(cli: Cli, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workspace of the configuration is used where nothing else names one."""
    monkeypatch.delenv("HPCBATCH_WORKSPACE")
    other = tmp_path / "other"
    assert cli("configure", "--defaults", f"workspace={other}", "group=g").json == {
        "workspace": str(other),
        "group": "g",
    }
    cli("endpoint", "create", "-n", "heart")
    assert (other / "registry").is_dir()
    assert cli("configure", "--defaults", "group=").json == {"workspace": str(other)}
    assert cli("configure", "--list-defaults").json == {"workspace": str(other)}


@pytest.mark.parametrize(
    ("line", "exit_code", "words"),
    [
        ("endpoint show -n nope", 3, "heart"),
        ("deployment show -n nope -e heart", 3, "first"),
        ("endpoint create -f nope.yml", 2, "nope.yml"),
        ("deployment update -n first -e heart --set settings.mini_batch_szie=1", 2, "mini_batch_size"),
        ("model show -n nope", 3, "model create"),
    ],
)
def test_errors_say_what_there_is(deployed: Cli, line: str, exit_code: int, words: str) -> None:
    """The error's own exit code; message and hint on stderr; stdout stays empty."""
    ran = deployed(line)
    assert (ran.exit_code, ran.out) == (exit_code, "")
    assert ran.err.startswith("ERROR: ")
    assert words in ran.err


def test_what_lower_rooms_log_is_told(cli: Cli, workspace: Path) -> None:
    """A damaged revision is passed over with a warning, which --only-show-errors silences."""
    cli("endpoint create -n heart")
    cli("endpoint update -n heart --set description=new")
    newest = max((workspace / "registry").rglob("endpoints/heart/r*.json"))
    newest.chmod(0o600)
    newest.write_bytes(b"{}")
    ran = cli("endpoint show -n heart")
    assert ran.json["description"] is None
    assert ran.err.startswith("WARNING: ")
    assert cli("endpoint show -n heart --only-show-errors").err == ""
    assert cli("endpoint show -n heart --verbose").exit_code == 0


@pytest.mark.slow
def test_an_environment_is_built_before_anybody_invokes(deployed: Cli, files: Path) -> None:
    """From a conda file that names a wheel; the second time it is there, and a deployment that is not is named."""
    wheel(files / "wheels")
    line = "- pip: [--no-index, ./wheels/tiny-1.0-py3-none-any.whl]"
    (files / "conda.yml").write_text(f"name: tiny\ndependencies:\n{line}\n")
    cli = deployed
    assert cli("environment create -n tiny --conda-file conda.yml").exit_code == 0
    assert cli("deployment update -n first -e heart --set environment=azureml:tiny:1").exit_code == 0
    ran = cli("environment build -e heart")
    assert ran.exit_code == 0, ran.err
    assert "Building the Python environment of" in ran.err
    assert Path(ran.json["python"]).is_file()
    again = cli("environment build --endpoint-name heart --deployment-name first --query python")
    assert (again.json, again.err) == (ran.json["python"], "")
    ran = cli("environment build -e heart -d other")
    assert (ran.exit_code, "heart has: first" in ran.err) == (3, True)
