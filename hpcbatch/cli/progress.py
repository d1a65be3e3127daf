"""The progress of a running job on stderr: a live bar for people, a plain line now and then for log files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpcbatch.cli import render

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from hpcbatch.operations.progress import Progress

PLAIN_LINE_EVERY_S = 10.0


@contextmanager
def reporter() -> Iterator[Callable[[Progress], None]]:
    """A callback that shows each `Progress` it is given; a bar is taken away or left whole at the end."""
    if render.is_quiet():
        yield _silent
    elif render.is_terminal(sys.stderr):
        with _bars() as bars:
            yield _Live(bars, bars.add_task("", total=None, status="", told="", start=False, visible=False))
    else:
        yield PlainLines()


def _silent(progress: Progress) -> None:  # noqa: ARG001  # one of three callbacks
    return


def told(progress: Progress) -> str:
    """Rate, time left and failures in words: `12.5 items/s, 2:05 left, 3 failed`."""
    words = []
    if progress.rate_per_s > 0:
        words.append(f"{_rate(progress.rate_per_s)} items/s")
    if progress.eta_s is not None and progress.items_done < progress.items:
        words.append(f"{clock(progress.eta_s)} left")
    words.append(f"{progress.items_failed} failed")
    return ", ".join(words)


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:00:05`, `2 d 04:00`."""
    whole = round(max(0.0, seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}"
    return f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.1f}" if per_s >= 1 else f"{per_s:.2g}"


class PlainLines:
    """Says a line when the status changes, every few seconds, and at the end."""

    def __init__(self, every_s: float = PLAIN_LINE_EVERY_S, now: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._now = now
        self._last: tuple[float, Progress] | None = None

    def __call__(self, progress: Progress) -> None:
        """Say it, unless the last line still tells enough."""
        if self._last is not None:
            said_at, before = self._last
            finished = progress.items_done == progress.items != before.items_done
            if progress.status == before.status and not finished and self._now() - said_at < self._every_s:
                return
        self._last = (self._now(), progress)
        render.story(f"{progress.status}: {progress.items_done} of {progress.items} items, {told(progress)}")


class _Live:
    """Feeds a rich progress bar."""

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task
        self._started = False

    def __call__(self, progress: Progress) -> None:
        if progress.items_done and not self._started:
            self._started = True
            self._bars.start_task(self._task)
        self._bars.update(
            self._task,
            total=progress.items or None,
            completed=progress.items_done,
            status=progress.status,
            told=told(progress),
            visible=True,
        )


def _bars() -> Bars:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bars

    return Bars(
        TextColumn("{task.fields[status]}", style="bold"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("items  {task.fields[told]}", markup=False),
        console=Console(file=sys.stderr, highlight=False, markup=False, emoji=False),
        refresh_per_second=4,
        expand=True,
    )
