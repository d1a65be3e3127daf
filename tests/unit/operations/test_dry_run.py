"""A dry run says what an invocation would do, and does nothing of it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.main import main
from hpcbatch.errors import Conflict, SpecError
from hpcbatch.operations.dry_run import dry_run
from hpcbatch.operations.invoke import InputRef, InvokeRequest
from tests.site import ENDPOINT, Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "local").set_up()


def tree(folder: Path) -> list[str]:
    return sorted(os.path.join(top, name) for top, below, names in os.walk(folder) for name in [*below, *names])


def test_it_writes_nothing_and_tells_the_numbers(site: Site) -> None:
    deployment, data = site.deploy(mini_batch_size=10, instances=3), site.data(45)
    before = tree(site.folder)
    found = dry_run(site.ws, site.request(deployment, data, groups=4, output_path=str(site.folder / "new" / "out")))
    assert tree(site.folder) == before
    assert {key: found[key] for key in ("items", "mini_batches", "groups", "at_once")} == {
        "items": 45, "mini_batches": 5, "groups": 4, "at_once": 3,
    }  # fmt: skip
    assert found["first_items"] == [f"{data}/{number:05d}.txt" for number in range(3)]
    assert found["output"] == f"{site.folder}/new/out/predictions.csv"


@pytest.mark.parametrize("groups", [1, 7])
def test_the_inodes_are_those_that_the_job_then_has(site: Site, groups: int) -> None:
    deployment, data = site.deploy(mini_batch_size=1, instances=2), site.data(20)
    found = dry_run(site.ws, site.request(deployment, data, groups=groups))
    ended = site.run(deployment, data, groups=groups)
    real = len(tree(Path(ended.job["job_directory"]))) + 1
    assert real <= found["inodes"] <= real + 12


def test_what_invoke_would_refuse_it_refuses(site: Site) -> None:
    deployment, data = site.deploy(), site.data(1)
    with pytest.raises(SpecError, match="does not exist"):
        dry_run(site.ws, InvokeRequest(ENDPOINT, deployment, InputRef("/no/such/folder")))
    with pytest.raises(SpecError, match="Only jobs on Slurm"):
        dry_run(site.ws, InvokeRequest(ENDPOINT, deployment, InputRef(str(data)), dependency="afterok:1"))
    site.run(deployment, data, job_name="taken")
    with pytest.raises(Conflict, match="'taken' exists"):
        dry_run(site.ws, site.request(deployment, data, job_name="taken"))


def test_the_command_line_shows_it(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    deployment, data = site.deploy(), site.data(3)
    words = [
        "batch-endpoint",
        "invoke",
        "-w",
        str(site.ws.root),
        "-n",
        ENDPOINT,
        "-d",
        deployment,
        "--input",
        str(data),
    ]
    assert main([*words, "--dry-run"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["dry_run"], found["items"]) == (True, 3)
    assert main([*words, "--parsable"]) == 2
    assert "this machine" in capsys.readouterr().err
    assert not site.ws.jobs.exists()
