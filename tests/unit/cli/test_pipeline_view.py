"""What a person sees of a pipeline job."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.job_view import job_card, summary_lines


def step(name: str, status: str, *parents: str, **more: Any) -> dict[str, Any]:
    return {"name": f"job-1.{name}", "display_name": name, "status": status, "depends_on": list(parents), **more}


def job(status: str = "Failed", **steps: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "job-1", "status": status, "detail": "1 of 2 steps failed: a." if status == "Failed" else "",
        "jobs": steps, "inputs": {"data": {"type": "uri_folder", "path": "/in"}, "n": {"type": "integer", "value": 7}},
        "outputs": {"o": {"type": "uri_folder", "path": "/out"}}, "endpoint": "e", "deployment": "d",
        "job_directory": "/jobs/job-1", "creation_context": {"created_at": "2026", "created_by": "me"},
    }  # fmt: skip


def test_a_failed_job_says_what_failed_and_what_to_type() -> None:
    card = job_card(job(a=step("a", "Failed", detail="exit code 3"), b=step("b", "NotStarted", "a")))
    assert card.alarms == ("1 of 2 steps failed: a.",)
    assert [line.split()[:3] for line in card.news] == [["x", "a", "Failed"], ["└", "b", "NotStarted"]]
    assert card.commands[0] == ("Look at the step", "hpcbatch job show -n job-1.a")
    assert ("input n", 7) in card.fields
    assert ("output o", "/out") in card.fields


def test_a_running_job_can_be_followed_and_ended() -> None:
    card = job_card(job("Running", a=step("a", "Completed", reused={"job": "job-0"}), b=step("b", "Running", "a")))
    assert "reused from job-0" in card.news[0]
    assert card.bar == (1, 2)
    assert [label for label, _ in card.commands] == ["Follow", "End"]


def test_a_failed_step_shows_the_end_of_what_it_printed() -> None:
    about = step("a", "Failed", detail="exit code 3", parent_job_name="job-1", tail="one\ntwo", outputs={}, log="/log")
    card = job_card(about)
    assert card.alarms == ("exit code 3", "| one", "| two")
    assert card.commands == (("Read its log", "hpcbatch job stream -n job-1.a"),)


def test_the_summary_of_a_stream_has_the_graph() -> None:
    lines = summary_lines(job(a=step("a", "Failed"), b=step("b", "NotStarted", "a")))
    assert "Steps: 1 Failed, 1 NotStarted" in lines
    assert lines[-1].split() == ["└", "b", "NotStarted", "<-", "a"]
