"""Merges that die anywhere, and merges that run at once: one output, always the same bytes."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.fs.publish import is_temp
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.merge.entry import EXIT_INCOMPLETE, EXIT_PUBLISHED, main, merge_job
from tests.unit.jobdir.sealed import Size, begin, commit, end, expected, flip, output, score, score_all, seal

STEPS = ("open", "write", "fsync", "link", "unlink", "close", "scandir", "pread", "mkdir")


def start(job: JobDir) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def entries(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if not is_temp(name))


def die_before_step(number: int) -> None:
    """From now on this process counts its calls of the system, and kills itself before call *number*."""
    left = [number]

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return step

    for name in STEPS:
        setattr(os, name, counted(getattr(os, name)))


def merge_that_dies(job: JobDir, before_step: int) -> bool:
    """Run a merge in a child that is killed before that step; False if it came to its end."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child of the test
        die_before_step(before_step)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os._exit(main([str(job.root), job.sha256]))
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def undo(job: JobDir) -> None:
    """Back to where no merge had run."""
    for folder in (job.paths.merge, job.paths.out):
        shutil.rmtree(folder)
        folder.mkdir()
    for number in job.rounds()[1:]:
        shutil.rmtree(job.paths.round(number))


@pytest.fixture
def careless_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """fsync(2) says nothing to a process that is killed, and hundreds of merges on a busy disk take half a minute."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.mark.slow
@pytest.mark.usefixtures("careless_disk")
@pytest.mark.parametrize("damaged", [False, True])
def test_a_merge_killed_before_any_step_is_finished_by_the_next(tmp_path: Path, damaged: bool) -> None:
    """Every call of the system of a whole merge; nothing half is ever visible, and the bytes are the same."""
    job = seal(tmp_path / "b1")
    score(job, range(6))
    score(job, range(6), epoch=2)
    if damaged:
        flip(min(all_attempts(job.paths)).segment, 30, 2)
    step = 0
    while merge_that_dies(job, step):
        if output(job).exists():
            assert output(job).read_bytes() == expected(job), step
        assert (job.verdict() is None) or output(job).exists(), step
        assert merge_job(job)[0] == EXIT_PUBLISHED, step
        assert output(job).read_bytes() == expected(job), step
        assert entries(job.paths.out) == sorted([output(job).name, layout.SUCCESS]), step
        assert not [name for name in os.listdir(job.paths.out) if job.record.uuid in name], step  # the dead one's copy
        verdict = job.verdict()
        assert verdict is not None
        assert verdict["output"]["sha256"] == hashlib.sha256(expected(job)).hexdigest(), step
        undo(job)
        step += 1
    assert step > 40
    assert output(job).read_bytes() == expected(job)


@pytest.mark.slow
@pytest.mark.usefixtures("careless_disk")
def test_a_merge_killed_while_it_plans_a_round_leaves_a_whole_plan_or_none(tmp_path: Path) -> None:
    """Whoever comes next, merge or resume, finds what is missing in the newest round."""
    job = seal(tmp_path / "b1")
    score(job, [0, 2, 5])
    step = 0
    while merge_that_dies(job, step):
        assert job.verdict() is None
        assert merge_job(job)[0] == EXIT_INCOMPLETE, step
        plan = job.plan(job.rounds()[-1])
        assert [n for group in range(plan.groups) for n in plan.mini_batches(group)] == [1, 3, 4], step
        undo(job)
        step += 1
    assert step > 20


def test_a_merge_process_killed_at_random_times_is_finished_by_the_next(tmp_path: Path) -> None:
    """A real process and a real copy of 24 MB; the seed is in the message."""
    seed = random.randrange(2**32)
    dice = random.Random(seed)
    job = seal(tmp_path / "b1", Size(items=12))
    payloads = [dice.randbytes(1 << 20) * 4 for _ in range(6)]
    writer = begin(job)
    for number, payload in enumerate(payloads):
        commit(writer, number, payload)
    end(writer)
    wanted = hashlib.sha256(b"".join(payloads)).hexdigest()
    whole_s = time.monotonic()
    assert start(job).wait() == EXIT_PUBLISHED
    whole_s = time.monotonic() - whole_s
    killed = 0
    for _ in range(15):
        undo(job)
        process = start(job)
        try:
            process.wait(dice.uniform(0.03, whole_s))
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait() == -signal.SIGKILL
        if output(job).exists():
            assert hashlib.sha256(output(job).read_bytes()).hexdigest() == wanted, seed
        assert merge_job(job)[0] == EXIT_PUBLISHED, seed
        assert hashlib.sha256(output(job).read_bytes()).hexdigest() == wanted, seed
    assert killed > 0


@pytest.mark.parametrize("damaged", [False, True])
def test_four_merges_at_once_publish_one_output(tmp_path: Path, damaged: bool) -> None:
    """Several rounds of four processes: each says that it is published, one file has the name, its bytes are right."""
    for number in range(4):
        job = seal(tmp_path / f"b{number}", Size(items=80, groups=4))
        score_all(job)
        if damaged:
            attempts = sorted(all_attempts(job.paths))
            score(job, range(40), epoch=2)
            for attempt in attempts:
                flip(attempt.segment, attempt.segment.stat().st_size // 2)
        processes = [start(job) for _ in range(4)]
        assert [process.wait() for process in processes] == [EXIT_PUBLISHED] * 4
        assert output(job).read_bytes() == expected(job)
        assert sorted(os.listdir(job.paths.out)) == sorted([output(job).name, layout.SUCCESS])
        assert output(job).stat().st_nlink == 1
        verdict = jobdir.open_job(job.root).verdict()
        assert verdict is not None
        assert verdict["output"]["sha256"] == hashlib.sha256(expected(job)).hexdigest()
