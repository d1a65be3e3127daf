"""A step that is told to make room: its command hears of it, and how it ends decides."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hpcbatch.steps.pipelinedir import PipelineDir
from tests.pipelines import Pipelines, logs, short_folder, states, step
from tests.site import eventually

pytestmark = pytest.mark.slow

# $PPID of the command is the process of the step, which is what Slurm tells.
WAITS = (
    "trap 'echo told >> {told}; {then}' TERM; echo $PPID > {pid}.tmp; mv {pid}.tmp {pid}; while :; do sleep 0.1; done"
)


def told(folder: Path, then: str, last: str) -> PipelineDir:
    """A step whose first attempt is told, and does *then*; another attempt does *last*."""
    pid = folder / "pid"
    first = WAITS.format(told=folder / "told", then=then, pid=pid)
    pipelines = Pipelines(folder)
    job = pipelines.start(step("s", f"if [ -e {folder / 'told'} ]; then {last}; else {first}; fi", outputs=["out"]))
    eventually(pid.exists, 60)
    os.kill(int(pid.read_text()), signal.SIGTERM)
    return pipelines.wait(job, 120)


def test_a_command_that_ends_well_when_it_is_told_has_completed() -> None:
    with short_folder() as folder:
        job = told(folder, "echo saved > ${{outputs.out}}/f; exit 0", "exit 9")
        assert states(job) == {"s": "Completed"}, logs(job)
        assert len(job.attempts()["s"]) == 1
        assert Path(job.results()["s"]["outputs"]["out"], "f").read_text() == "saved\n"


def test_a_command_that_does_not_end_well_when_it_is_told_is_run_again() -> None:
    with short_folder() as folder:
        job = told(folder, "exit 3", "echo again > ${{outputs.out}}/f")
        assert states(job) == {"s": "Completed"}, logs(job)
        assert len(job.attempts()["s"]) == 2
        assert (folder / "told").read_text() == "told\n"
