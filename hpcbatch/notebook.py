"""In Jupyter: progress that is drawn in place. Loaded by the first public name that a kernel uses."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hpcbatch.client import html
from hpcbatch.client.progress import SHOWS, Look
from hpcbatch.operations.progress import Progress
from hpcbatch.operations.story import told

_REDRAW_S = 0.25


def enable() -> None:
    """Show the progress of jobs as a bar in the output of the cell, from now on."""
    if live_bar not in SHOWS:
        SHOWS.append(live_bar)


@contextmanager
def live_bar(name: str) -> Iterator[Look]:
    """A bar in the output of the cell, drawn again with every piece of news; it stays as it was at the end."""
    bar = _Bar(name, importlib.import_module("IPython.display"))
    try:
        yield bar
    except KeyboardInterrupt:
        bar.leave()
        raise


class _Bar:
    def __init__(self, name: str, ipython: Any) -> None:
        self._name = name
        self._ipython = ipython
        self._handle: Any = None
        self._drawn: tuple[float, str] = (0.0, "")
        self._markup = ""

    def __call__(self, progress: Progress) -> None:
        words = told(progress)
        bar = html.bar(progress.items_done, progress.items, status=progress.status, told=words, noun=progress.noun)
        self._markup = html.progress(self._name, progress.status, bar)
        drawn_at, status = self._drawn
        if progress.status != status or time.monotonic() - drawn_at >= _REDRAW_S:
            self._drawn = (time.monotonic(), progress.status)
            self._draw(self._markup)

    def leave(self) -> None:
        """Say that the job goes on."""
        job = f"client.jobs.get({self._name!r})"
        text = f"Stopped waiting; the job goes on. Wait again: {job}.wait(); end it: {job}.cancel()"
        self._draw(self._markup + html.remark(text))

    def _draw(self, markup: str) -> None:
        shown = self._ipython.HTML(markup)
        if self._handle is None:
            self._handle = self._ipython.display(shown, display_id=True)
        else:
            self._handle.update(shown)
