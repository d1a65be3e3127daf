"""Patterns in input paths, as the shell reads them, and `**` for any number of folders."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from dataclasses import dataclass

States = frozenset[int]
_MAGIC = re.compile(rb"[*?\[]")


def has_magic(text: str | bytes) -> bool:
    """Whether *text* has a character that makes it a pattern."""
    return bool(_MAGIC.search(text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text))


def split_pattern(text: bytes) -> tuple[bytes, bytes]:
    """The folder before the first part that is a pattern, with its final separator, and the rest."""
    parts = text.split(b"/")
    first = next(index for index, part in enumerate(parts) if _MAGIC.search(part))
    return b"/".join(parts[:first]) + b"/" * bool(first), b"/".join(parts[first:])


@dataclass(frozen=True)
class Pattern:
    """A pattern over paths below a folder. Walk with `start`, `step` for each name on the way down; `accepts` ends it.

    What lies below a folder that the pattern names belongs to it: `2024-*` means the folders' files. As in the shell
    `*` does not match a leading dot, nor a separator.
    """

    parts: tuple[re.Pattern[bytes] | None, ...]  # None is `**`
    dotted: tuple[bool, ...]

    @property
    def start(self) -> States:
        """Where a walk begins."""
        return self._closed({0})

    def step(self, states: States, name: bytes) -> States:
        """Where the walk is after the entry *name*; empty if nothing below it can match."""
        end, found = len(self.parts), set[int]()
        for state in states:
            part = self.parts[state] if state < end else None
            if state == end:
                found.add(state)
            elif part is None:
                if not name.startswith(b"."):
                    found.add(state)
            elif part.match(name) and (self.dotted[state] or not name.startswith(b".")):
                found.add(state + 1)
        return self._closed(found)

    def accepts(self, states: States) -> bool:
        """Whether a file here is matched."""
        return len(self.parts) in states

    def matches(self, path: bytes) -> bool:
        """Whether the file at *path*, below the folder, is matched."""
        states = self.start
        for name in path.split(b"/"):
            states = self.step(states, name)
        return self.accepts(states)

    def _closed(self, states: Collection[int]) -> States:
        """*states*, and those behind a `**` that stands for no folder at all."""
        found = set(states)
        for state in sorted(states):
            while state < len(self.parts) and self.parts[state] is None:
                state += 1
                found.add(state)
        return frozenset(found)


def parse_pattern(text: bytes) -> Pattern:
    """The pattern in *text*, parts between `/`."""
    words = [word for word in text.split(b"/") if word]
    parts = [None if word == b"**" else re.compile(_translated(word)) for word in words]
    if parts and parts[-1] is None:  # `a/**` is every file below a: one part at least
        parts.append(re.compile(rb"(?s:.*)\Z"))
        words.append(b"*")
    return Pattern(tuple(parts), tuple(word.startswith(b".") for word in words))


def _translated(word: bytes) -> bytes:
    return fnmatch.translate(word.decode("latin-1")).encode("latin-1")
