"""A driver in conversation: what it is told, what it answered, what it printed."""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.scoring.driver_process import Done, DriverProcess, DriverSpec, Failed, Ready, Reply, Text

TIMEOUT_S = 20.0
INIT = -1


class Talk:
    """A driver and everything it said: `replies` in order, `texts` as (mini-batch or None, is error, bytes)."""

    def __init__(self, driver: DriverProcess) -> None:
        self.driver = driver
        self.replies: list[Reply] = []
        self.texts: list[Text] = []
        self.alive = True
        self.closed = False

    def until(self, condition: Callable[[], object], timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, (self.replies, self.texts[-5:])
            self.step()

    def step(self) -> None:
        driver = self.driver
        waiting = [driver.request_fd] if driver.wants_to_write else []
        readable = [driver.stdout_fd, driver.stderr_fd, *([driver.reply_fd] if self.alive else [])]
        ready, writable, _ = select.select(readable, waiting, [], 0.1)
        if writable:
            driver.flush()
        for fd in ready:
            if fd == driver.reply_fd:
                replies, self.alive = driver.replies()
                self.replies += replies
            else:
                self.texts += driver.text(fd)[0]

    def next(self, timeout_s: float = TIMEOUT_S) -> Reply:
        """The reply that has not been looked at yet."""
        self.until(lambda: self.replies or not self.alive, timeout_s)
        assert self.replies, "the driver died"
        return self.replies.pop(0)

    def score(self, mini_batch: int, *names: str) -> Reply:
        self.driver.run(mini_batch, "\0".join(names).encode("utf-8", "surrogateescape"))
        return self.next()

    def printed(self, mini_batch: int, *, error: bool = False) -> bytes:
        """What was attributed to one mini-batch, once the driver has ended."""
        return b"".join(text.data for text in self.texts if (text.mini_batch, text.error) == (mini_batch, error))

    def ended(self) -> int:
        self.until(lambda: not self.alive)
        self.texts += self.driver.drain()
        self.closed = True
        return self.driver.close()


Start = Callable[..., Talk]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(script, ...)`: a driver that runs it; ended at the end of the test."""
    talks: list[Talk] = []

    def begin(
        script: str,
        *,
        python: str = sys.executable,
        name: str = "score.py",
        environment: dict[str, str] | None = None,
        output_action: str = "append_row",
        argv: tuple[str, ...] = (),
        root: str = "/data/",
    ) -> Talk:
        code = tmp_path / "code"
        path = code / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script)
        own = {"PATH": os.environ["PATH"]} | (environment or {})
        spec = DriverSpec(python, (), own, str(code), name, argv, root, output_action)
        talks.append(Talk(DriverProcess(spec)))
        return talks[-1]

    yield begin
    for talk in talks:
        if not talk.closed:
            talk.driver.close()


def ready(talk: Talk) -> Talk:
    reply = talk.next()
    assert isinstance(reply, Ready), reply
    return talk


def done(mini_batch: int, rows: int, payload: bytes, failed_items: int = 0) -> Done:
    """Equal to a reply whatever time it took."""
    return Done(mini_batch, rows, failed_items, Anything(), payload)  # type: ignore[arg-type]  # equal to any time


class Anything:
    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]  # never a key


def failed(reply: Reply) -> dict[str, Any]:
    assert isinstance(reply, Failed), reply
    return reply.report


def wait_for_end(pid: int, timeout_s: float = 5) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if not Path(f"/proc/{pid}/cmdline").read_bytes():
                return  # ended, and waits to be reaped
        except OSError:
            return
        assert time.monotonic() < deadline, f"{pid} lives on"
        time.sleep(0.01)
