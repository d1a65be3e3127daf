"""The worker's end of one driver: start it, send mini-batches, take replies and printed text, kill it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from hpcbatch.scoring.driver import DONE, HEAD, RUN

DRIVER_FILE = Path(__file__).with_name("driver.py")
_READ_BYTES = 1 << 20
INIT_MARK = -1
_MARKER = re.compile(rb"\0hb:(-?\d*)\0")


@dataclass(frozen=True)
class DriverSpec:
    """How to start one driver."""

    python: str
    launcher: Sequence[str]
    environment: Mapping[str, str]
    code: str
    script: str
    argv: Sequence[str]
    root: str
    output_action: str
    rows: Sequence[str] = ()  # how to write them, if not as Azure ML does: what `row_formats.RowFormat` takes
    output: Sequence[
        str
    ] = ()  # what `output_watch.Watch` takes: folders for files, a name they may not have, when to look


class Done(NamedTuple):
    """A mini-batch was run: its rows as bytes."""

    mini_batch: int
    rows: int
    failed_items: int
    run_us: int
    payload: bytes


class Failed(NamedTuple):
    """A try failed inside the driver, which lives on."""

    report: dict[str, Any]


class Ready(NamedTuple):
    """init() returned."""

    report: dict[str, Any]


class Files(NamedTuple):
    """What was left in AZUREML_BI_OUTPUT_PATH by the mini-batch whose Done comes next, or by init() or shutdown()."""

    report: dict[str, Any]


class Stopped(NamedTuple):
    """shutdown() returned; the driver exits."""


Reply = Done | Failed | Ready | Files | Stopped


class Text(NamedTuple):
    """Printed text. `mini_batch` is None for what a program or library wrote past Python: that of the one in
    progress.
    """

    mini_batch: int | None
    error: bool
    data: bytes


class DriverProcess:
    """One running driver. All its pipes are non-blocking; the caller polls `reply_fd`, `stdout_fd` and `stderr_fd`."""

    def __init__(self, spec: DriverSpec) -> None:
        request_read, self.request_fd = os.pipe()
        self.reply_fd, reply_write = os.pipe()
        self.stdout_fd, stdout_write = os.pipe()
        self.stderr_fd, stderr_write = os.pipe()
        lifeline_read, self._lifeline = os.pipe()
        child = (request_read, reply_write, lifeline_read)
        try:
            self.process = subprocess.Popen(
                [*spec.launcher, spec.python, "-I", str(DRIVER_FILE), *map(str, child)],
                stdin=subprocess.DEVNULL, stdout=stdout_write, stderr=stderr_write, pass_fds=child,
                env=dict(spec.environment), cwd=spec.code, start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self._close_own()
            raise
        finally:
            for fd in (*child, stdout_write, stderr_write):
                os.close(fd)
        for fd in (self.request_fd, self.reply_fd, self.stdout_fd, self.stderr_fd):
            os.set_blocking(fd, False)
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._pending = {self.stdout_fd: b"", self.stderr_fd: b""}
        self._owner: dict[int, int | None] = {self.stdout_fd: None, self.stderr_fd: None}
        self._send_init(spec)

    def run(self, mini_batch: int, payload: bytes) -> None:
        """Queue one mini-batch; *payload* is its paths below the root, NUL-separated."""
        self._send(HEAD.pack(b"RUN_", RUN.size, len(payload)) + RUN.pack(mini_batch) + payload)

    def stop(self) -> None:
        """Ask for shutdown() and the end of the process."""
        self._send(HEAD.pack(b"STOP", 0, 0))

    @property
    def wants_to_write(self) -> bool:
        """Whether a request is waiting for room in the pipe: poll `request_fd`, then `flush`."""
        return bool(self._outgoing)

    def flush(self) -> None:
        """Write as much of the waiting requests as the pipe takes; a driver that is gone takes everything."""
        try:
            while self._outgoing:
                del self._outgoing[: os.write(self.request_fd, memoryview(self._outgoing)[:_READ_BYTES])]
        except BlockingIOError:
            return
        except BrokenPipeError:  # its death is seen on reply_fd
            self._outgoing.clear()

    def replies(self) -> tuple[list[Reply], bool]:
        """Replies that have arrived, and whether the driver still lives."""
        alive = True
        try:
            data = os.read(self.reply_fd, _READ_BYTES)
            alive = bool(data)
        except BlockingIOError:
            data = b""
        if not self._incoming and len(data) >= HEAD.size:
            _, meta_bytes, payload_bytes = HEAD.unpack_from(data)
            if len(data) == HEAD.size + meta_bytes + payload_bytes:  # the usual case: one whole frame, no copying
                return [_parse(data)], alive
        self._incoming += data
        found = []
        while len(self._incoming) >= HEAD.size:
            _, meta_bytes, payload_bytes = HEAD.unpack_from(self._incoming)
            size = HEAD.size + meta_bytes + payload_bytes
            if len(self._incoming) < size:
                break
            found.append(_parse(bytes(memoryview(self._incoming)[:size])))
            del self._incoming[:size]
        return found, alive

    def text(self, fd: int) -> tuple[list[Text], bool]:
        """What was printed to *fd* (stdout or stderr) since the last call, and whether more can come."""
        error = fd == self.stderr_fd
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return [], True
        found = []
        *pieces, rest = _MARKER.split(self._pending[fd] + data)
        for text, number in zip(pieces[::2], pieces[1::2], strict=True):
            if text:
                found.append(Text(self._owner[fd], error, text))
            self._owner[fd] = int(number) if number else None
        # A marker may be cut in two by the read: keep what could be the beginning of one, and the last unfinished line.
        keep = max(rest.rfind(b"\n") + 1, 0) if data else len(rest)
        if len(rest) - keep >= _READ_BYTES:
            keep = len(rest)
        if rest[:keep]:
            found.append(Text(self._owner[fd], error, rest[:keep]))
        self._pending[fd] = rest[keep:]
        return found, bool(data)

    def drain(self) -> list[Text]:
        """Everything printed that is in the pipes now, the last unfinished line included."""
        found: list[Text] = []
        for fd in (self.stdout_fd, self.stderr_fd):
            while True:
                texts, more = self.text(fd)
                found += texts
                if not texts or not more:
                    break
            if self._pending[fd]:
                found.append(Text(self._owner[fd], fd == self.stderr_fd, self._pending[fd]))
                self._pending[fd] = b""
        return found

    def kill(self) -> None:
        """SIGKILL to the driver and everything in its session."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def close(self) -> int:
        """End the process if it runs, reap it, close the pipes; its exit status (negative: the signal)."""
        self.kill()
        status = self.process.wait()
        self._close_own()
        return status

    def _send_init(self, spec: DriverSpec) -> None:
        meta = json.dumps(
            {"code": spec.code, "script": spec.script, "argv": list(spec.argv), "output_action": spec.output_action,
             "root": os.fsencode(spec.root).decode("latin-1"), "output": list(spec.output),
             "rows": list(spec.rows)}
        ).encode()  # fmt: skip
        self._send(HEAD.pack(b"INIT", len(meta), 0) + meta)

    def _send(self, frame: bytes) -> None:
        if self._outgoing:
            self._outgoing += frame
            return
        try:
            done = os.write(self.request_fd, frame)
        except BlockingIOError:
            done = 0
        except BrokenPipeError:
            return
        if done < len(frame):
            self._outgoing += frame[done:]

    def _close_own(self) -> None:
        for fd in (self.request_fd, self.reply_fd, self.stdout_fd, self.stderr_fd, self._lifeline):
            os.close(fd)


def _parse(frame: bytes) -> Reply:
    operation, meta_bytes, _ = HEAD.unpack_from(frame)
    at = HEAD.size
    if operation == b"DONE":
        mini_batch, rows, failed_items, run_us = DONE.unpack_from(frame, at)
        return Done(mini_batch, rows, failed_items, run_us, frame[at + meta_bytes :])
    if operation == b"BYE_":
        return Stopped()
    report = json.loads(frame[at : at + meta_bytes])
    if operation == b"FILE":
        return Files(report)
    return Ready(report) if operation == b"REDY" else Failed(report)
