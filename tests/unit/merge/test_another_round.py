"""A merge that finds a reason to go on otherwise than before: what it plans, says and keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import lessons_of
from hpcbatch.merge.entry import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_PUBLISHED, merge_job
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds import standing, submission
from hpcbatch.scheduler import slurm_commands
from tests.unit.jobdir.sealed import COMPUTE, commit, end, score, seal

INIT = {"kind": "init", "type": "OSError", "message": "no GPU"}


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    return seal(tmp_path / "b1")


def begin(job: JobDir, group: int, node: str, round_number: int = 0) -> AttemptWriter:
    make_directory(job.paths.group(round_number, group))
    about = {"node": node, "memory_mib": 2048, "cores": 2}
    folder = job.paths.group(round_number, group)
    return AttemptWriter(folder, job=job.record.uuid_bytes, group=group, epoch=1, about=about)


def gave_up(job: JobDir, group: int, node: str, round_number: int = 0) -> None:
    writer = begin(job, group, node, round_number)
    writer.note(Kind.ABORT, INIT)
    writer.close()


def finished(job: JobDir, group: int, node: str) -> None:
    writer = begin(job, group, node)
    writer.init_ended(5)
    for mini_batch in job.plan(0).mini_batches(group):
        commit(writer, mini_batch)
    end(writer)


def test_init_that_fails_on_one_node_only_gets_two_more_rounds(job: JobDir) -> None:
    """Then it is not the node's fault, and the job fails with the words of the script."""
    finished(job, 0, "n1")
    gave_up(job, 1, "n2")
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    gave_up(job, 0, "n3", 1)
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    gave_up(job, 0, "n4", 2)
    code, text = merge_job(job)
    assert (code, text.startswith("ERROR: init() failed: no GPU")) == (EXIT_FAILED, True)
    assert job.rounds() == [0, 1, 2]


def test_init_that_fails_everywhere_fails_the_job(job: JobDir) -> None:
    gave_up(job, 0, "n1")
    gave_up(job, 1, "n2")
    assert merge_job(job)[0] == EXIT_FAILED


def test_what_was_learned_is_said_kept_and_told_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In the log of the merge, for the workers of the next round, and in the summary, with what it has cost."""
    slurm = replace(COMPUTE, kind="slurm", slurm={"mem": "2G"})
    job = seal(tmp_path / "b2", compute=slurm)
    monkeypatch.setattr(slurm_commands, "call", lambda *_: "")
    finished(job, 0, "n1")
    writer = begin(job, 1, "n1")
    for _ in range(2):
        writer.start(3)
        writer.fail(3, {"kind": "memory"}, final=False, failed_items=0, memory=True)
    writer.note(Kind.END)
    writer.close()
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    line = "mini-batch 3 was killed for memory at 2G; round 1 asks for 4G"
    assert capfd.readouterr().out == f"-- {line}\n"
    assert lessons_of(job, 1).story == (line,)
    monkeypatch.setattr(slurm_commands, "largest_memory_mib", lambda partition: 3000)
    assert submission._array(job, 1, (0, 1), []).slurm["mem"] == "3000M", "no node has 4G"
    score(job, [3, 4, 5], round_number=1)
    assert merge_job(job)[0] == EXIT_PUBLISHED
    verdict = job.verdict() or {}
    assert verdict["story"] == [line]
    assert verdict["accounting"]["memory_kills"] == 2
    assert verdict["accounting"]["recomputed_mini_batches"] == 0


def test_slurm_says_how_array_tasks_ended_and_where(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this round's arrays, by the group that each task had; a Slurm that does not answer says nothing."""
    name = f"{job.record.slurm_name}.r0."
    lines = f"{name}w0-5|2|OUT_OF_MEMORY|n1\n{name}w5-9|1|FAILED|n2\n{name}m||COMPLETED|n1\n{name}w9-10|N/A|PENDING|\n"
    monkeypatch.setattr(slurm_commands, "call", lambda *_: lines + "other|0|FAILED|n9\n")
    assert [(e.group, e.state, e.node) for e in standing.ends(job, 0)] == [
        (2, "OUT_OF_MEMORY", "n1"),
        (6, "FAILED", "n2"),
    ]

    def silent(*_: object) -> str:
        raise slurm_commands.SchedulerError("no answer", hint="later")

    monkeypatch.setattr(slurm_commands, "call", silent)
    assert standing.ends(job, 0) == []
    assert slurm_commands.largest_memory_mib("normal") == 0


@pytest.mark.parametrize(("text", "most"), [("64000\n128000+\n", 128000), ("", 0), ("N/A\n", 0)])
def test_the_memory_of_the_largest_node(text: str, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []
    monkeypatch.setattr(slurm_commands, "call", lambda words: asked.append(words) or text)
    assert slurm_commands.largest_memory_mib("big") == most
    assert slurm_commands.largest_memory_mib("") == most
    assert asked == [["sinfo", "-h", "-p", "big", "-o", "%m"], ["sinfo", "-h", "-o", "%m"]]
