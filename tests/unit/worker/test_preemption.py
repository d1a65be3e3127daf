"""What an attempt does when it is told to make room: one record, one request, and a time to be back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.preemption import Release
from tests.unit.worker.attempts import NO_SLURM

QUEUED, RUNNING = "exit 0", 'test "$1" = requeue'
TASK = replace(NO_SLURM, job_id="77", array_job_id="70", array_task_id="7")
REQUEUE, BACK = "requeue incomplete 70_7\n", "update JobId=70_7 StartTime=now+8\n"


class Told:
    """A Release on a node whose Slurm does as a script says, and what that Slurm was asked."""

    def __init__(self, folder: Path, writer: AttemptWriter, back_after_s: int) -> None:
        self.log = folder / "asked"
        with open(os.devnull, "wb", buffering=0) as quiet:
            self.release = Release(writer, TASK, UserLog(os.dup(quiet.fileno())), back_after_s=back_after_s)
        self._program = folder / "scontrol"

    def slurm(self, script: str) -> None:
        self._program.write_text(f'#!/bin/sh\necho "$@" >> {self.log}\n{script}\n')
        self._program.chmod(0o755)

    def asked(self) -> list[str]:
        """In no order: two requests may be under way at once."""
        self.release.wait()
        return sorted(self.log.read_text().splitlines(keepends=True)) if self.log.exists() else []


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    found = AttemptWriter(tmp_path, job=b"j" * 16, group=0, epoch=1, about={})
    yield found
    found.close()


@pytest.fixture
def told(tmp_path: Path, writer: AttemptWriter, monkeypatch: pytest.MonkeyPatch) -> Told:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = Told(tmp_path, writer, 8)
    found.slurm(QUEUED)
    return found


def test_an_array_task_that_is_told_to_make_room_says_when_it_will_be_back(told: Told) -> None:
    told.release.preempted()
    assert told.asked() == [REQUEUE, BACK]
    told.release.preempted()
    assert told.asked() == [REQUEUE, BACK], "a second SIGTERM changes nothing"


def test_one_that_runs_in_a_grace_says_it_again_when_it_is_in_the_queue(told: Told) -> None:
    """Slurm takes a time to begin at of none that runs; SIGTERM comes again once the request to requeue is accepted."""
    told.slurm(RUNNING)
    told.release.preempted()
    refused = told.asked()
    assert refused[:2] == [REQUEUE, BACK]
    told.slurm(QUEUED)
    told.release.preempted()
    told.release.preempted()
    assert told.asked() == [*refused, BACK]


def test_one_at_its_time_limit_is_back_as_soon(told: Told) -> None:
    told.release.time_is_up(requeue=True)
    assert told.asked() == [REQUEUE, BACK]


def test_where_slurm_is_as_quick_it_is_left_to_slurm(tmp_path: Path, writer: AttemptWriter, told: Told) -> None:
    other = Told(tmp_path, writer, 0)
    other.release.preempted()
    assert other.asked() == [REQUEUE]


def test_without_slurm_commands_on_the_node_the_work_goes_on(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    told.release.preempted()
    assert told.asked() == []
