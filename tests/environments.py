"""Virtual environments for what tests need beside hpcbatch: each is made once a run, whoever asks, and quickly (uv)."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMPLETE = ".complete"  # what the examples' run.sh look for, too
Environments = Callable[..., Path]


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Environments:
    """`environments("mpi4py>=4", ...)`: the folder of a virtual environment with these packages. Nobody changes it.

    `check.py` names a folder in which they are kept from section to section.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # of all processes of pytest-xdist
    folder = Path(os.environ.get("HPCBATCH_TEST_ENVIRONMENTS") or shared / "environments")

    def made_once(*requirements: str) -> Path:
        about = "\n".join((sys.version, *requirements))
        place = folder / hashlib.sha256(about.encode()).hexdigest()[:12]
        folder.mkdir(parents=True, exist_ok=True)
        with open(place.with_suffix(".lock"), "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / COMPLETE).exists():
                make_environment(place, *requirements)
                (place / COMPLETE).touch()
        return place

    return made_once


def make_environment(place: Path, *requirements: str) -> None:
    """A virtual environment with pip and these packages; by pip, where there is no uv or it finds no index."""
    uv = [sys.executable, "-m", "uv", "--quiet"]
    for command in (
        [*uv, "venv", "--seed", "--python", sys.executable, str(place)],
        [*uv, "pip", "install", "--python", str(place / "bin" / "python"), *requirements],
    ):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            break
    else:
        return
    shutil.rmtree(place, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", place], check=True)
    pip = [place / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *requirements], check=True)


def required_by(example: str) -> list[str]:
    """What an example's run.sh installs."""
    folder = EXAMPLES / example
    if (folder / "requirements.txt").exists():
        return (folder / "requirements.txt").read_text().split()
    lines = (line.strip(" -") for line in (folder / "environment.yml").read_text().splitlines())
    return [line for line in lines if "==" in line]
