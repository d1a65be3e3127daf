"""From words to exit codes: help, errors, closed pipes; no workspace needed."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbatch import __version__
from hpcbatch.cli import main as entry
from hpcbatch.cli.grammar import Verb, verb_parser, verbs_of
from hpcbatch.cli.main import ALIASES, NOUNS, main

ALL_VERBS = [
    pytest.param(noun, verb, id=f"{noun} {verb.name}".strip())
    for noun, (module, _) in NOUNS.items()
    for verb in verbs_of(importlib.import_module(f"hpcbatch.cli.{module}")).values()
]
Cli = Callable[..., Any]


def test_help_names_every_noun_and_every_exit_code(cli: Cli) -> None:
    """The first page says what there is and what the exit codes mean."""
    ran = cli("--help")
    assert ran.exit_code == 0
    assert all(noun in ran.out for noun in [*NOUNS, *ALIASES])
    assert all(re.search(rf"^ *{code}  ", ran.out, re.MULTILINE) for code in (*range(9), 130))
    assert ran == cli("-h") == cli()


def test_help_fits_a_terminal(cli: Cli) -> None:
    """Nothing on the first page is wider than 80 columns."""
    assert max(map(len, cli("--help").out.splitlines())) <= 80


def test_version(cli: Cli) -> None:
    """`hpcbatch --version` is one line."""
    assert cli("--version").out == f"hpcbatch {__version__}\n"


@pytest.mark.parametrize(("noun", "verb"), ALL_VERBS)
def test_every_verb_has_help_with_an_example_that_parses(cli: Cli, noun: str, verb: Verb) -> None:
    """The help of a verb shows its options and an example, and the example is one."""
    ran = cli(noun, *[word for word in [verb.name] if word], "--help")
    assert ran.exit_code == 0
    assert "Example:" in ran.out
    assert verb.summary in ran.out
    for line in verb.example.splitlines():
        words = shlex.split(line)
        assert words[0] == "hpcbatch"
        assert words[1] == noun
        verb_parser(noun, verb).parse_args(words[3:] if verb.name else words[2:])


@pytest.mark.parametrize("noun", [noun for noun in NOUNS if noun != "configure"])
def test_every_noun_lists_its_verbs(cli: Cli, noun: str) -> None:
    """`hpcbatch NOUN` and `hpcbatch NOUN --help` answer with its verbs."""
    ran = cli(noun, "--help")
    assert ran == cli(noun)
    assert ran.exit_code == 0
    assert all(re.search(rf"^  {name} ", ran.out, re.MULTILINE) for name in verbs_of(_module(noun)))


def _module(noun: str) -> Any:
    return importlib.import_module(f"hpcbatch.cli.{NOUNS[noun][0]}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("jobs",), "Did you mean 'job'?"),
        (("job", "shwo"), "Did you mean 'show'?"),
        (("job", "show"), "--name"),
        (("job", "show", "-n", "x", "--nonsense"), "--nonsense"),
        (("job", "list", "-o", "xml"), "json"),
        (("job", "list", "-r", "many"), "many"),
        (("endpoint", "invoke", "-n", "x", "--input-type", "mltable"), "uri_folder"),
        (("job", "list", "--query", "[?"), "JMESPath"),
        (("endpoint", "create", "--set"), "--set"),
    ],
)
def test_a_wrong_command_line_is_exit_2_and_says_how(cli: Cli, words: tuple[str, ...], expected: str) -> None:
    """What is wrong, what is right, and nothing on stdout."""
    ran = cli(*words)
    assert ran.exit_code == 2
    assert ran.out == ""
    assert ran.err.startswith("ERROR: ")
    assert expected in ran.err


def test_prefixes_and_azs_habits_parse() -> None:
    """`--f`, `--endpoint`, several sets at once and again, global options behind the verb."""
    parser = verb_parser("batch-deployment", verbs_of(_module("batch-deployment"))["create"])
    line = "--f d.yml --endpoint heart --set a.b=1 c=x=y --set-default --set d= -g group -w ws --query name --out tsv"
    args = parser.parse_args(shlex.split(line))
    assert (args.file, args.endpoint_name, args.sets) == ("d.yml", "heart", ["a.b=1", "c=x=y", "d="])
    assert (args.set_default, args.workspace_name, args.query, args.output) == (True, "ws", "name", "tsv")


def test_endpoint_names_are_lowered_on_create() -> None:
    """As az does for --name."""
    parser = verb_parser("batch-endpoint", verbs_of(_module("batch-endpoint"))["create"])
    assert parser.parse_args(["-n", "Heart"]).name == "heart"


def test_global_options_may_lead(cli: Cli) -> None:
    """`hpcbatch -o tsv --debug NOUN VERB` is the same as behind the verb."""
    assert entry.split_leading(["-o", "tsv", "--debug", "--query=x", "job", "list"]) == (
        ["-o", "tsv", "--debug", "--query=x"],
        ["job", "list"],
    )
    assert cli("-o", "tsv", "environment", "map").exit_code == 0


def test_a_bug_is_exit_1_with_one_sentence(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback is shown only with --debug, and the sentence says so."""

    def broken(noun: str, words: list[str], leading: list[str]) -> int:
        raise ValueError("no such thing")

    monkeypatch.setattr(entry, "_run_noun", broken)
    ran = cli("configure")
    assert ran.exit_code == 1
    assert ran.err.startswith("ERROR: Unexpected ValueError")
    assert "--debug" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in cli("configure", "--debug").err


def test_confirmation_needs_a_terminal_or_yes(cli: Cli) -> None:
    """Without a terminal nothing is deleted unless --yes says so."""
    ran = cli("compute", "delete", "-n", "x")
    assert ran.exit_code == 2
    assert "--yes" in ran.err


def test_ctrl_c_is_130(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted is not a traceback."""

    def interrupted(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(entry, "_dispatch", interrupted)
    assert main(["job", "list"]) == 130


def test_a_reader_that_leaves_is_no_error(workspace: Path) -> None:
    """`hpcbatch … | head -0`: no traceback, nothing on stderr, the exit code of SIGPIPE."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "hpcbatch", "batch-endpoint", "invoke", "--help"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.stderr == b""
    assert done.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stdout_is_told(workspace: Path) -> None:
    """An answer that could not be written is no success."""
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "hpcbatch", "--help"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 7
    assert done.stderr.decode().startswith("ERROR: Cannot write the answer")


def test_help_imports_next_to_nothing() -> None:
    """Neither YAML nor pydantic nor rich, not even argparse, for the first page; no operations for any help."""
    code = (
        "import sys; from hpcbatch.cli.main import main; main(sys.argv[1:]);"
        "print(sorted({name.split('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    heavy = {"yaml", "pydantic", "rich", "submitit", "jmespath", "fsspec"}
    for words in (["--help"], ["batch-endpoint", "invoke", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert not heavy & set(re.findall(r"'(\w+)'", done.stderr))


def test_help_is_quick() -> None:
    """Under 0.2 s beside what the interpreter itself takes, in the best of five."""
    took = []
    for _ in range(5):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "hpcbatch", "--help"], capture_output=True, check=True)
        took.append(time.perf_counter() - begin)
    assert min(took) < 0.2


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        ("job connect-ssh -n j", "srun --jobid=ID --overlap --pty bash"),
        ("compute start --name c", "hpcbatch compute show --name NAME"),
        ("datastore show -n workspaceblobstore", "hpcbatch data create --name NAME --path FOLDER"),
        ("datastore", "hpcbatch data create --name NAME --path FOLDER"),
    ],
)
def test_a_verb_that_only_azure_has_says_what_to_do_instead(cli: Cli, words: str, instead: str) -> None:
    ran = cli(words)
    assert (ran.exit_code, ran.out) == (2, "")
    assert instead in ran.err
    assert "Unknown" not in ran.err
