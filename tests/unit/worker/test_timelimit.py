"""Whether another mini-batch fits before the time limit, and how a worker learns when that is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcbatch.worker import timelimit
from hpcbatch.worker.timelimit import LAST_CALL_S, MARGIN, MAX_CUT_SHORT, RESERVE_S, Question, TimeLimit
from hpcbatch.worker.work import Queue, Work


def limit_in(seconds: float, **more: float) -> TimeLimit:
    return TimeLimit(end=time.monotonic() + seconds, **more)


def queue(limit: TimeLimit, count: int = 9, suspects: list[int] | None = None) -> Queue:
    return Queue(Work(iter(range(count)), suspects or [], {}, 0), limit)


def test_without_a_limit_everything_fits() -> None:
    limit = TimeLimit(longest_s=1e9)
    assert limit.fits()
    assert not limit.near
    assert limit.last_call == float("inf")


def test_what_takes_as_long_as_the_longest_must_fit_with_a_margin() -> None:
    """The reserve is for the last sync and for asking Slurm; what waits in the pipe must fit behind what runs."""
    limit = limit_in(MARGIN * 100 + RESERVE_S + 10)
    assert limit.fits()
    for seconds in (100, 3, 50):
        limit.took(seconds)
    assert limit.longest_s == 100
    assert limit.fits()
    assert not limit.fits(before=1)
    limit.took(110)
    assert not limit.fits()


def test_nothing_begins_in_the_last_seconds() -> None:
    assert not limit_in(RESERVE_S - 1).fits()
    assert limit_in(60).near
    assert limit_in(60).last_call == pytest.approx(time.monotonic() + 60 - LAST_CALL_S, abs=5)


def test_a_queue_hands_out_nothing_that_does_not_fit() -> None:
    """Once something was finished; what is left is not lost."""
    found = queue(limit_in(20, longest_s=100))
    assert found.next(idle=True) == 0, "an attempt in which nothing fits must try all the same"
    found.completed = 1
    assert found.next(idle=True) is None
    assert found.anything_left()
    found.limit.end = float("inf")
    assert [found.next(idle=True) for _ in range(10)] == [1, 2, 3, 4, 5, 6, 7, 8, None, None]
    assert not found.anything_left()


def test_the_order_of_a_queue() -> None:
    """What was taken back, new ones, failed ones, then suspects, alone."""
    found = queue(TimeLimit(), 2, [7])
    first = found.next(idle=True)
    assert first == 0
    found.put_back(first)
    found.again(5)
    found.again_alone(6)
    assert [found.next(idle=False) for _ in range(4)] == [0, 1, 5, None]
    assert [found.next(idle=True) for _ in range(3)] == [7, 6, None]
    assert [found.must_be_alone(n) for n in (5, 6, 7, None)] == [False, True, True, False]


def test_what_had_most_of_an_attempts_time() -> None:
    now = time.monotonic()
    limit = TimeLimit(end=now + 10, began=now - 200)
    assert limit.had_most_of_it(now - 95, first=now - 100)
    assert not limit.had_most_of_it(now - 80, first=now - 100), "as the first of the next attempt it may end in time"


def test_what_the_limit_cut_off_too_often() -> None:
    limit = TimeLimit(cut_short={3: MAX_CUT_SHORT - 1, 4: MAX_CUT_SHORT - 2})
    assert [limit.too_often(n) for n in (3, 4, 5)] == [True, False, False]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0:59", 59), ("59:30", 3570), ("2:00:00", 7200), ("1-00:00:01", 86401), ("UNLIMITED", float("inf")),
     ("INVALID", None), ("", None)],
)  # fmt: skip
def test_the_time_left_in_slurms_words(text: str, seconds: float | None) -> None:
    assert timelimit.parse_left(text) == seconds


@pytest.mark.parametrize(
    ("asked", "short"),
    [
        (None, False),
        (5, True),
        ("10", True),
        (11, False),
        ("9:59", True),
        ("1:00:00", False),
        ("1-0:00", False),
        ("0-2:00", False),
        ("0-0:10", True),
        ("0-1", False),
        ("0-0:10:01", False),
        ("garbage", False),
    ],
)
def test_short_limits(asked: object, short: bool) -> None:
    assert timelimit.is_short(asked) == short


def squeue(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that writes down its calls, and does *script*."""
    log = folder / "log"
    program = folder / "squeue"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n{script}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return log


def heard(question: Question) -> None:
    """The whole answer."""
    while not question.listen():
        pass


def test_slurm_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it says was true when it was asked, not when it was heard."""
    log = squeue(tmp_path, "echo 10:00; sleep 1.5", monkeypatch)
    limit = TimeLimit()
    question = Question(limit, "12_3", at_once=True)
    before = time.monotonic()
    assert question.ask() >= 0
    after = time.monotonic()
    heard(question)
    assert before + 600 <= limit.end <= after + 600
    assert question.ask() == -1
    assert log.read_text() == "-h -j 12_3 -o %L\n"


@pytest.mark.parametrize("script", ["exit 1", "echo UNLIMITED", ":"])
def test_a_slurm_that_does_not_know_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """And is not asked again."""
    log = squeue(tmp_path, script, monkeypatch)
    limit = TimeLimit()
    question = Question(limit, "12", at_once=True)
    assert question.ask() >= 0
    heard(question)
    assert question.ask() == -1
    assert limit.end == float("inf")
    assert log.read_text().count("\n") == 1


def test_short_array_tasks_ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand of them would be a thousand requests; those that last a minute are asked about."""
    asked: list[list[str]] = []

    def popen(command: list[str], **_: object) -> object:
        asked.append(command)
        raise OSError("not here")

    monkeypatch.setattr(timelimit.subprocess, "Popen", popen)
    limit = TimeLimit()
    question = Question(limit, "12", at_once=False)
    assert question.ask() == -1
    assert asked == []
    limit.began -= 2 * timelimit.ASK_AFTER_S
    assert [question.ask(), question.ask()] == [-1, -1]
    assert len(asked) == 1
    assert limit.end == float("inf")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 300), ("5:30", 330), ("1:00:00", 3600), ("2-3", 183600), ("2-3:04", 183840), ("2-3:04:05", 183845),
     ("0-2:00", 7200), ("", None), ("1-", None), ("-1", None), ("1:2:3:4", None), ("1h", None), ("5\n", None)],
)  # fmt: skip
def test_the_time_asked_for_in_sbatchs_words(text: str, seconds: float | None) -> None:
    assert timelimit.parse_asked(text) == seconds
