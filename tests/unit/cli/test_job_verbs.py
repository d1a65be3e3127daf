"""invoke and the verbs of jobs, on the compute `local`, with real processes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]

SCRIPT = """
import os, time


def init():
    pass


def run(mini_batch):
    print("scoring", len(mini_batch), "\\x1b[31mred\\x1b[0m")
    if any("bad" in path for path in mini_batch):
        raise ValueError("bad file")
    while os.path.exists(os.environ["HOLD"]):
        time.sleep(0.05)
    return [os.path.basename(path) for path in mini_batch]
"""


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """As long as this file exists, mini-batches do not end."""
    return tmp_path / "hold"


@pytest.fixture
def heart(cli: Cli, tmp_path: Path, hold: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """A command line with an endpoint `heart`, and folders `good` and `bad` to score."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "score.py").write_text(SCRIPT)
    for folder, names in {"good": "abc", "bad": ["a", "bad"]}.items():
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(name)
    (tmp_path / "deployment.yml").write_text(
        "name: first\nendpoint_name: heart\ntype: model\ncompute: local\nenvironment: azureml:here:1\n"
        "code_configuration: {code: code, scoring_script: score.py}\n"
        "settings: {mini_batch_size: 1, error_threshold: 0, retry_settings: {max_retries: 0},"
        f" environment_variables: {{HOLD: '{hold}'}}}}\n"
    )
    monkeypatch.chdir(tmp_path)
    for line in (
        "endpoint create -n heart",
        f"environment map * --python {sys.executable}",
        "deployment create -f deployment.yml --set-default",
    ):
        ran = cli(line)
        assert ran.exit_code == 0, ran.err
    return cli


def test_from_invoke_to_download(heart: Cli, tmp_path: Path) -> None:
    """Wait for a job, then look at it, follow its log, list it and fetch its output."""
    ran = heart("endpoint invoke -n heart --input good --job-name j1 --wait --query status -o tsv")
    assert (ran.exit_code, ran.out) == (0, "Completed\n")
    assert "Completed: 3 of 3 items, 0 failed" in ran.err
    assert heart("job show -n j1 --query progress.items_succeeded").json == 3
    assert heart("job list --query [].name -o tsv").out == "j1\n"
    ran = heart("job logs -n j1 --mini-batch 3")
    assert ran.exit_code == 3
    assert "has no mini-batch 3; they are numbered from 0 to 2" in ran.err
    for flag in ("input", "output-path", "deployment-name", "job-name"):
        ran = heart(
            "endpoint", "invoke", "-n", "heart", *(() if flag == "input" else ("--input", "good")), f"--{flag}", ""
        )
        assert ran.exit_code == 2
        assert f"--{flag} is empty." in ran.err
    ran = heart("job list --max-results 0")
    assert ran.exit_code == 2
    assert "max_results is 0; it must be a whole number of at least 1" in ran.err
    assert heart("endpoint list-jobs -n heart --query [].name -o tsv").out == "j1\n"
    assert heart("deployment list-jobs -n first -e heart --query [].status -o tsv").out == "Completed\n"
    streamed = heart("job stream -n j1")
    assert streamed.exit_code == 0
    assert re.search(
        r"^RunId: j1\nWeb View: .*scoring 1 red.*^Status: Completed$", streamed.out, re.DOTALL | re.MULTILINE
    )
    assert "\x1b" not in streamed.out
    assert heart("job download -n j1 --output-name score --download-path there").exit_code == 0
    assert (tmp_path / "there/named-outputs/score/predictions.csv").read_text() == "a\nb\nc\n"


def test_overrides_reach_the_job(heart: Cli, tmp_path: Path) -> None:
    """Flags and sets change this job only."""
    ran = heart(
        "endpoint invoke -n heart --input good -m 2 --output-path out --set output_file_name=x.csv --wait -o none"
    )
    assert (ran.exit_code, ran.out) == (0, "")
    assert (tmp_path / "out" / "x.csv").read_text() == "a\nb\nc\n"
    assert heart("job list --query [0].mini_batches").json == 2


def test_a_failed_job_is_exit_5(heart: Cli) -> None:
    """With --wait, with stream; the failure and what the script said are shown."""
    ran = heart("endpoint invoke -n heart --input bad --job-name j1 --wait")
    assert ran.exit_code == 5
    assert ran.json["status"] == "Failed"
    streamed = heart("job stream -n j1")
    assert streamed.exit_code == 5
    assert "ValueError: bad file" in streamed.out
    assert streamed.err.startswith("ERROR: ")


def test_a_job_that_would_fail_again_says_what_there_is_and_is_not_resumed(heart: Cli, tmp_path: Path) -> None:
    """What failed stays failed, so the rest would be computed in vain; the way on is said."""
    (tmp_path / "some").mkdir()
    for name in ("a", "bad", "c"):  # one result, one failure, and none
        (tmp_path / "some" / name).touch()
    assert heart("endpoint invoke -n heart --input some --job-name j1 --wait -o none").exit_code == 5
    fetched, before = heart("job download -n j1").json, heart("job show -n j1").json
    assert fetched["files"] == []  # and that is said, and where to look
    assert "only a Completed job" in fetched["unpublished"]
    assert f"{before['job_directory']}/g" in fetched["unpublished"]
    assert before["unpublished"] == fetched["unpublished"]
    refused = heart("job resume -n j1")
    assert refused.exit_code == 6
    assert "what failed stays failed. The number of failed items is 1, which exceeds error threshold 0." in refused.err
    assert f"invoke --name heart --deployment-name first --input {tmp_path}/some" in refused.err
    assert heart("job show -n j1").json == before


def test_ctrl_c_leaves_the_job_running(heart: Cli, hold: Path, workspace: Path) -> None:
    """Waiting can be stopped without harm: the job goes on, and the last words say how to see it."""
    hold.touch()
    command = "-m hpcbatch endpoint invoke -n heart --input good --job-name j1 --wait"
    waiting = subprocess.Popen(
        [sys.executable, *shlex.split(command)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
    )  # fmt: skip
    assert waiting.stderr is not None
    assert any("items" in line for line in waiting.stderr)
    waiting.send_signal(signal.SIGINT)
    out, err = waiting.communicate(timeout=600)
    assert (waiting.returncode, out) == (130, "")
    assert "hpcbatch job show -n j1" in err
    assert heart("job download -n j1").exit_code == 2
    hold.unlink()
    assert heart("job stream -n j1").exit_code == 0


def test_the_log_of_one_mini_batch(heart: Cli) -> None:
    """What it printed, and how it failed: nothing of its neighbours, though they share a file."""
    heart("endpoint invoke -n heart --input bad --job-name j1 --set error_threshold=-1 --wait -o none")
    whole = heart("job logs -n j1").out
    first, second = (heart(f"job logs -n j1 --mini-batch {number}").out for number in (0, 1))
    assert first.startswith("[mb 0] scoring 1 red\n-- ")
    assert "mini-batch 1" not in first
    assert second.startswith("[mb 1] scoring 1 red\n-- ")
    assert "mini-batch 1 failed, try 1 of 1: ValueError: bad file" in second
    assert second.rstrip().endswith("ValueError: bad file")
    assert "Streaming " in whole
    assert set(f"{first}{second}".splitlines()) < set(whole.splitlines())


def test_resuming_what_is_done_changes_nothing(heart: Cli) -> None:
    """A completed job is answered as it is; with --wait the verdict is the exit code."""
    heart("endpoint invoke -n heart --input good --job-name j1 --wait -o none")
    assert heart("job resume -n j1 --query status -o tsv").out == "Completed\n"
    waited = heart("job resume -n j1 --wait --only-show-errors --query progress.attempts")
    assert (waited.exit_code, waited.json, waited.err) == (0, 1, "")


def test_the_same_job_name_never_starts_a_second_job(heart: Cli) -> None:
    """Invoking again finds the job; asking for something else under its name is a conflict."""
    for _ in range(2):
        assert heart("endpoint invoke -n heart --input good --job-name j1 --wait -o none").exit_code == 0
    assert heart("endpoint invoke -n heart --input bad --job-name j1").exit_code == 6
    assert heart("job list --query length(@)").json == 1


def test_warnings_of_the_deployment_are_told(heart: Cli, tmp_path: Path) -> None:
    """On stderr, unless only errors are wanted; stdout stays an answer."""
    unmapped = ("-w", str(tmp_path / "unmapped"))
    heart("endpoint", "create", "-n", "heart", *unmapped)
    heart("deployment", "create", "-f", "deployment.yml", "--set-default", *unmapped)
    ran = heart("endpoint", "invoke", "-n", "heart", "--input", "good", *unmapped)
    assert ran.err.startswith("WARNING: ")
    assert "hpcbatch environment map" in ran.err
    quiet = heart("endpoint", "invoke", "-n", "heart", "--input", "good", "--only-show-errors", *unmapped)
    assert (quiet.exit_code, quiet.err) == (0, "")


def test_cancel(heart: Cli, hold: Path) -> None:
    """A canceled job ends as Canceled, and following it is no success."""
    hold.touch()
    assert heart("endpoint invoke -n heart --input good --job-name j1 -o none").exit_code == 0
    assert heart("job cancel -n j1 --query status -o tsv").out in ("Canceled\n", "CancelRequested\n")
    assert heart("job stream -n j1").exit_code == 5
    assert heart("job show -n j1 --query status -o tsv").out == "Canceled\n"


@pytest.mark.parametrize(
    ("line", "exit_code", "words"),
    [
        ("endpoint invoke -n heart", 2, "--input"),
        ("endpoint invoke -n heart --input nowhere", 2, "nowhere"),
        ("endpoint invoke -n heart --input good -d other", 3, "first"),
        ("endpoint invoke -n nope --input good", 3, "heart"),
        ("endpoint invoke -n heart --input good --set mini_batch_size=0", 2, "mini_batch_size"),
        ("endpoint invoke -n heart --input good --query [ --wait", 2, "JMESPath"),
        ("job show -n nope", 3, "job list"),
    ],
)
def test_nothing_starts_when_something_is_wrong(heart: Cli, line: str, exit_code: int, words: str) -> None:
    """The error's exit code, a sentence, and no job."""
    ran = heart(line)
    assert (ran.exit_code, ran.out) == (exit_code, "")
    assert words in ran.err
    assert heart("job list").json == []


def test_a_job_is_archived_restored_and_described(heart: Cli) -> None:
    """Lists leave an archived job out; show, stream and download go on finding it."""
    name = heart("endpoint invoke -n heart --input good --wait --query name -o tsv").out.strip()
    assert heart(f"job archive -n {name}").out == ""
    assert heart("job list").json == []
    assert heart("endpoint list-jobs -n heart").json == []
    assert heart("job list --archived-only --query [].name -o tsv").out == f"{name}\n"
    assert heart("job list --include-archived --query [].archived").json == [True]
    assert heart(f"job show -n {name} --query archived").json is True
    assert heart(f"job restore -n {name}").exit_code == 0
    shown = heart("job", "update", "-n", name, "--set", "tags.paper=2", "display_name=Final run").json
    assert (shown["tags"], shown["display_name"], shown["status"]) == ({"paper": "2"}, "Final run", "Completed")
    assert heart(f"job update -n {name} --remove tags.paper").json.get("tags") is None
    assert heart("job list --query [].display_name -o tsv").out == "Final run\n"
    assert heart(f"job update -n {name} --set status=Failed").exit_code == 2
    assert heart("job archive -n nope").exit_code == 3
