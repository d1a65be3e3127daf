"""A workspace with one compute, and the shortest way from a scoring script to the bytes of a finished job."""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcbatch.operations import assets, deployments, endpoints, jobs
from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
from hpcbatch.operations.progress import Progress
from hpcbatch.operations.workspace import Workspace

ENDPOINT = "site"
ECHO = """
import os

def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""


@dataclass(frozen=True)
class Ended:
    """A job that is in a terminal state."""

    job: dict[str, Any]
    output: bytes | None
    log: str

    @property
    def status(self) -> str:
        return str(self.job["status"])

    @property
    def detail(self) -> str:
        return str(self.job["detail"])

    @property
    def exit_code(self) -> int:
        return jobs.exit_code(self.job)


@dataclass(frozen=True)
class Site:
    """`compute` is the name of a compute in the workspace below `folder`."""

    folder: Path
    compute: str
    _numbers: Iterable[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def ws(self) -> Workspace:
        return Workspace(self.folder / "ws")

    def fresh(self, word: str) -> str:
        return f"{word}-{next(iter(self._numbers))}"

    def set_up(self, *computes: Mapping[str, Any]) -> Site:
        """Make the endpoint and the computes."""
        endpoints.create_endpoint(self.ws, name=ENDPOINT)
        for compute in computes:
            self.add_compute(compute)
        return self

    def add_compute(self, compute: Mapping[str, Any]) -> None:
        """Another compute."""
        assets.create_compute(self.ws, file=_document(self.folder / f"compute-{compute['name']}.yml", compute))

    def deploy(
        self,
        script: str = ECHO,
        *,
        name: str = "",
        python: str | Path = sys.executable,
        files: Mapping[str, str] | None = None,
        scoring_script: str = "score.py",
        model: Mapping[str, str] | None = None,
        instances: int = 1,
        compute: str | None = None,
        extra: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> str:
        """The name of a new deployment of *script*, with more code *files* and a folder `model` if wanted."""
        name = name or self.fresh("d")
        folder = self.folder / name
        for path, text in {scoring_script: script, **(files or {})}.items():
            _write(folder / "code" / path, text)
        for path, text in (model or {}).items():
            _write(folder / "model" / path, text)
        document = {
            "name": name,
            "endpoint_name": ENDPOINT,
            "code_configuration": {"code": "code", "scoring_script": scoring_script},
            "environment": {"image": "none", "name": "tests", "python": str(python)},
            "compute": f"azureml:{compute or self.compute}",
            "resources": {"instance_count": instances},
            "settings": settings,
            **({"model": {"path": "model"}} if model is not None else {}),
            **(extra or {}),
        }
        deployments.create_deployment(self.ws, file=_document(folder / "deployment.yml", document))
        return name

    def data(self, count: int, names: Iterable[bytes] = (), *, prefix: str = "") -> Path:
        """A folder of *count* files, each with its number in it, and of files that hold these *names* of theirs."""
        folder = self.folder / self.fresh("data")
        folder.mkdir()
        for number in range(count):
            _write(folder / f"{prefix}{number:05d}.txt", str(number))
        for name in names:
            path = folder / os.fsdecode(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(name)
        return folder

    def request(self, deployment: str, data: Path, *, job_name: str = "", **more: Any) -> InvokeRequest:
        ref = InputRef(str(data), more.pop("input_type", "uri_folder"))
        output = more.pop("output_path", None)
        return InvokeRequest(
            ENDPOINT, deployment, ref, job_name=job_name or self.fresh("job"), output_path=output, overrides=more
        )

    def start(self, deployment: str, data: Path, **more: Any) -> str:
        """The name of the job that was started."""
        return str(invoke(self.ws, self.request(deployment, data, **more))["name"])

    def run(self, deployment: str, data: Path, *, timeout_s: float = 300, **more: Any) -> Ended:
        """Start a job and wait for its end."""
        return self.wait(self.start(deployment, data, **more), timeout_s)

    def wait(self, name: str, timeout_s: float = 300) -> Ended:
        """The job in its terminal state; an assertion with its log if it has none in time."""
        deadline = time.monotonic() + timeout_s

        def in_time(progress: Progress) -> None:
            assert time.monotonic() < deadline, f"{name} is {progress} after {timeout_s} s\n{self.log(name)}"

        found = jobs.wait_job(self.ws, name, on_progress=in_time, poll_s=0.1, slurm_poll_s=2)
        return Ended(found, self.output(name), self.log(name))

    def root(self, name: str) -> Path:
        """The job directory."""
        return jobs.find_job(self.ws, name).root

    def output(self, name: str) -> bytes | None:
        """The published output as `job download` would copy it; None if there is none."""
        verdict = jobs.find_job(self.ws, name).verdict() or {}
        return Path(verdict["output"]["path"]).read_bytes() if "output" in verdict else None

    def log(self, name: str) -> str:
        """What all array tasks and merges of the job printed."""
        files = sorted((self.root(name) / "slurm").glob("*.out"))
        return "\n".join(f"==== {path.name}\n{path.read_text('utf-8', 'replace')}" for path in files)


def echoed(count: int) -> bytes:
    """What ECHO makes of `Site.data(count)`."""
    return b"".join(b"%05d.txt\n" % number for number in range(count))


def eventually(condition: Any, timeout_s: float = 180, pause_s: float = 0.02) -> Any:
    """What *condition* returns as soon as it is true."""
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(pause_s)
    return found


def _document(path: Path, document: Mapping[str, Any]) -> Path:
    """JSON is YAML."""
    _write(path, json.dumps(document))
    return path


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
