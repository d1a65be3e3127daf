"""Outputs get their names whole or not at all, and whoever is told to end hears of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict
from hpcbatch.steps import outcome
from hpcbatch.steps.local import Supervisor
from tests.pipelines import Pipelines, step
from tests.unit.steps.test_pipelinedir import sealed

MIB = 1 << 20


def test_an_output_that_the_disk_cuts_short_gets_no_name(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    """write(2) says how much it took, and the last write of a copy may take less than it was given."""
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    source, target = tmp_path / "made", tmp_path / "wanted" / "model.bin"
    source.write_bytes(b"x" * (MIB + MIB // 2))
    file_limit(MIB + MIB // 4)
    with pytest.raises(OSError, match="too large"):
        outcome.publish_output(job, source, str(target), {})
    assert os.listdir(target.parent) == []
    file_limit(2 * MIB)
    outcome.publish_output(job, source, str(target), {})
    outcome.publish_output(job, source, str(target), {})  # as each process does that finds the job at its end
    assert target.read_bytes() == source.read_bytes()


def test_an_output_does_not_take_the_place_of_what_is_there(tmp_path: Path) -> None:
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    (tmp_path / "made").write_bytes(b"new and longer")
    (tmp_path / "wanted").write_bytes(b"old")
    with pytest.raises(Conflict, match="nothing is overwritten"):
        outcome.publish_output(job, tmp_path / "made", str(tmp_path / "wanted"), {})
    assert (tmp_path / "wanted").read_bytes() == b"old"


def test_the_end_of_a_step_is_not_lost_when_the_job_is_canceled_at_that_moment(tmp_path: Path) -> None:
    """The signal comes between the end of a process and the wait for it: Popen would take the end for itself."""
    supervisor = Supervisor(sealed(Pipelines(tmp_path), step("a", "true")), 2)
    process = subprocess.Popen(["true"])
    supervisor._running[process.pid] = ("a", process)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    supervisor._on_term()
    assert os.waitpid(process.pid, os.WNOHANG) == (process.pid, 0)
