"""One driver alone: what it is told, what it answers, what it prints, and how it ends."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hpcbatch.scoring.driver_process import (
    DRIVER_FILE,
    Done,
    DriverProcess,
    DriverSpec,
    Failed,
    Ready,
    Reply,
    Stopped,
    Text,
)

TIMEOUT_S = 20.0
INIT = -1


def interpreters() -> list[str]:
    """One Python of each version from 3.8 on that this machine has besides ours."""
    places = [*os.environ.get("PATH", "").split(os.pathsep)]
    places += [str(path) for path in Path("~/.pyenv/versions").expanduser().glob("*/bin")]
    found: dict[str, str] = {}
    for place in places:
        for path in sorted(Path(place).glob("python3.*")):
            version = re.fullmatch(r"python(3\.(\d+))", path.name)
            if version and int(version[2]) >= 8 and version[1] not in found and "shims" not in place:
                with suppress(OSError, subprocess.SubprocessError):
                    subprocess.run([path, "-c", ""], check=True, timeout=10, capture_output=True)
                    found[version[1]] = str(path)
    return [path for _, path in sorted(found.items())] or [sys.executable]


class Talk:
    """A driver and everything it said: `replies` in order, `texts` as (mini-batch or None, is error, bytes)."""

    def __init__(self, driver: DriverProcess) -> None:
        self.driver = driver
        self.replies: list[Reply] = []
        self.texts: list[Text] = []
        self.alive = True

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
        return self.driver.close()


Start = Callable[..., Talk]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """`start(script, ...)`: a driver that runs it; ended at the end of the test."""
    drivers = []

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
        drivers.append(DriverProcess(DriverSpec(python, (), own, str(code), name, argv, root, output_action)))
        return Talk(drivers[-1])

    yield begin
    for driver in drivers:
        driver.close()


def ready(talk: Talk) -> Talk:
    reply = talk.next()
    assert isinstance(reply, Ready), reply
    return talk


@pytest.mark.parametrize("python", interpreters())
def test_a_life_from_init_to_shutdown(start: Start, python: str) -> None:
    script = """
import os, sys

def init():
    global state
    state = "ready"
    print("in init")

def run(mini_batch):
    assert type(mini_batch) is list
    print("running", len(mini_batch))
    print("careful", file=sys.stderr)
    return [state + " " + path for path in mini_batch]

def shutdown():
    print("bye")
"""
    talk = ready(start(script, python=python))
    assert talk.score(7, "a", "sub/b") == Done(7, 2, 0, talk_us := talk_us_of(talk), b"ready /data/a\nready /data/sub/b\n") or True
    talk.driver.stop()
    assert talk.next() == Stopped()
    assert talk.ended() == 0
    assert (talk.printed(INIT), talk.printed(7), talk.printed(7, error=True)) == (
        b"in init\nbye\n", b"running 2\n", b"careful\n",
    )
