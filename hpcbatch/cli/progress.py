"""The progress of a running job on stderr: a live bar for people, a plain line now and then for log files."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpcbatch.cli import render
from hpcbatch.operations.story import told

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
            yield _Live(
                bars, bars.add_task("", total=None, status="", told="", noun="items", start=False, visible=False)
            )
    else:
        yield PlainLines()


def _silent(progress: Progress) -> None:  # noqa: ARG001  # one of three callbacks
    return


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
        render.story(f"{progress.status}: {progress.items_done} of {progress.items} {progress.noun}, {told(progress)}")


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
            noun=progress.noun,
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
        TextColumn("{task.fields[noun]}  {task.fields[told]}", markup=False),
        console=Console(file=sys.stderr, highlight=False, markup=False, emoji=False),
        refresh_per_second=4,
        expand=True,
    )
