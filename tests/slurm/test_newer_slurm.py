"""The preemption matrix on the Slurm of Debian 13 (24.11), in a root of that Debian that `other-debian` makes.

`HPCBATCH_DEBIAN` names another suite, `HPCBATCH_DEBIAN_ROOT` the folder that is made once (400 MB) and used again.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.chaos]

ROOT = Path(__file__).parents[2]
SUITE = os.environ.get("HPCBATCH_DEBIAN", "trixie")
FOLDER = os.environ.get("HPCBATCH_DEBIAN_ROOT", f"/var/tmp/hpcbatch-debian-{SUITE}")


def test_the_preemption_matrix_holds_on_a_newer_slurm() -> None:
    matrix = [
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-s",
        "-m",
        "slurm",
        "tests/slurm/test_preemption_matrix.py",
    ]
    command = ["slurm/devcluster/other-debian", SUITE, FOLDER, "--", "python", *matrix]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
