"""What models, data and environments have in common, computes, and the notes of jobs."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model folder and a file."""
    folder = tmp_path / "project"
    (folder / "model" / "deep").mkdir(parents=True)
    (folder / "model" / "deep" / "weights").write_text("1")
    (folder / "file.csv").write_text("1\n")
    monkeypatch.chdir(folder)
    return folder


KINDS = {
    "model": ("--path model", "--path file.csv"),
    "data": ("--path model", "--path file.csv --type uri_file"),
    "environment": (f"--python {sys.executable}", f"--python {sys.executable} --image x"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, cli: Cli, files: Path) -> str:
    """A kind of asset of which `one` is registered in two versions."""
    for flags in KINDS[request.param]:
        assert cli(f"{request.param} create --name one {flags}").exit_code == 0
    return str(request.param)


def test_what_is_archived_is_out_of_lists_and_still_found(cli: Cli, kind: str) -> None:
    """One version, then all; `--include-archived` and `--archived-only` show them."""
    versions = f"{kind} list --name one --query [].version -o tsv"
    assert cli(f"{kind} archive --name one --version 2").out == ""
    assert cli(versions).out == "1\n"
    assert cli(f"{versions} --archived-only").out == "2\n"
    assert cli(f"{versions} --include-archived").out == "2\n1\n"
    assert cli(f"{kind} list --query [].version -o tsv").out == "1\n"
    assert cli(f"{kind} show --name one --query archived").json is True
    cli(f"{kind} archive --name one")
    assert cli(f"{kind} list").json == []
    assert cli(f"{kind} list --archived-only --query [].version -o tsv").out == "2\n"
    cli(f"{kind} restore --name one --version 1")
    assert cli(versions).out == "1\n"
    cli(f"{kind} restore -n one")
    assert cli(versions).out == "2\n1\n"
    assert "archived" not in cli(f"{kind} show --name one").json


def test_texts_may_change_and_the_latest_version_stays_the_latest(cli: Cli, kind: str) -> None:
    """`update` of version 1 leaves its content and its date; @latest is version 2 as before."""
    before = cli(f"{kind} show --name one --version 1").json
    words = ("--set", "description=old one", "tags.a=1", "--add", "tags", "b=2")
    after = cli(kind, "update", "--name", "one", "--version", "1", *words).json
    assert (after["description"], after["tags"]) == ("old one", {"a": "1", "b": "2"})
    assert after["creation_context"]["created_at"] == before["creation_context"]["created_at"]
    changed = ("description", "tags", "creation_context")
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}
    assert cli(f"{kind} show --name one --label latest").json["version"] == "2"
    assert cli(f"{kind} update --name one --version 1 --remove tags.a").json["tags"] == {"b": "2"}


@pytest.mark.parametrize(
    ("line", "exit_code", "words"),
    [
        ("update --name one", 2, "Nothing to change"),
        ("update --name one --set path=elsewhere", 2, "path"),
        ("update --name one --set version=3", 2, "version"),
        ("update --name one --remove tags.z", 2, "no such field"),
        ("update --name one --version 9 --set description=x", 3, "It has: 2, 1"),
        ("archive --name nope", 3, "not registered"),
        ("archive --name one --version 9", 3, "It has: 2, 1"),
    ],
)
def test_what_cannot_be_changed_is_told(cli: Cli, kind: str, line: str, exit_code: int, words: str) -> None:
    ran = cli(f"{kind} {line}")
    assert (ran.exit_code, ran.out) == (exit_code, "")
    assert words in ran.err


def test_the_same_content_again_is_the_version_that_is_there(cli: Cli, files: Path) -> None:
    """Also when its texts were not changed, and whatever happened to other versions."""
    assert cli("model create --name m --path model --query version -o tsv").out == "1\n"
    assert cli("model create --name m --path model --query version -o tsv").out == "1\n"
    cli("model archive --name m")
    assert cli("model create --name m --path model --query version -o tsv").out == "1\n"


def test_a_list_is_limited_as_asked(cli: Cli, kind: str) -> None:
    for name in ("two", "three"):
        cli(f"{kind} create --name {name} {KINDS[kind][0]}")
    assert cli(f"{kind} list --query [].name -o tsv --max-results 2").out == "one\nthree\n"
    assert len(cli(f"{kind} list --max-results 1 --all-results").json) == 3


def test_a_model_is_downloaded_as_az_lays_it_out(cli: Cli, files: Path) -> None:
    """`DIR/NAME/<what was registered>`; a folder with its own name, a file as a file."""
    cli("model create --name tree --path model")
    cli("model create --name one --path file.csv")
    assert cli("model download --name tree --version 1 --download-path copies").exit_code == 0
    assert (files / "copies" / "tree" / "model" / "deep" / "weights").read_text() == "1"
    assert cli("model download --name one").json["files"] == [str(files / "one" / "file.csv")]
    assert cli("model download --name one").exit_code == 0


def test_a_compute_keeps_what_is_not_named(cli: Cli, files: Path) -> None:
    cli("compute create -n short --type slurm --max-instances 8 --set partition=short time=60")
    cli("compute", "update", "-n", "short", "--add", "setup", "module load a", "module load b")
    shown = cli("compute update -n short --max-instances 4 --set mem=4G --remove setup 0").json
    assert (shown["partition"], shown["time"], shown["mem"], shown["max_instances"]) == ("short", 60, "4G", 4)
    assert shown["setup"] == ["module load b"]
    assert cli("compute update -n local --max-instances 2").json["type"] == "local"
    assert cli("compute update -n short").exit_code == 2
    assert cli("compute update -n nope --max-instances 2").exit_code == 3
    assert cli("compute update -n short --set partition='a b'").exit_code == 2
    assert cli("compute list --type slurm --query [].name -o tsv").out == "short\n"


def test_an_endpoint_update_from_a_file_adds_tags_and_keeps_the_others(cli: Cli, files: Path) -> None:
    """As in Azure ML, where update does not lose what the file does not say."""
    cli("endpoint create -n heart --set tags.a=1 tags.b=2 description=text")
    (files / "endpoint.yml").write_text("name: heart\ntags: {b: 9, c: 3}\n")
    shown = cli("endpoint update -n heart -f endpoint.yml").json
    assert (shown["tags"], shown["description"]) == ({"a": "1", "b": "9", "c": "3"}, "text")
