"""Where a page's commands run: a folder and a home of their own, and in them what the page takes for granted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.operations import assets, deployments, endpoints, jobs
from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
from hpcbatch.operations.workspace import Workspace
from hpcbatch.rounds import local
from tests.processes import of_job
from tests.site import eventually

ROOT = Path(__file__).resolve().parents[2]
ENDPOINT = "count-words"
SCORE = """\
import os
import time


def run(mini_batch):
    rows = []
    for path in mini_batch:
        time.sleep(float(os.environ.get("SECONDS_PER_FILE", "0")))
        while path[-5:] > "2.txt" and "NOT_BEFORE" in os.environ and not os.path.exists(os.environ["NOT_BEFORE"]):
            time.sleep(0.05)
        with open(path) as file:
            rows.append(f"{os.path.basename(path)} {len(file.read().split())}")
    return rows
"""
DEPLOYMENT = """\
name: first
endpoint_name: count-words
type: model
code_configuration:
  code: code
  scoring_script: score.py
environment:
  name: words-env
  image: mcr.microsoft.com/azureml/minimal-ubuntu22.04-py311-cpu-inference:latest
compute: COMPUTE
settings:
  mini_batch_size: 2
"""


@dataclass(frozen=True)
class Place:
    """The commands run in `folder`; `variables` are set for them."""

    folder: Path
    home: Path
    variables: Mapping[str, str]

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.home / ".hpcbatch")

    def run(self, script: str, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run bash lines, stopping at the first command that fails."""
        dropped = ("SLURM", "SBATCH", "HPCBATCH", "XDG_", "PYTHONPATH")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
        path = os.pathsep.join((str(Path(sys.executable).parent), kept["PATH"]))
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            env={**kept, "PATH": path, "HOME": str(self.home), **self.variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


def bare(place: Place) -> dict[str, str]:
    """Nothing but an empty folder."""
    assert place.folder.is_dir()
    return {}


def files(place: Place, compute: str = "local") -> dict[str, str]:
    """A deployment.yml with its code, and a folder of data; nothing is registered."""
    (place.folder / "code").mkdir()
    (place.folder / "code" / "score.py").write_text(SCORE)
    (place.folder / "deployment.yml").write_text(DEPLOYMENT.replace("COMPUTE", compute))
    (place.folder / "data").mkdir()
    for number in range(1, 9):
        (place.folder / "data" / f"note-{number}.txt").write_text("one word and another\n" * number)
    return {}


def endpoint(place: Place, compute: str = "local") -> dict[str, str]:
    """`files`, deployed behind the endpoint `count-words`."""
    files(place, compute)
    endpoints.create_endpoint(place.workspace, name=ENDPOINT)
    assets.map_environment(place.workspace, "*", sys.executable)
    deployments.create_deployment(place.workspace, file=place.folder / "deployment.yml", set_default=True)
    return {}


def job(place: Place) -> dict[str, str]:
    """`endpoint`, and in JOB the name of a job of it that is Completed."""
    endpoint(place)
    name = _start(place)
    jobs.wait_job(place.workspace, name, on_progress=lambda _: None, poll_s=0.05)
    return {"JOB": name}


def stopped_job(place: Place) -> dict[str, str]:
    """`endpoint`, and in JOB the name of a job of it whose machine went down half-way."""
    endpoint(place)
    down = place.folder / "machine-is-down"
    name = _start(place, environment_variables={"NOT_BEFORE": str(down)})
    found = jobs.find_job(place.workspace, name)
    eventually(lambda: jobs.show_job(place.workspace, name)["progress"]["mini_batches_done"])
    if pid := local.supervisor(found):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: not of_job(found.root))  # the worker dies with its supervisor, a moment later
    down.touch()
    return {"JOB": name}


def example(place: Place, made: Path) -> dict[str, str]:
    """A clone after the run of an example: *made* is it, with its environment and its model."""
    shutil.copytree(made, place.folder / "examples" / made.name, symlinks=True)
    return {}


def slurm(place: Place) -> dict[str, str]:
    """`endpoint` on a compute `short`, a partition of the cluster that SLURM_CONF points to."""
    assets.create_compute(place.workspace, name="short", type="slurm", sets=["partition=normal"])
    endpoint(place, "short")
    return {}


def _start(place: Place, **overrides: object) -> str:
    data = InputRef(str(place.folder / "data"))
    return str(invoke(place.workspace, InvokeRequest(ENDPOINT, input=data, overrides=overrides))["name"])


PLACES: Mapping[str, Callable[[Place], dict[str, str]]] = {
    "": bare,
    "files": files,
    "endpoint": endpoint,
    "job": job,
    "stopped-job": stopped_job,
    "slurm": slurm,
}
