"""What the rooms below log becomes part of the story on stderr."""

from __future__ import annotations

import logging

from hpcbatch.cli import render


class _Story(logging.Handler):
    """Says warnings as warnings and the rest as remarks."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print *record* on stderr, without control characters."""
        say = render.warning if record.levelno >= logging.WARNING else render.note
        say(record.getMessage())


def route(*, verbose: bool, debug: bool) -> None:
    """Show hpcbatch's own log records from now on: warnings always, more on request."""
    logger = logging.getLogger("hpcbatch")
    logger.handlers = [_Story()]
    logger.propagate = False
    logger.setLevel(logging.DEBUG if debug else logging.INFO if verbose else logging.WARNING)
