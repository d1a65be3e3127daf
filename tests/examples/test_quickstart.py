"""The quickstart as a newcomer runs it: a copy of the example, an empty home.

Its own commands make the environment, over one that is there already: they do all that they do, but download nothing.
"""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments import make_environment, required_by

ROOT = Path(__file__).resolve().parents[2]
DEVCLUSTER = ROOT / "slurm" / "devcluster" / "devcluster"


@dataclass(frozen=True)
class Newcomer:
    """Somebody who has only just installed hpcbatch."""

    folder: Path
    home: Path

    def runs(self, **more: str) -> tuple[bytes, str]:
        """What run.sh leaves in predictions.csv, and the last line that it says."""
        done = subprocess.run(
            ["bash", str(self.folder / "run.sh")],
            env=self._environment() | more,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        predictions = self.folder / "named-outputs" / "score" / "predictions.csv"
        return predictions.read_bytes(), done.stdout.splitlines()[-1]

    def _environment(self) -> dict[str, str]:
        """Nothing of ours and nothing of Slurm; pip keeps its settings and its cache."""
        dropped = ("SLURM", "SBATCH", "HPCBATCH", "XDG_")
        kept = {k: v for k, v in os.environ.items() if not k.startswith(dropped)}
        pip = {
            "PIP_CACHE_DIR": str(Path("~/.cache/pip").expanduser()),
            "PIP_CONFIG_FILE": str(Path("~/.config/pip/pip.conf").expanduser()),
        }
        path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
        return pip | kept | {"HOME": str(self.home), "PATH": path}


@pytest.fixture(scope="module")
def newcomer(tmp_path_factory: pytest.TempPathFactory) -> Newcomer:
    home = tmp_path_factory.mktemp("home")
    generated = shutil.ignore_patterns(".venv", "data", "model", "truth.csv", "named-outputs", "__pycache__")
    shutil.copytree(ROOT / "examples" / "quickstart", home / "quickstart", ignore=generated)
    make_environment(home / "quickstart" / ".venv", *required_by("quickstart"))
    return Newcomer(home / "quickstart", home)


@pytest.fixture
def slurm_conf() -> Iterator[str]:
    """A private cluster with short paths of its own."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("a private Slurm cluster needs root")
    folder = Path(tempfile.mkdtemp(prefix="quickstart-"))
    subprocess.run([DEVCLUSTER, "up", "--dir", folder], check=True, capture_output=True)
    yield str(folder / "slurm.conf")
    subprocess.run([DEVCLUSTER, "down", "--dir", folder, "--purge"], check=True, capture_output=True)


def _rows(content: bytes, delimiter: str) -> list[list[str]]:
    return list(csv.reader(content.decode().splitlines(), delimiter=delimiter))


@pytest.mark.slow
def test_every_row_is_scored_once_in_the_order_of_the_files(newcomer: Newcomer) -> None:
    """On this machine: predictions.csv has each row of each file once, and the model is a real one."""
    content, last_line = newcomer.runs()

    predictions = _rows(content, " ")
    wanted = [
        (path.name, str(row))
        for path in sorted((newcomer.folder / "data").iterdir())
        for row in range(len(path.read_text().splitlines()) - 1)
    ]
    assert [(row[0], row[1]) for row in predictions] == wanted
    assert len(predictions) == 228
    assert "228 rows of 8 files scored" in last_line
    truth = {(row[0], row[1]): row[2] for row in _rows((newcomer.folder / "truth.csv").read_bytes(), ",")}
    assert sum(truth[row[0], row[1]] == row[2] for row in predictions) > 0.9 * len(predictions)


@pytest.mark.slow
@pytest.mark.slurm
def test_a_real_slurm_gives_the_same_bytes(newcomer: Newcomer, slurm_conf: str) -> None:
    """COMPUTE=slurm and the preemptible partition: the predictions are those of this machine."""
    here, _ = newcomer.runs()
    assert newcomer.runs(COMPUTE="slurm", SLURM_CONF=slurm_conf)[0] == here
    assert newcomer.runs(COMPUTE="slurm-preemptible", SLURM_CONF=slurm_conf)[0] == here
