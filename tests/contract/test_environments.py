"""An environment that Azure ML's file describes by a conda file is built when the first job needs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from hpcbatch.operations.invoke import invoke
from tests.site import ENDPOINT, Site
from tests.unit.environments.wheels import wheel

SCRIPT = "import sys, tiny\ndef run(m):\n    return [f'{tiny.VALUE} {sys.prefix}' for _ in m]\n"


@pytest.mark.slow
@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_pip_part_of_a_conda_file_is_installed_once_and_shown(site: Site) -> None:
    folder = site.folder / "conda"
    wheel(folder / "wheels")
    lines = ["--no-index", "--find-links wheels", "-r more.txt"]
    (folder / "more.txt").write_text("tiny==1.0\n")
    dependencies = ["python=3.11", "pip", "libgomp", {"pip": lines}]
    (folder / "conda.yml").write_text(json.dumps({"name": "e", "dependencies": dependencies}))
    environment = {"name": "with-tiny", "image": "mcr.microsoft.com/x", "conda_file": str(folder / "conda.yml")}
    deployment = site.deploy(SCRIPT, extra={"environment": environment})
    said: list[str] = []
    jobs = [
        invoke(site.ws, site.request(deployment, site.data(1)), say=said.append)["name"],
        invoke(site.ws, site.request(deployment, site.data(2)), say=said.append)["name"],
    ]
    ended = [site.wait(name) for name in jobs]
    outputs = [one.output for one in ended]
    assert [one.status for one in ended] == ["Completed"] * 2, ended
    assert outputs[0] is not None
    assert outputs[1] == outputs[0] * 2
    value, prefix = outputs[0].decode().split(" ", 1)
    assert (value, Path(prefix.strip()).is_relative_to(site.ws.root / "environments")) == ("7", True)
    assert len([line for line in said if line.startswith("Building")]) == 1
    shown = ended[0].job["environment"]
    assert shown == {
        "name": "with-tiny", "python": f"{prefix.strip()}/bin/python", "origin": f"built from {folder / 'conda.yml'}"
    }  # fmt: skip
    assert any("asks conda for libgomp" in warning for warning in ended[0].job["warnings"])
    command = [sys.executable, "-m", "hpcbatch", "batch-deployment", "show", "-n", deployment, "-e", ENDPOINT]
    found = subprocess.run(
        [*command, "-w", str(site.ws.root), "-o", "json"], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert json.loads(found.stdout)["interpreter"]["python"] == shown["python"]
