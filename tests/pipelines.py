"""Pipeline records made by hand, and the shortest way from them to the end of a job."""

from __future__ import annotations

import io
import itertools
import os
import pwd
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcbatch.ids import canonical, sha256
from hpcbatch.operations import pipeline_jobs
from hpcbatch.operations.pipeline_status import status_of
from hpcbatch.operations.workspace import Workspace
from hpcbatch.records.job import CodePart, ComputePart
from hpcbatch.records.pipeline import PipelineInput, PipelineOutput, PipelineRecord, PipelineStep, StepInput, StepOutput
from hpcbatch.steps.pipelinedir import PipelineDir, open_pipeline

LOCAL = ComputePart("local", "local", "dedicated", 1, {})
_NUMBERS = itertools.count(1)


def code(files: Mapping[str, str]) -> bytes:
    """A code snapshot."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


def step(
    name: str,
    command: str,
    *,
    inputs: Mapping[str, StepInput] | None = None,
    outputs: Sequence[str] | Mapping[str, StepOutput] = (),
    files: bytes | None = None,
    **more: Any,
) -> PipelineStep:
    """A command step on the local compute; *outputs* by name alone are folders."""
    if not isinstance(outputs, Mapping):
        outputs = {each: StepOutput("uri_folder") for each in outputs}
    part = CodePart(f"code/{sha256(files)}.zip", sha256(files), "") if files is not None else None
    base = PipelineStep(
        name=name, kind="command", display_name=name, component="anonymous", component_sha256=sha256(name.encode()),
        command=command, code=part, python=sys.executable, environment_name="tests", environment_origin="own",
        environment_variables={}, inputs=inputs or {}, outputs=outputs, optional_inputs=(), compute=LOCAL,
    )  # fmt: skip
    return replace(base, **more)


def text(value: str, kind: str = "string") -> StepInput:
    return StepInput(kind, "literal", value)


def path(value: str | Path, kind: str = "uri_folder") -> StepInput:
    return StepInput(kind, "path", str(value))


def given(name: str, kind: str = "uri_folder") -> StepInput:
    return StepInput(kind, "input", name)


def made(value: str, kind: str = "uri_folder") -> StepInput:
    return StepInput(kind, "step", value)


@dataclass(frozen=True)
class Pipelines:
    """A workspace in which pipelines run on `compute`."""

    folder: Path
    compute: ComputePart = LOCAL
    codes: dict[str, bytes] = field(default_factory=dict)

    @property
    def ws(self) -> Workspace:
        return Workspace(self.folder / "ws")

    def record(
        self,
        *steps: PipelineStep,
        name: str = "",
        outputs: Sequence[str] | Mapping[str, PipelineOutput] = (),
        **more: Any,
    ) -> PipelineRecord:
        name = name or f"p{next(_NUMBERS)}"
        user = pwd.getpwuid(os.getuid()).pw_name
        root = self.ws.jobs / user / name
        if not isinstance(outputs, Mapping):
            outputs = {each: PipelineOutput("uri_folder", str(root / "out" / each)) for each in outputs}
        placed = tuple(replace(s, compute=self.compute) if s.compute is LOCAL else s for s in steps)
        base = PipelineRecord(
            name=name, uuid=os.urandom(16).hex(), endpoint=None, deployment=None, deployment_revision=0,
            display_name=name, experiment_name="tests", created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            user=user, inputs={}, outputs=outputs,
            steps=placed, continue_on_step_failure=True, force_rerun=False,
            request_sha256=sha256(canonical([s.command for s in steps])),
        )  # fmt: skip
        return replace(base, **more)

    def start(self, *steps: PipelineStep, **more: Any) -> PipelineDir:
        record = self.record(*steps, **more)
        pipeline_jobs.create_and_start(self.ws, record, self.codes)
        return open_pipeline(self.ws.jobs / record.user / record.name)

    def keep(self, files: Mapping[str, str]) -> bytes:
        """A code snapshot that is given to every job."""
        data = code(files)
        self.codes[sha256(data)] = data
        return data

    def run(self, *steps: PipelineStep, timeout_s: float = 300, **more: Any) -> PipelineDir:
        return self.wait(self.start(*steps, **more), timeout_s)

    def wait(self, job: PipelineDir, timeout_s: float = 300) -> PipelineDir:
        deadline = time.monotonic() + timeout_s
        while job.verdict() is None:
            assert time.monotonic() < deadline, f"{status_of(job)} after {timeout_s} s\n{logs(job)}"
            time.sleep(0.05)
        return job


def literal(value: str, kind: str = "string") -> PipelineInput:
    return PipelineInput(kind, value)


def states(job: PipelineDir) -> dict[str, str]:
    """How each step ended."""
    return {name: result["status"] for name, result in job.results().items()}


def logs(job: PipelineDir) -> str:
    """All that the processes of a job and its commands printed."""
    files = [*sorted(job.slurm.glob("*.out")), *sorted(job.root.glob("steps/*/std_log.txt"))]
    return "\n".join(f"==== {each.relative_to(job.root)}\n{each.read_text('utf-8', 'replace')}" for each in files)


@contextmanager
def short_folder(prefix: str = "hpcbatch-pipes-") -> Iterator[Path]:
    """A folder whose path Slurm takes. Processes that end a job may still write when its verdict is there."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        deadline = time.monotonic() + 30
        while folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(folder, ignore_errors=True)
            time.sleep(0.05)
