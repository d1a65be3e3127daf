"""What an array task prints: its own lines, and the user's text with the mini-batch that printed it."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from hpcbatch.fs.publish import write_all


class UserLog:
    """Writes to one file descriptor, line by line.

    `[mb 17] text` was printed to stdout and `[mb 17!] text` to stderr while mini-batch 17 ran; `[init]` and
    `[shutdown]` likewise;
    `--` begins a line of hpcbatch itself.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def note(self, text: str) -> None:
        """A line of our own, with the time (UTC)."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._write(
            b"".join(b"-- %s %s\n" % (stamp.encode(), line.encode("utf-8", "replace")) for line in text.splitlines())
        )

    def text(self, who: str, error: bool, data: bytes) -> None:
        """Text that the user's code printed; *who* is what printed it."""
        prefix = f"[{who}{'!' if error else ''}] ".encode()
        body = data.removesuffix(b"\n").replace(b"\n", b"\n" + prefix)
        self._write(prefix + body + b"\n")

    def failure(self, mini_batch: int | None, report: dict[str, Any]) -> None:
        """A failed try, with its traceback."""
        if mini_batch is None:
            head = "init() failed"
        else:
            head = f"mini-batch {mini_batch} failed, try {report['try']} of {report['of']}"
        self.note(f"{head}: {report.get('type', '')}: {report['message']}\n{report.get('traceback', '')}".rstrip())

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # for people only: a full disk stops the work where it is written, not here
            write_all(self._fd, data)
