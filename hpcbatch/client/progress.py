"""How a waiting caller sees a job go on: a plain line now and then, or what `SHOWS` was given last."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TextIO

from hpcbatch.operations.progress import Progress
from hpcbatch.operations.story import told

Look = Callable[[Progress], None]
Show = Callable[[str], AbstractContextManager[Look]]
EVERY_S = 10.0


@contextmanager
def plain_lines(name: str) -> Iterator[Look]:
    """Lines on stderr: on a terminal one that is written over, else a new one when there is news."""
    lines = _Lines(name, sys.stderr)
    try:
        yield lines
    finally:
        lines.end()


@contextmanager
def silent(_name: str) -> Iterator[Look]:
    """Nothing."""

    def look(_progress: Progress) -> None:
        return

    yield look


SHOWS: list[Show] = [plain_lines]


def said(line: str) -> None:
    """A line on stderr about what takes time before a job starts, such as an environment that is built."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class _Lines:
    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._last: tuple[float, Progress] | None = None
        self._open = False

    def __call__(self, progress: Progress) -> None:
        done = f"{progress.items_done} of {progress.items} {progress.noun}"
        line = f"{self._name} {progress.status}: {done}, {told(progress)}"
        if self._stream.isatty():
            self._stream.write(f"\r\x1b[K{line}")
            self._open = True
        elif self._is_news(progress):
            self._stream.write(f"{line}\n")
            self._last = (time.monotonic(), progress)
        self._stream.flush()

    def end(self) -> None:
        """Leave the line that is written over."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()

    def _is_news(self, progress: Progress) -> bool:
        if self._last is None:
            return True
        said_at, before = self._last
        finished = progress.items_done == progress.items != before.items_done
        return progress.status != before.status or finished or time.monotonic() - said_at >= EVERY_S
