"""Waiting for a job: what a log file and what a person sees."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import pytest

from hpcbatch.cli import progress, render
from hpcbatch.operations import story
from hpcbatch.operations.progress import Progress

START = Progress(
    items=8, items_done=0, items_failed=0, mini_batches=4, mini_batches_done=0, elapsed_s=0.0, rate_per_s=0.0,
    eta_s=None, status="Queued",
)  # fmt: skip
HALF = replace(START, items_done=4, items_failed=1, mini_batches_done=2, rate_per_s=2.0, eta_s=125.0, status="Running")
DONE = replace(HALF, items_done=8, mini_batches_done=4, eta_s=0.0)


def test_in_words() -> None:
    """Rate, time left and failures; nothing is said about what is not known."""
    assert story.told(START) == "0 failed"
    assert story.told(HALF) == "2.0 items/s, 2:05 left, 1 failed"
    assert story.told(DONE) == "2.0 items/s, 1 failed"
    assert story.told(replace(HALF, rate_per_s=1234.5)).startswith("1234 items/s")
    assert story.told(replace(HALF, rate_per_s=0.0123)).startswith("0.012 items/s")


def test_a_log_file_gets_a_line_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """When the status changes, every few seconds, and when all items are done; not more."""
    clock = iter([0.0, 1.0, 2.0, 3.0, 14.0, 15.0, 16.0])
    lines = progress.PlainLines(10.0, lambda: next(clock))
    for each in (START, START, HALF, HALF, HALF, DONE):
        lines(each)
    assert capsys.readouterr().err.splitlines() == [
        "Queued: 0 of 8 items, 0 failed",
        "Running: 4 of 8 items, 2.0 items/s, 2:05 left, 1 failed",
        "Running: 4 of 8 items, 2.0 items/s, 2:05 left, 1 failed",
        "Running: 8 of 8 items, 2.0 items/s, 1 failed",
    ]


def test_without_a_terminal_lines_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """stderr in a file holds lines, no bar."""
    with progress.reporter() as report:
        report(HALF)
    captured = capsys.readouterr()
    assert (captured.out, captured.err.count("\n")) == ("", 1)


def test_only_errors_means_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    """`--only-show-errors` is meant."""
    render.configure(only_errors=True)
    try:
        with progress.reporter() as report:
            report(HALF)
    finally:
        render.configure(only_errors=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("columns", [80, 120])
def test_a_person_sees_a_bar(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal: status, bar, items, rate, time left and failures on one line that fits."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    with contextlib.redirect_stderr(stream), progress.reporter() as report:
        for each in (START, HALF):
            report(each)
    last = render.clean(stream.getvalue().replace("\r", "\n")).splitlines()[-1].rstrip()
    assert last.startswith("Running")
    assert last.endswith("4/8 items  2.0 items/s, 2:05 left, 1 failed")
    assert len(last) <= columns
