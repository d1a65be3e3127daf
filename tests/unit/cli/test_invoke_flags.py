"""Every setting that one job may have otherwise: by an option, by `--set` and by a file, to the same effect."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.grammar import verb_parser
from hpcbatch.cli.invoke import VERB, given_of
from hpcbatch.cli.invoke_request import request_of
from hpcbatch.cli.main import main
from hpcbatch.operations.invoke import draft_of
from hpcbatch.records.job import JobRecord
from tests.site import ENDPOINT, Site

# the option's words, the key of --set and of the file, its value, and where job.json has it
SETTINGS: dict[str, tuple[list[str], Any, tuple[str, ...]]] = {
    "mini_batch_size": (["-m", "3"], 3, ("scoring", "mini_batch_size")),
    "instance_count": (["-c", "2"], 2, ("compute", "throttle")),
    "compute.instance_count": (["--instance-count", "2"], 2, ("compute", "throttle")),
    "error_threshold": (["--error-threshold", "4"], 4, ("scoring", "error_threshold")),
    "retry_settings.max_retries": (["--max-retries", "1"], 1, ("scoring", "max_retries")),
    "retry_settings.timeout": (["--timeout", "99.5"], 99.5, ("scoring", "timeout_s")),
    "output_file_name": (["--output-file-name", "x.csv"], "x.csv", ("scoring", "output_file_name")),
    "max_concurrency_per_instance": (["--concurrency", "2"], 2, ("scoring", "max_concurrency_per_instance")),
    "logging_level": (["--logging-level", "debug"], "debug", ("scoring", "logging_level")),
    "groups": (["--groups", "3"], 3, ("groups",)),
    "environment_variables.LEVEL": (["--env", "LEVEL=7"], "7", ("scoring", "environment_variables", "LEVEL")),
    "job_name": (["--job-name", "named"], "named", ("name",)),
    "properties.experimentName": (["--experiment-name", "exp"], "exp", ("experiment_name",)),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(tmp_path_factory.mktemp("flags"), "local").set_up()
    site.deploy(name="flags", mini_batch_size=1, environment_variables={"KEPT": "1"})
    site.data(6)
    return site


def record_of(site: Site, *words: str) -> JobRecord:
    """The record of the job that these words of the command line would start."""
    data = [] if "--file" in words else ["--input", str(next(site.folder.glob("data-*")))]
    args = verb_parser("batch-endpoint", VERB).parse_args(["-n", ENDPOINT, "-d", "flags", *data, *words])
    request = request_of(given_of(args))
    return draft_of(site.ws, request, site.folder / (request.job_name or "unnamed"))[0].record


def at(document: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        document = document[key] if isinstance(document, Mapping) else getattr(document, key)
    return document


@pytest.mark.parametrize("key", SETTINGS)
def test_each_setting_by_option_by_set_and_by_file(key: str, site: Site, tmp_path: Path) -> None:
    option, value, path = SETTINGS[key]
    document: Any = value
    for part in reversed(key.split(".")):
        document = {part: document}
    data = str(next(site.folder.glob("data-*")))
    file = tmp_path / "invoke.yml"
    file.write_text(json.dumps({"inputs": {"x": {"type": "uri_folder", "path": data}}, **document}))
    ways = {"option": option, "set": ["--set", f"{key}={value}"], "file": ["--file", str(file)]}
    for way, words in ways.items():
        found = record_of(site, *words)
        assert at(found, path) == value, way
        assert found.scoring.environment_variables["KEPT"] == "1"


def test_an_option_wins_over_a_set(site: Site) -> None:
    words = ["--groups", "2", "--set", "groups=3", "environment_variables.A=1", "--env", "B=2", "A=3"]
    found = record_of(site, *words)
    assert found.groups == 2
    assert found.scoring.environment_variables == {"KEPT": "1", "A": "3", "B": "2"}


def test_what_is_no_assignment_is_refused(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["batch-endpoint", "invoke", "-w", str(site.ws.root), "-n", ENDPOINT, "--input", "x", "--env", "A"]) == 2
    )
    assert "'A' is not NAME=VALUE" in capsys.readouterr().err


def test_az_s_short_forms_stay_unambiguous(site: Site) -> None:
    """Scripts use `--f`, `--endpoint`, `--dep`: a flag of ours must not be in their way."""
    names = [flag for option in VERB.options for flag in option.flags if flag.startswith("--")]
    meant = {
        "--f": "--file", "--depl": "--deployment-name", "--mini": "--mini-batch-size", "--inst": "--instance-count",
        "--exp": "--experiment-name", "--job": "--job-name",
    }  # fmt: skip
    for short, whole in meant.items():
        assert [name for name in names if name.startswith(short)] == [whole]
