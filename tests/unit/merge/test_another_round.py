"""A merge that finds a reason to go on otherwise than before: what it plans, says and keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import Lessons, lessons_of, publish_lessons
from hpcbatch.merge import going_on as merging
from hpcbatch.merge.entry import EXIT_FAILED, EXIT_INCOMPLETE, EXIT_PUBLISHED, MAX_BARREN_ROUNDS, merge_job
from hpcbatch.operations import going_on, slurm_state
from hpcbatch.operations.status import status_of
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds import standing, submission
from hpcbatch.rounds.submission import RoundIds
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Preemption
from tests.unit.jobdir.sealed import COMPUTE, Size, commit, end, score, seal

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
    assert (code, text.startswith("ERROR: init() failed: OSError: no GPU")) == (EXIT_FAILED, True)
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
    assert submission._array(job, 1, (0, 1), [], Preemption()).slurm["mem"] == "3000M", "no node has 4G"
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


def test_a_merge_goes_without_the_nodes_that_array_tasks_could_not_start_on(tmp_path: Path) -> None:
    """It would die there as they did, and nothing would go on."""
    compute = replace(COMPUTE, kind="slurm", slurm={"exclude": "n9", "merge": {"mem": "1G", "exclude": "n8"}})
    job = seal(tmp_path / "b2", compute=compute)
    publish_lessons(job, 1, Lessons(excluded_nodes=("n1", "n2")))
    assert submission._merge(job, 0, 0, []).slurm == {"mem": "1G", "exclude": "n8"}
    assert submission._merge(job, 1, 0, []).slurm == {"mem": "1G", "exclude": "n8,n1,n2"}
    assert submission._array(job, 1, (0, 1), [], Preemption()).slurm["exclude"] == "n9,n1,n2"


def test_resume_goes_by_what_the_rounds_have_taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The merge that would have learned it died: on the node that two array tasks could not start on, too."""
    compute = replace(COMPUTE, kind="slurm", throttle=3, slurm={"mem": "2G"})
    job = seal(tmp_path / "b2", Size(groups=3), compute=compute)
    name = job.record.slurm_name
    finished(job, 0, "n2")
    for note, number in ((layout.array_name(0), "7"), (layout.MERGE_ID, "8")):
        jobdir.publish_document(job.paths.round(0) / note, {"slurm_job_id": number, "groups": 3})
    ended = f"{name}.r0.w0-3|1|FAILED|n1\n{name}.r0.w0-3|2|FAILED|n1\n"
    monkeypatch.setattr(slurm_commands, "call", lambda words, *_: ended if "%j|%K|%T|%N" in words else "")
    submitted: list[int] = []
    monkeypatch.setattr(going_on, "submit", lambda _, number: submitted.append(number))
    words = "The merge, Slurm job 8, ended without a word. Stalled: nothing runs, and it has no verdict. Continue it: "
    assert status_of(job).detail == f"{words}hpcbatch job resume --name b2"
    going_on.resume(job)
    assert submitted == [1]
    assert lessons_of(job, 1).excluded_nodes == ("n1",)
    (job.paths.slurm / "8_0_log.out").write_text("setup\n-- 4 mini-batches have no result yet\n")
    assert slurm_state._words_of(job, "8_0_log.out") == "4 mini-batches have no result yet"


def test_leftovers_are_cut_anew_for_as_many_array_tasks_as_run_at_once(tmp_path: Path) -> None:
    """Not for the groups that they came from."""
    job = seal(tmp_path / "b1", Size(items=80, groups=4))
    score(job, range(3, 40))
    assert merge_job(job)[0] == EXIT_INCOMPLETE
    plan = job.plan(1)
    assert [list(plan.mini_batches(n)) for n in range(plan.groups)] == [[0, 1], [2]]


def test_a_merge_that_is_repeated_plans_the_same_round(job: JobDir) -> None:
    """Killed after it planned and before it was known, or run twice: three such merges would end the job."""
    score(job, [0])
    for _ in range(MAX_BARREN_ROUNDS + 1):
        assert merge_job(job, 0)[0] == EXIT_INCOMPLETE
        assert job.rounds() == [0, 1]


def test_what_waits_for_a_merge_that_goes_on_waits_for_the_next_one(
    job: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is no output yet. Outside of Slurm nothing can wait for it."""
    moved: list[tuple[str, str]] = []
    monkeypatch.setattr(merging, "submit_round", lambda *_, **__: RoundIds(("11",), "12"))
    monkeypatch.setattr(merging, "hand_over", lambda before, after: moved.append((before, after)))
    for environ in ({"SLURM_JOB_ID": "9"}, {}):
        assert merging.go_on(job, 0, 0, too_early=False, environ=environ) == (True, "submitted: array 11, merge 12")
    assert moved == [("9", "12")]
