"""Follow text files that others append to, as `tail -f` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

MAX_BYTES_AT_ONCE = 1 << 22


class Follower:
    """Reads files as they grow; what is new stands below the file's title."""

    def __init__(self) -> None:
        self._at: dict[Path, int] = {}
        self._last: Path | None = None

    def lines(self, path: Path, title: str, *, whole: bool = False) -> Iterator[str]:
        """The lines of *path* that are new since the last call, those that have their end; with *whole* all that is
        there. Of much only the beginning: call again until there is nothing. A file that is not there has no lines.
        """
        try:
            with open(path, "rb") as file:
                file.seek(self._at.get(path, 0))
                data = file.read(MAX_BYTES_AT_ONCE)
        except FileNotFoundError:
            return
        end = data.rfind(b"\n") + 1
        is_full = len(data) == MAX_BYTES_AT_ONCE
        if (is_full and not end) or (whole and not is_full):  # a line that is longer than that is shown in pieces
            end = len(data)
        if not end:
            return
        self._at[path] = self._at.get(path, 0) + end
        if path != self._last:
            self._last = path
            yield f"\nStreaming {title}\n{'=' * (10 + len(title))}\n"
        yield from data[:end].decode("utf-8", "replace").splitlines()

    def say_the_title_again(self) -> None:
        """Something else was said in between."""
        self._last = None


def until_nothing_is_new(lines: Callable[[], Iterator[str]]) -> Iterator[str]:
    """What *lines* yields, called again until that is nothing."""
    while found := list(lines()):
        yield from found
