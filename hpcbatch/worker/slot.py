"""One place for a driver: which mini-batch it runs, which waits in its pipe, until when it may take."""

from __future__ import annotations

import time
from collections.abc import Iterable

from hpcbatch.jobdir.attempt import Stored
from hpcbatch.scoring.driver_process import INIT_MARK, DriverProcess, Text
from hpcbatch.worker.log import UserLog

TAIL_BYTES = 4000


class Slot:
    """The state of one driver's place; the driver in it is replaced when it dies."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.driver: DriverProcess | None = None
        self.ready = self.stopping = False
        self.current: int | None = None
        self.queued: int | None = None
        self.deadline = float("inf")
        self.init_failures = 0
        self.files: Stored | None = None  # of the running mini-batch, for its COMMIT
        self.torn = ""  # why its files cannot be kept
        self.begun_at = self.given_at = 0.0  # monotonic: of the driver, of its running mini-batch
        self._tails: dict[tuple[int | None, bool], bytes] = {}

    def begin(self, driver: DriverProcess, init_timeout_s: float) -> None:
        """A new driver starts with init()."""
        self.driver = driver
        self.ready = self.stopping = False
        self.current = self.queued = None
        self.files, self.torn = None, ""
        self._tails = {}
        self.begun_at = time.monotonic()
        self.deadline = self.begun_at + init_timeout_s

    def lived_ms(self) -> int:
        """How long ago the driver was started."""
        return int(1000 * (time.monotonic() - self.begun_at))

    def end(self) -> None:
        """The driver is gone."""
        self.driver = None
        self.ready = False
        self.current = self.queued = None
        self.deadline = float("inf")

    def give(self, mini_batch: int, timeout_s: float) -> None:
        """*mini_batch* was sent: it runs now, or waits behind the one that does."""
        if self.current is None:
            self.current = mini_batch
            self.given_at = time.monotonic()
            self.deadline = self.given_at + timeout_s
        else:
            self.queued = mini_batch

    def advance(self, timeout_s: float) -> int | None:
        """The running mini-batch ended; the waiting one, if there is one, runs now and is returned."""
        for error in (False, True):
            self._tails.pop((self.current, error), None)
        self.current, self.queued = self.queued, None
        self.files, self.torn = None, ""
        self.given_at = time.monotonic()
        self.deadline = self.given_at + timeout_s if self.current is not None else float("inf")
        return self.current

    def wait(self) -> None:
        """There is nothing to run yet, and there will be: no deadline."""
        self.deadline = float("inf")

    def stop(self, shutdown_s: float) -> None:
        """The driver was asked to end."""
        self.stopping = True
        self.deadline = time.monotonic() + shutdown_s

    def owner(self, marked: int | None) -> int | None:
        """The mini-batch that printed a text: the *marked* one, else the one in progress; None: init() or
        shutdown().
        """
        return None if marked == INIT_MARK else self.current if marked is None else marked

    def note(self, log: UserLog, texts: Iterable[Text]) -> None:
        """Log printed *texts* under the mini-batch that printed them, and keep their end."""
        for text in texts:
            owner = self.owner(text.mini_batch)
            outside = "shutdown" if self.stopping else "init"
            log.text(outside if owner is None else f"mb {owner}", text.error, text.data)
            self.remember(owner, text.error, text.data)

    def remember(self, owner: int | None, error: bool, data: bytes) -> None:
        """Keep the end of what *owner* printed, for the report of a failure."""
        self._tails[owner, error] = (self._tails.get((owner, error), b"") + data)[-TAIL_BYTES:]

    def tail(self, owner: int | None) -> dict[str, str]:
        """The end of *owner*'s stdout and stderr."""
        return {
            name: self._tails[owner, error].decode("utf-8", "replace")
            for name, error in (("stdout", False), ("stderr", True))
            if (owner, error) in self._tails
        }
