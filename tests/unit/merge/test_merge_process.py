"""The merge as a process: what it answers, what it waits for, what it submits."""

from __future__ import annotations

import errno
import os
import runpy
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from hpcbatch.fs import probe
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.merge import entry
from hpcbatch.merge.entry import (
    EXIT_FAILED,
    EXIT_FULL,
    EXIT_INCOMPLETE,
    EXIT_IO,
    EXIT_PUBLISHED,
    main,
    merge_job,
)
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds import submission
from tests.unit.jobdir.sealed import COMPUTE, begin, expected, output, score, score_all, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def run(job: JobDir) -> int:
    return main([str(job.root), job.sha256])


def test_a_process_of_its_own_publishes(job: JobDir) -> None:
    """As the dependent job starts it: isolated, with two plain values. The output is for its owner alone."""
    score_all(job)
    command = [sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (EXIT_PUBLISHED, f"-- published {output(job)}\n", "")
    assert output(job).read_bytes() == expected(job)
    assert stat.S_IMODE(output(job).stat().st_mode) == 0o600


def test_the_module_ends_with_the_exit_code(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Slurm and the supervisor see."""
    score(job, [0])
    monkeypatch.setattr(sys, "argv", ["merge", str(job.root), job.sha256])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("hpcbatch.merge", run_name="__main__")
    assert caught.value.code == EXIT_INCOMPLETE


def test_a_failed_job_is_told_by_its_exit_code_and_its_reason(job: JobDir, capfd: pytest.CaptureFixture[str]) -> None:
    """One line that begins with ERROR."""
    writer = begin(job)
    writer.note(Kind.ABORT, {"kind": "init", "message": "no model caf\udce9"})
    writer.close()
    assert run(job) == EXIT_FAILED
    assert capfd.readouterr().out.startswith("-- ERROR: init() failed: no model caf?")


def test_a_job_that_is_not_there_or_was_changed_is_an_error(job: JobDir, capfd: pytest.CaptureFixture[str]) -> None:
    """With what to do next."""
    assert main([str(job.root / "absent"), job.sha256]) == EXIT_IO
    assert "hpcbatch job list" in capfd.readouterr().out
    assert main([str(job.root), "0" * 64]) == EXIT_IO
    assert "not the record that was submitted" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, EXIT_FULL), (errno.EDQUOT, EXIT_FULL), (errno.EIO, EXIT_IO)]
)
def test_a_disk_that_fails_is_told_from_a_full_one(
    job: JobDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], number: int, code: int
) -> None:
    """Starting again helps against the one only; no fsync is tried twice, nothing is published."""
    score_all(job)
    calls = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        assert run(job) == code
    assert len(calls) == 1
    assert os.strerror(number) in capfd.readouterr().out
    assert os.listdir(job.paths.out) == []
    assert run(job) == EXIT_PUBLISHED


def test_a_folder_that_cannot_be_read_is_named(job: JobDir, capfd: pytest.CaptureFixture[str]) -> None:
    """An error of the system that nobody expected there still ends in one sentence."""
    score_all(job)
    job.paths.merge.rmdir()
    job.paths.merge.touch()
    assert run(job) == EXIT_IO
    assert f"Cannot use '{job.paths.merge}': Not a directory" in capfd.readouterr().out


class NodesClock:
    """Time that passes only while somebody waits; what another node wrote becomes visible meanwhile."""

    def __init__(self, job: JobDir, *, visible_after_s: float) -> None:
        self._job = job
        self._visible_after_s = visible_after_s
        self._hidden = job.root / "hidden"
        job.paths.groups.rename(self._hidden)
        self.now_s = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now_s

    def sleep(self, pause_s: float) -> None:
        self.pauses.append(pause_s)
        self.now_s += pause_s
        if sum(self.pauses) >= self._visible_after_s and self._hidden.exists():
            self._hidden.rename(self._job.paths.groups)


@pytest.fixture
def on_nfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of mounts says that everything is on NFS with acdirmax=60: listings may be two minutes old."""
    mounts = tmp_path / "mounts"
    mounts.write_text("server:/x / nfs4 rw,acdirmax=60 0 0\n")
    monkeypatch.setattr(probe.visibility_timeout_s, "__defaults__", (mounts,))


def test_what_another_node_just_wrote_is_waited_for(job: JobDir, on_nfs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A merge that starts a second after the last array task sees nothing at first, with growing pauses."""
    score_all(job)
    clock = NodesClock(job, visible_after_s=20)
    monkeypatch.setattr(entry, "time", clock)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    assert clock.pauses == [1, 2, 4, 8, 16]


def test_the_wait_has_an_end(job: JobDir, on_nfs: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not there after two minutes is run again."""
    score(job, [0, 1])
    clock = NodesClock(job, visible_after_s=10_000)
    monkeypatch.setattr(entry, "time", clock)
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    assert 100 < sum(clock.pauses) <= 120


@pytest.mark.parametrize("how", ["every group ended", "an array task gave up"])
def test_there_is_no_wait_when_nothing_more_can_come(
    job: JobDir, on_nfs: None, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Every group has written its END, or one of them has said that it gave up."""
    monkeypatch.setattr(entry, "time", SimpleNamespace(monotonic=lambda: 0.0))  # and nobody can sleep
    if how == "every group ended":
        score(job, [0, 1, 2], group=0)
        score(job, [3], group=1)
        assert merge_job(job)[0] == EXIT_INCOMPLETE
    else:
        writer = begin(job)
        writer.note(Kind.ABORT, {"kind": "init", "message": "x"})
        writer.close()
        assert merge_job(job)[0] == EXIT_FAILED


SLURM = {
    "sbatch": """
        name=$(sed -n 's/^#SBATCH --job-name=//p' "$1" | tr -d "'")
        number=$((100 + $(wc -l < $LOG)))
        echo "sbatch $name" >> $LOG
        echo "$number|$number|$name|PENDING|JobHeldUser||0:00" >> $LOG.queue
        echo "Submitted batch job $number"
        """,
    "squeue": "cat $LOG.queue",
    "scontrol": """
        echo "scontrol $1 $2" >> $LOG
        echo "MaxArraySize = 1001"
        """,
    "scancel": 'echo "scancel $*" >> $LOG',
    "srun": "exit 1",
}


@pytest.fixture
def slurm_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Slurm's commands, which note how they were called and accept everything."""
    folder, log = tmp_path / "bin", tmp_path / "slurm.log"
    folder.mkdir()
    log.touch()
    Path(f"{log}.queue").touch()
    for name, body in SLURM.items():
        (folder / name).write_text(f"#!/bin/sh\nLOG={log}\n{textwrap.dedent(body)}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def test_on_slurm_an_incomplete_merge_submits_the_next_round_itself(
    tmp_path: Path, slurm_log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its own Slurm job has then done what it was for: exit code 0."""
    job = seal(tmp_path / "b2", compute=replace(COMPUTE, kind="slurm", slurm={"partition": "normal"}))
    score(job, [0, 1, 5])
    assert run(job) == EXIT_PUBLISHED
    name = f"{job.record.slurm_name}.r1"
    calls = [line for line in slurm_log.read_text().splitlines() if not line.startswith("scontrol show")]
    assert calls == [f"sbatch {name}.w0-2", f"sbatch {name}.m"]
    assert "round 1 will run them\n-- submitted: array 101, merge 102" in capfd.readouterr().out
    assert job.verdict() is None


def test_on_slurm_a_complete_merge_submits_nothing(tmp_path: Path, slurm_log: Path) -> None:
    """It is the end of the job."""
    job = seal(tmp_path / "b2", compute=replace(COMPUTE, kind="slurm", slurm={}))
    score_all(job)
    assert run(job) == EXIT_PUBLISHED
    assert slurm_log.read_text() == ""


@pytest.mark.parametrize(
    ("states", "goes_on"),
    [
        (["CANCELLED", "CANCELLED"], False),
        (["CANCELLED"], False),
        (["COMPLETED", "CANCELLED", "CANCELLED"], False),
        (["COMPLETED", "CANCELLED"], True),
        (["CANCELLED", "FAILED"], True),
        (["PREEMPTED", "PREEMPTED"], True),
    ],
)
def test_an_array_that_somebody_cancelled_is_not_submitted_again(
    tmp_path: Path, slurm_log: Path, capfd: pytest.CaptureFixture[str], states: list[str], goes_on: bool
) -> None:
    """One cancelled task of several is made up for; `scancel ARRAY` means what it says."""
    job = seal(tmp_path / "b3", compute=replace(COMPUTE, kind="slurm", slurm={}))
    score(job, [0, 1])
    lines = "".join(f"echo '{job.record.slurm_name}.r0.w0-2|7|{state}'\n" for state in states)
    squeue = tmp_path / "bin" / "squeue"
    squeue.write_text(f"#!/bin/sh\ncase \"$*\" in *'-t all'*)\n{lines};; *) cat {slurm_log}.queue;; esac\n")
    assert run(job) == (EXIT_PUBLISHED if goes_on else EXIT_FAILED)
    assert ("sbatch" in slurm_log.read_text()) is goes_on
    assert job.rounds() == ([0, 1] if goes_on else [0])
    assert ("cancelled with scancel. Continue: hpcbatch job resume" in capfd.readouterr().out) is not goes_on
    assert job.verdict() is None


@pytest.fixture
def slurm_job(tmp_path: Path, slurm_log: Path) -> JobDir:
    """A job on Slurm of which two mini-batches are done; sbatch writes down what it was told."""
    job = seal(tmp_path / "b4", compute=replace(COMPUTE, kind="slurm", slurm={}))
    score(job, [0, 1])
    return job


def refusing_sbatch(tmp_path: Path, text: str, *, before: int = 0) -> None:
    """From now on sbatch refuses; the first *before* calls are as they were."""
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.rename(tmp_path / "bin" / "willing")
    script = f'[ "$(grep -c sbatch {tmp_path}/slurm.log)" -lt {before} ] && exec {tmp_path}/bin/willing "$@"\n'
    sbatch.write_text(f"#!/bin/sh\n{script}echo 'sbatch: error: {text}' >&2\nexit 1\n")
    sbatch.chmod(0o755)


def test_a_merge_that_runs_while_tasks_of_its_round_are_alive_plans_nothing(
    slurm_job: JobDir, tmp_path: Path, slurm_log: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its dependency was on an id that Slurm had lost, or was met between a preemption and the requeue. Another merge
    waits for what is alive.
    """
    name = f"{slurm_job.record.slurm_name}.r0"
    line = f"7_0|7|{name}.w0-2|RUNNING|None|n1|0:09"
    (tmp_path / "bin" / "squeue").write_text(f"#!/bin/sh\ncase \"$*\" in *'-t all'*) ;; *) echo '{line}';; esac\n")
    assert run(slurm_job) == EXIT_PUBLISHED
    assert slurm_job.rounds() == [0]
    assert slurm_log.read_text() == f"sbatch {name}.m1\n"
    assert "--dependency=afterany:7" in next(slurm_job.paths.slurm.glob("*.sh")).read_text()
    assert "array 7 is still at work" in capfd.readouterr().out
    assert main([str(slurm_job.root), slurm_job.sha256, "0", "0"]) == EXIT_PUBLISHED
    assert slurm_log.read_text() == f"sbatch {name}.m1\n", "a second merge that is too early finds the first one's note"


def test_where_slurm_does_not_say_whether_tasks_are_alive_the_next_round_is_planned(
    slurm_job: JobDir, tmp_path: Path
) -> None:
    """A round too many is the smaller harm. Neither does it say then who cancelled what."""
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\nexit 1\n")
    assert run(slurm_job) == EXIT_PUBLISHED
    assert slurm_job.rounds() == [0, 1]


def test_what_a_submit_limit_held_back_is_submitted_by_the_merge_in_the_same_round(
    slurm_job: JobDir, slurm_log: Path
) -> None:
    """With the next merge behind it."""
    note = {"slurm_job_id": "7", "name": "x", "groups": 1}
    jobdir.publish_document(slurm_job.paths.round(0) / layout.array_name(0), note)
    jobdir.publish_document(slurm_job.paths.round(0) / layout.INTENT, {})
    assert main([str(slurm_job.root), slurm_job.sha256, "0", "0"]) == EXIT_PUBLISHED
    name = f"{slurm_job.record.slurm_name}.r0"
    calls = [line for line in slurm_log.read_text().splitlines() if line.startswith("sbatch")]
    assert calls == [f"sbatch {name}.w1-2", f"sbatch {name}.m1"]
    assert slurm_job.rounds() == [0]


def test_a_merge_that_may_not_submit_says_so_and_what_to_type(
    slurm_job: JobDir, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Compute nodes of some sites have no sbatch, or one that refuses; the plan of the next round stays."""
    refusing_sbatch(tmp_path, "Batch job submission failed: Access/permission denied")
    assert run(slurm_job) == EXIT_INCOMPLETE
    said = capfd.readouterr().out
    assert "this node could not submit the rest" in said
    assert f"hpcbatch job resume --name {slurm_job.record.name}" in said
    assert slurm_job.rounds() == [0, 1]
    reason = slurm_job.document(slurm_job.paths.round(1) / layout.REFUSED) or {}
    assert "Access/permission denied" in reason["message"]


LIMIT = "QOSMaxSubmitJobPerUserLimit"


@pytest.mark.parametrize("room", [0, 1], ids=["for nothing", "for one array task and no merge"])
def test_a_merge_that_a_submit_limit_refuses_is_queued_again(
    slurm_job: JobDir, tmp_path: Path, slurm_log: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """It keeps its place in the queue and needs no node meanwhile."""
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setattr(submission, "ROOM_S", 0.1)
    refusing_sbatch(tmp_path, LIMIT, before=room)
    assert run(slurm_job) == EXIT_PUBLISHED
    assert "scontrol requeue incomplete" in slurm_log.read_text()
    assert ("scancel --quiet 101_1" in slurm_log.read_text()) is bool(room), "one array task would have made room"
    assert not (slurm_job.paths.round(1) / layout.REFUSED).exists()


@pytest.mark.parametrize("room", [0, 1])
def test_a_merge_that_cannot_be_queued_again_either_leaves_it_to_job_resume(
    slurm_job: JobDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], room: int
) -> None:
    """Slurm refused the requeue, too."""
    monkeypatch.setattr(submission, "ROOM_S", 0.1)
    refusing_sbatch(tmp_path, LIMIT, before=room)
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$1" = requeue ] && exit 1\necho "MaxArraySize = 1001"\n')
    assert run(slurm_job) == (EXIT_PUBLISHED if room else EXIT_INCOMPLETE)
    assert ("job resume" if not room else "merge none, because of a submit limit") in capfd.readouterr().out
