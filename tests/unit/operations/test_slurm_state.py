"""What is said of a job on Slurm: by its files and the lines of the queue, without a cluster."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.operations import slurm_state
from hpcbatch.operations.status import OneLook, status_of
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, State
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


def test_waiting_running_and_merging(job: JobDir) -> None:
    assert said(job, task(job, "[0-3]", State.PENDING, "Priority"), merge(job)) == (
        "Queued", "Waiting in the queue (Priority).",
    )  # fmt: skip
    running = said(job, task(job, "0", State.RUNNING), task(job, "[1-3]", State.PENDING, "JobArrayTaskLimit"))
    assert running == ("Running", "1 array tasks are running.")
    assert said(job, merge(job, State.RUNNING)) == ("Finalizing", "The merge is running or waiting to.")


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("QOSMaxJobsPerUserLimit", "a limit of your account or its QOS"),
        ("AssocGrpCpuLimit", "a limit of your account or its QOS"),
        ("PartitionDown", "runs none now"),
        ("DependencyNeverSatisfied", "will never come: hpcbatch job cancel"),
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
    word, detail = said(job, task(job, "0", State.RUNNING), held)
    assert (word, detail.startswith("1 array tasks are running. Held (")) == ("Running", True)
    assert said(job, merge(job, State.HELD, "JobHeldUser"))[1].startswith("Held (JobHeldUser)")


def test_what_was_requeued_waits_to_run_again(job: JobDir) -> None:
    assert said(job, task(job, "0", State.PENDING, "BeginTime"), merge(job))[1] == (
        "1 array tasks wait to run again (requeued)."
    )
    assert said(job, merge(job, State.PENDING, "BeginTime")) == ("Finalizing", "The merge waits to run again.")


def test_array_tasks_that_slurm_believes_to_run_and_that_have_ended_are_told_apart(job: JobDir) -> None:
    """A ledger that ends with END is the word of the task itself."""
    score(job, [0, 1], group=0)
    begin(job, 1).close()
    entries = [task(job, "0", State.RUNNING), task(job, "1", State.RUNNING), task(job, "2", State.COMPLETING)]
    word, detail = said(job, *entries)
    assert word == "Running"
    assert f"1 of them have ended, which Slurm has not noticed yet. Do not wait: {RESUME}" in detail
    assert slurm_state.phantoms(job, entries) == entries[:1]
    assert slurm_state.phantoms(job, [replace(entries[0], name="another")]) == []


def test_what_a_submit_limit_kept_out_is_said(tmp_path: Path) -> None:
    job = seal(tmp_path / "b1", Size(groups=4), compute=replace(COMPUTE, kind="slurm", slurm={}))
    assert slurm_state.submission_is_unfinished(job)
    note(job, layout.array_name(0), "7", groups=3)
    detail = said(job, task(job, "[0-2]", State.PENDING, "Resources"))[1]
    assert "1 groups are held back by a limit on submitted jobs" in detail
    assert f"left no room for the merge. Submit it: {RESUME}" in detail
    note(job, layout.MERGE_ID, "8")
    note(job, layout.array_name(3), "9", groups=1)
    assert said(job, task(job, "[0-2]", State.PENDING, "Resources"))[1] == "Waiting in the queue (Resources)."
    assert not slurm_state.submission_is_unfinished(job)


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


def test_a_slurm_that_does_not_answer_leaves_a_guess(job: JobDir) -> None:
    """From the files: a job that was canceled is not said to run."""

    def silent(prefix: str, user: str = "") -> list[Entry]:
        raise SchedulerError("Unable to contact slurm controller.")

    assert status_of(job, silent).word == "Running"
    jobdir.publish_document(job.paths.canceled, {})
    assert status_of(job, silent).word == "CancelRequested"


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
