"""What a person sees of a job."""

from __future__ import annotations

from typing import Any

from hpcbatch.cli.invoke import invoked_card
from hpcbatch.cli.job_view import failure_lines, job_card, summary_lines

JOB: dict[str, Any] = {
    "name": "j1", "status": "Failed", "detail": "Too many failed.", "endpoint": "heart", "deployment": "first",
    "compute": "short", "items": 4, "mini_batches": 2, "groups": 1, "job_directory": "/ws/jobs/u/j1",
    "creation_context": {"created_at": "2026-01-01T00:00:00Z", "created_by": "u"},
    "inputs": {"input": {"path": "/data", "type": "uri_folder"}}, "outputs": {"score": {"path": "/ws/jobs/u/j1/out"}},
    "warnings": ["Own Python."],
    "slurm_jobs": [
        {"id": "1_0", "name": "hb-1", "state": "RUNNING", "reason": "None"},
        {"id": "1_1", "name": "hb-1", "state": "PENDING", "reason": "Resources"},
        {"id": "1_2", "name": "hb-1", "state": "PENDING", "reason": "Resources"},
    ],
    "progress": {
        "items_succeeded": 2, "items_failed": 1, "mini_batches_done": 1, "mini_batches_failed": 1, "attempts": 3,
        "failures": [
            {"mini_batch": 1, "type": "ValueError", "message": "bad", "try": 2, "of": 2, "stdout": "said\n",
             "traceback": "".join(f"line {n}\n" for n in range(30))},
            *({"group": n, "kind": "error_threshold", "message": ""} for n in range(6)),
        ],
    },
}  # fmt: skip


def test_failures_come_first() -> None:
    """The verdict's reason, the first failures, and what the script said under the first of them."""
    card = job_card(JOB)
    assert (card.title, card.status, card.bar) == ("j1", "Failed", (3, 4))
    assert card.alarms[:3] == ("Too many failed.", "mini-batch 1, try 2 of 2: ValueError: bad", "  | said")
    assert card.news == ("3 of 4 items, 1 failed; 1 of 2 mini-batches; groups: 1, attempts: 3",)
    assert card.commands == (("Read its logs", "hpcbatch job stream -n j1"),)


def test_long_quotes_and_many_failures_are_cut() -> None:
    """The end of a traceback says most; the rest is one query away."""
    lines = failure_lines(JOB["progress"])
    assert "  traceback: ... 10 lines before" in lines
    assert lines[-1].startswith("... and 2 more")
    assert lines[-2] == "group 3: error_threshold"


def test_where_things_are() -> None:
    """Deployment, places and the state of the queue in a few lines; nothing empty."""
    fields = dict(job_card(JOB).fields)
    assert fields["deployment"] == "heart / first"
    assert fields["output"] == "/ws/jobs/u/j1/out"
    assert fields["slurm"] == "2 PENDING (Resources), 1 RUNNING"
    assert fields["warning"] == "Own Python."
    assert fields["created"] == "2026-01-01T00:00:00Z by u"


def test_what_to_do_next_depends_on_the_status() -> None:
    """Follow what runs, resume what stalled, fetch what is done."""
    commands = {
        status: [command for _, command in job_card({**JOB, "status": status}).commands]
        for status in ("Running", "NotResponding", "Completed")
    }
    assert commands == {
        "Running": ["hpcbatch job stream -n j1", "hpcbatch job cancel -n j1"],
        "NotResponding": ["hpcbatch job resume -n j1"],
        "Completed": ["hpcbatch job download -n j1"],
    }


def test_a_job_that_was_not_looked_into() -> None:
    """invoke and cancel answer without counts: no bar then."""
    card = job_card({"name": "j1", "status": "Queued", "detail": "Waiting (Priority)."})
    assert (card.bar, card.news, card.alarms) == (None, ("Waiting (Priority).",), ())


def test_what_invoke_says() -> None:
    """The name, and how to go on; if the job has ended by then, how it ended."""
    card = invoked_card({**JOB, "status": "Queued"})
    assert (card.title, card.status) == ("j1", "Queued")
    assert ("Follow", "hpcbatch job stream -n j1") in card.commands
    assert ("deployment", "first") in card.fields
    assert invoked_card(JOB) == job_card(JOB)


def test_failures_are_counted_by_cause_and_the_time_is_told() -> None:
    """Between the counts and the cost."""
    progress = {**JOB["progress"], "failures_by_cause": {"timeout": 1, "exception": 2}, "elapsed_s": 754}
    assert job_card({**JOB, "progress": progress}).news[1:] == (
        "failed mini-batches by cause: 2 exception, 1 timeout",
        "12:34 from the invocation to the end",
    )


def test_the_end_of_a_stream() -> None:
    """In the frame that az prints, with the verdict and the counts."""
    lines = summary_lines({**JOB, "progress": {**JOB["progress"], "output": {"path": "/out/p.csv"}, "failures": []}})
    assert lines == [
        "",
        "Execution Summary",
        "=================",
        "RunId: j1",
        "Web View: file:///ws/jobs/u/j1",
        "Status: Failed",
        "Detail: Too many failed.",
        "Progress: 3 of 4 items, 1 failed; 1 of 2 mini-batches; groups: 1, attempts: 3",
        "Output: /out/p.csv",
    ]


def test_a_long_message_is_said_once() -> None:
    """MLflow's are a page long, and come in the verdict, in the failure, and twice in its traceback."""
    words = "MlflowException: Failed to enforce schema of data " + "of column c, " * 30 + "\nwith schema c: double"
    message = f"Error processing input file: '/data/a.csv'. {words}"
    traceback = (
        f'Traceback (most recent call last):\n  File "m.py", line 1, in f\nmlflow.exceptions.{words}\n\n'
        "The above exception was the direct cause of the following exception:\n\n"
        f'Traceback (most recent call last):\n  File "m.py", line 2, in run\nInputFileError: {message}\n'
    )
    failure = {"mini_batch": 0, "type": "InputFileError", "message": message, "try": 3, "of": 3, "traceback": traceback}
    assert "\n".join(failure_lines({"failures": [failure]})).count("enforce schema") == 1
    for detail in ("Too many failed.", f"Nothing was scored. mini-batch 0: InputFileError: {message}"):
        job = {**JOB, "detail": detail, "progress": {**JOB["progress"], "failures": [failure]}}
        assert "\n".join(job_card(job).alarms).count("enforce schema") == 1
        shown = "\n".join(summary_lines(job))
        assert shown.count("enforce schema") == shown.count("with schema c: double") == 1
        assert "  | mlflow.exceptions.MlflowException: (see above)" in shown
        assert "  | InputFileError: (see above)" in shown
        assert '  |   File "m.py", line 2, in run' in shown
