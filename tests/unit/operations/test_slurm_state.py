"""What is said of a job on Slurm: by its files and the lines of the queue, without a cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.operations import going_on, slurm_state
from hpcbatch.operations.status import OneLook, progress_of, status_of
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, State
from hpcbatch.worker import listening
from hpcbatch.worker.loop import Canceled
from tests.unit.jobdir.sealed import COMPUTE, Size, begin, score, seal


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    """Four groups, all submitted, with a merge."""
    job = seal(tmp_path / "b1", Size(groups=4), compute=replace(COMPUTE, kind="slurm", slurm={}))
    note(job, layout.array_name(0), "7", groups=4)
    note(job, layout.MERGE_ID, "8")
    return job


def note(job: JobDir, name: str, slurm_job_id: str, **more: int) -> None:
    jobdir.publish_document(job.paths.round(0) / name, {"slurm_job_id": slurm_job_id, "name": "x", **more})


def task(job: JobDir, index: str, state: State, reason: str = "None") -> Entry:
    """A line of array 7."""
    return Entry(f"7_{index}", "7", f"{job.record.slurm_name}.r0.w0-4", state, reason, "", "0:00")


def merge(job: JobDir, state: State = State.PENDING, reason: str = "Dependency") -> Entry:
    return Entry("8", "8", f"{job.record.slurm_name}.r0.m", state, reason, "", "0:00")


def said(job: JobDir, *entries: Entry) -> tuple[str, str]:
    found = status_of(job, lambda prefix, user="": list(entries))
    return found.word, found.detail


RESUME = "hpcbatch job resume --name b1"
STALLED = f"Stalled: nothing runs, and it has no verdict. Continue it: {RESUME}"


def test_waiting_running_and_merging(job: JobDir) -> None:
    assert said(job, task(job, "[0-3]", State.PENDING, "Priority"), merge(job)) == (
        "Queued", "Waiting in the queue (Priority).",
    )  # fmt: skip
    running = said(
        job, task(job, "0", State.RUNNING), task(job, "[1-3]", State.PENDING, "JobArrayTaskLimit"), merge(job)
    )
    assert running == ("Running", "1 array task is running.")
    assert said(job, merge(job, State.RUNNING)) == ("Finalizing", "The merge is running or waiting to.")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("QOSMaxJobsPerUserLimit", "a limit of your account or its QOS"),
        ("AssocGrpCpuLimit", "a limit of your account or its QOS"),
        ("PartitionDown", "runs none now"),
        ("DependencyNeverSatisfied", "never comes. End it, then invoke again: hpcbatch job cancel --name b1"),
        ("ReqNodeNotAvail, May be reserved for other job", "reserved, drained or down"),
    ],
)
def test_a_reason_that_needs_words_has_them(job: JobDir, reason: str, words: str) -> None:
    assert words in said(job, task(job, "[0-3]", State.PENDING, reason), merge(job))[1]


def test_held_is_said_first_with_the_command_that_helps(job: JobDir) -> None:
    """Also of a part, while others run; also of the merge."""
    held = task(job, "3", State.HELD, "launch failed requeued held")
    assert said(job, held, merge(job)) == (
        "Queued", f"Held (launch failed requeued held). Let it run: {RESUME}",
    )  # fmt: skip
    word, detail = said(job, task(job, "0", State.RUNNING), held, merge(job))
    assert (word, detail.startswith("1 array task is running. Held (")) == ("Running", True)
    assert said(job, merge(job, State.HELD, "JobHeldUser"))[1].startswith("Held (JobHeldUser)")


def test_what_was_requeued_waits_to_run_again(job: JobDir) -> None:
    assert said(job, task(job, "0", State.PENDING, "BeginTime"), merge(job))[1] == (
        "1 array task waits to run again (requeued)."
    )
    assert said(job, merge(job, State.PENDING, "BeginTime")) == ("Finalizing", "The merge waits to run again.")


def test_array_tasks_that_slurm_believes_to_run_and_that_have_ended_are_told_apart(job: JobDir) -> None:
    """A ledger that ends with END is the word of the task itself."""
    score(job, [0, 1], group=0)
    begin(job, 1).close()
    entries = [task(job, "0", State.RUNNING), task(job, "1", State.RUNNING), task(job, "2", State.COMPLETING)]
    word, detail = said(job, *entries)
    assert word == "Running"
    assert f"1 of them have ended, which Slurm has yet to notice. If it does not: {RESUME}" in detail
    assert slurm_state.phantoms(job, entries) == entries[:1]
    assert slurm_state.phantoms(job, [replace(entries[0], name="another")]) == []


def test_what_a_submit_limit_kept_out_is_said(tmp_path: Path) -> None:
    job = seal(tmp_path / "b1", Size(groups=4), compute=replace(COMPUTE, kind="slurm", slurm={}))
    assert slurm_state.submission_is_unfinished(job)
    note(job, layout.array_name(0), "7", groups=3)
    detail = said(job, task(job, "[0-2]", State.PENDING, "Resources"))[1]
    assert "1 group is held back by a limit on submitted jobs" in detail
    assert f"left no room for the merge. Submit it: {RESUME}" in detail
    note(job, layout.MERGE_ID, "8")
    note(job, layout.array_name(3), "9", groups=1)
    waiting = said(job, task(job, "[0-2]", State.PENDING, "Resources"), merge(job))
    assert waiting[1] == "Waiting in the queue (Resources)."
    assert not slurm_state.submission_is_unfinished(job)


def test_a_merge_that_somebody_cancelled_alone_is_missed_while_its_array_runs(job: JobDir) -> None:
    """Nothing would be behind the array: unless its last task can publish, the job would stand still unseen."""
    running = task(job, "0", State.RUNNING)
    assert said(job, running) == (
        "Running",
        f"1 array task is running. The merge behind them, Slurm job 8, has left the queue. Submit another: {RESUME}",
    )
    assert "has left the queue" not in said(job, running, merge(job, State.HELD, "JobHeldUser"))[1]


def test_a_merge_that_was_submitted_after_the_look_at_the_queue_is_not_missed(tmp_path: Path) -> None:
    """`invoke` in another shell notes it between the two looks of `job show`."""
    job = seal(tmp_path / "b1", Size(groups=4), compute=replace(COMPUTE, kind="slurm", slurm={}))
    note(job, layout.array_name(0), "7", groups=4)

    def queue(prefix: str, user: str = "") -> list[Entry]:
        note(job, layout.MERGE_ID, "8")
        return [task(job, "[0-3]", State.PENDING, "Priority")]

    assert status_of(job, queue).detail == "Waiting in the queue (Priority)."


def test_a_round_that_a_compute_node_could_not_submit_names_the_node_and_the_reason(
    job: JobDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm_commands, "history", lambda ids, since: {"7": "COMPLETED"})
    word, detail = said(job)
    assert (word, "Accounting says: 1 x COMPLETED." in detail) == ("NotResponding", True)
    jobdir.add_plan(job, 1, (job.paths.round(0) / layout.PLAN).read_bytes())
    jobdir.publish_document(job.paths.round(1) / layout.REFUSED, {"node": "n7", "message": "Access denied."})
    assert said(job) == (
        "NotResponding", f"Stalled: n7 could not submit round 1: Access denied. Submit it from here: {RESUME}",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("log", "detail"),
    [
        ("-- ERROR: 'out.csv' is taken.\nMove it away.\n",
         f"Stalled: 'out.csv' is taken. When that is put right: {RESUME}"),
        (f"-- 3 are missing\n-- ERROR: Not from here. On a login node: {RESUME}\n",
         f"Stalled: Not from here. On a login node: {RESUME}"),
        ("-- ERROR: 'out.csv' is taken.\n-- published out.csv\n", STALLED),
        ("slurmstepd: error: Killed\n", f"The merge, Slurm job 8, ended without a word. {STALLED}"),
    ],
)  # fmt: skip
def test_a_merge_that_could_not_publish_is_quoted(
    job: JobDir, monkeypatch: pytest.MonkeyPatch, log: str, detail: str
) -> None:
    """To go on is in vain until the reason is gone: an output folder that was deleted, say."""
    monkeypatch.setattr(slurm_commands, "history", lambda ids, since: {})
    (job.paths.slurm / "8_0_log.out").write_text(log)
    assert said(job) == ("NotResponding", detail)


def test_what_was_begun_is_lost_when_nothing_runs_any_more(job: JobDir) -> None:
    """A canceled job, or one that stands still, has no summary: its cost is told from the ledgers."""
    writer = begin(job, 1)
    writer.start(5)
    writer.close()
    found = [progress_of(job, over=over)["accounting"]["deaths"] for over in (False, True)]
    assert found == [0, 1]


def test_a_slurm_that_does_not_answer_leaves_a_guess(job: JobDir) -> None:
    """From the files: a job that was canceled is not said to run."""

    def silent(prefix: str, user: str = "") -> list[Entry]:
        raise SchedulerError("Unable to contact slurm controller.")

    assert status_of(job, silent).word == "Running"
    jobdir.publish_document(job.paths.canceled, {})
    found = status_of(job, silent)
    assert (found.word, found.detail[-34:]) == ("CancelRequested", "not: hpcbatch job cancel --name b1")
    live = status_of(job, lambda prefix, user="": [task(job, "0", State.RUNNING)])
    assert (live.word, live.detail) == (
        "CancelRequested", "Its Slurm jobs are about to end. If they do not: hpcbatch job cancel --name b1",
    )  # fmt: skip


def test_a_job_is_canceled_also_where_slurm_does_not_answer(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs hears of it from the files; the error says so, and how to be quicker."""

    def silent(prefix: str, user: str = "") -> list[Entry]:
        raise SchedulerError("Unable to contact slurm controller.", transient=True)

    monkeypatch.setattr(slurm_commands, "queue", silent)
    with pytest.raises(SchedulerError, match="'b1' is canceled: nothing of it begins any more") as caught:
        going_on.cancel(job)
    assert (caught.value.hint, caught.value.fields["transient"]) == (
        "Ask it again: hpcbatch job cancel --name b1", True,
    )  # fmt: skip
    assert job.canceled()
    monkeypatch.setattr(listening, "FENCE_CHECK_S", 0.0)
    with pytest.raises(Canceled):
        listening.for_a_later_attempt(job, 0, 0, 1)()


def test_jobs_of_others_are_looked_for_in_their_owners_queue(job: JobDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each owner, for lists of jobs."""
    asked = []

    def queue(prefix: str, user: str = "") -> list[Entry]:
        asked.append(user)
        return [task(job, "0", State.RUNNING)]

    monkeypatch.setattr(slurm_commands, "queue", queue)
    look = OneLook()
    assert [status_of(job, look).word for _ in range(2)] == ["Running"] * 2
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    assert [status_of(job, look).word for _ in range(2)] == ["Running"] * 2
    assert asked == ["", str(job.root.stat().st_uid)]
