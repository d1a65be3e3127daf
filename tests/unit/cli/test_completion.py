"""Completion: what may stand next, fast and silent."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.main import ALIASES, NOUNS

Cli = Callable[..., Any]


@pytest.fixture
def team(cli: Cli, tmp_path: Path) -> Cli:
    """A workspace with two endpoints, a deployment, a model in two versions, a compute and a job's folder."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text("def run(m):\n    return m\n")
    (tmp_path / "deployment.yml").write_text(
        "name: first\nendpoint_name: heart\ntype: model\ncompute: local\n"
        "code_configuration: {code: code, scoring_script: score.py}\n"
    )
    (tmp_path / "m").write_text("1")
    for line in (
        "endpoint create -n heart",
        "endpoint create -n lungs",
        f"deployment create -f {tmp_path}/deployment.yml",
        f"model create --name net --path {tmp_path}/m",
        f"model create --name net --path {tmp_path}/deployment.yml",
        "compute create -n short --type slurm",
    ):
        assert cli(line).exit_code == 0
    (tmp_path / "ws" / "jobs" / "ann" / "b20261123-1").mkdir(parents=True)
    return cli


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("endp", "endpoint"),
        ("endpoint sho", "show"),
        ("batch-deployment list-", "list-jobs"),
        ("endpoint show -n ", "heart lungs"),
        ("endpoint show --na h", "heart"),
        ("endpoint invoke -n heart -d ", "first"),
        ("deployment show --endpoint-name heart -n ", "first"),
        ("deployment show -n ", "first"),
        ("deployment show -n first -e l", "lungs"),
        ("model show -n ", "net"),
        ("model show -n net --version ", "2 1"),
        ("compute show -n ", "local short"),
        ("job show -n ", "b20261123-1"),
        ("job list -o js", "json jsonc"),
        ("-o tsv endpoint show -n lu", "lungs"),
        ("job resume --w", "--wait --workspace-name"),
        ("configure --def", "--defaults"),
        ("endpoint create -f ", ""),
        ("nonsense ", ""),
        ("endpoint nonsense ", ""),
        ("model show --version ", ""),
    ],
)
def test_what_may_stand_next(team: Cli, line: str, expected: str) -> None:
    words = shlex.split(line) + ([""] if line.endswith(" ") else [])
    ran = team("completion", "words", "--", *words)
    assert (ran.exit_code, ran.out.split(), ran.err) == (0, expected.split(), "")


def test_nothing_typed_yet_offers_every_noun(cli: Cli) -> None:
    assert cli("completion", "words", "--", "").out.split() == [*NOUNS, *ALIASES]


def test_an_option_is_offered_once_and_a_file_is_left_to_the_shell(team: Cli) -> None:
    offered = team("completion", "words", "--", "endpoint", "invoke", "-n", "heart", "--input", "x", "--").out.split()
    assert "--wait" in offered
    assert "--input" not in offered


def test_a_workspace_on_the_line_is_the_one_that_is_asked(team: Cli, tmp_path: Path) -> None:
    assert team("endpoint", "create", "-n", "other", "-w", str(tmp_path / "ws2")).exit_code == 0
    words = ("endpoint", "show", "--workspace-name", str(tmp_path / "ws2"), "-n", "")
    assert team("completion", "words", "--", *words).out.split() == ["other"]


def test_a_workspace_that_is_a_file_completes_nothing_and_says_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ran = cli("completion", "words", "--", "endpoint", "show", "-w", str(tmp_path / "file"), "-n", "")
    assert (ran.exit_code, ran.out, ran.err) == (0, "", "")


def test_bash_completes(team: Cli, tmp_path: Path) -> None:
    """The script that `completion bash` prints, in a real bash."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hpcbatch").write_text(f'#!/bin/sh\nexec {sys.executable} -m hpcbatch "$@"\n')
    (tmp_path / "bin" / "hpcbatch").chmod(0o755)
    typed = 'COMP_WORDS=(hpcbatch endpoint show -n h); COMP_CWORD=4; _hpcbatch; echo "${COMPREPLY[@]}"'
    script = f"PATH={tmp_path}/bin:$PATH\n{team('completion bash').out}\n{typed}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("heart\n", "")


def test_zsh_gets_a_script_that_defines_its_completion(cli: Cli) -> None:
    assert "compdef _hpcbatch hpcbatch" in cli("completion zsh").out
