"""Mini-batches whose items are somewhere else: fetched to the node ahead of the drivers, by a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.records.plan import Manifest
from hpcbatch.worker.timelimit import TimeLimit
from hpcbatch.worker.work import Hooks, Queue, Report, Work

AHEAD, AHEAD_PER_DRIVER = 4, 4
AHEAD_BYTES = 2 << 30
PART_OF_FREE = 4  # never more than this part of what the scratch folder has free
MAX_DEATHS = 3


@dataclass(frozen=True)
class Place:
    """What the fetching process is told, and where the items arrive: `folder`, each under its name."""

    job_file: Path
    manifest_file: Path
    folder: Path

    def command(self) -> list[str]:
        """How to start it."""
        told = map(str, (self.job_file, self.manifest_file, self.folder))
        return [sys.executable, "-I", "-m", "hpcbatch.dataio.fetch", *told]


def place_of(job: JobDir, local: Path) -> Place | None:
    """Where the items of *job* are fetched to, below the scratch folder *local*; None if they are read in place.

    The folder has the name of the input's, and below it each item has its own path, as under a mount of Azure ML.
    """
    remote = job.record.remote_input
    if remote is None:
        return None
    name = remote.root.rstrip("/").rpartition("/")[2]
    plain = name not in ("", ".", "..") and len(name.encode()) < 256
    return Place(job.paths.job, job.paths.manifest, local / "input" / (name if plain else "data"))


def queue_of(
    place: Place | None, manifest: Manifest, work: Work, limit: TimeLimit, drivers: int
) -> FetchingQueue | None:
    """The queue that fetches, if there is something to fetch."""
    if place is None:
        return None
    return FetchingQueue(work, limit, manifest=manifest, place=place, drivers=drivers)


class FetchingQueue(Queue):
    """A Queue that hands out mini-batches whose items are here, and keeps some ahead: bounded in number and bytes."""

    def __init__(self, work: Work, limit: TimeLimit, *, manifest: Manifest, place: Place, drivers: int) -> None:
        super().__init__(work, limit)
        self._manifest = manifest
        self._place = place
        place.folder.mkdir(0o700, parents=True, exist_ok=True)
        free = os.statvfs(place.folder)
        self._most_bytes = min(AHEAD_BYTES, free.f_bavail * free.f_frsize // PART_OF_FREE)
        self._most = AHEAD + AHEAD_PER_DRIVER * drivers
        self._asked: dict[int, int] = {}  # mini-batch to bytes, as far as they are known
        self._ready: deque[int] = deque()
        self._here: dict[int, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._buffer = b""
        self._deaths = 0
        self.hooks: Hooks | None = None

    def attach(self, hooks: Hooks) -> None:
        """See Queue.attach."""
        self.hooks = hooks

    @property
    def waiting(self) -> bool:
        """Whether something is on its way that will be handed out."""
        return bool(self._asked)

    def next(self, *, idle: bool, before: int = 0) -> int | None:
        """See Queue.next; None also while what comes next is still on its way."""
        if self.completed and not self.limit.fits(before):
            return None
        self._ask(idle=idle)
        return self._ready.popleft() if self._ready else None

    def anything_left(self) -> bool:
        """See Queue.anything_left."""
        return bool(self._asked or self._ready) or super().anything_left()

    def ended(self, mini_batch: int) -> None:
        """See Queue.ended: the items of *mini_batch* are removed from the node."""
        if self._here.pop(mini_batch, None) is not None:
            for name in os.fsdecode(self._manifest.payload(mini_batch)).split("\0"):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._place.folder / name)

    def close(self) -> None:
        """End the process; what it was fetching is of no use any more."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdout is not None
        assert process.stdin is not None
        if self.hooks is not None:
            self.hooks.unwatch(process.stdout.fileno())
        process.kill()
        process.wait()
        process.stdout.close()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self._buffer = b""

    def _ask(self, *, idle: bool) -> None:
        """Have as much fetched ahead as may be; one at least."""
        while not (self._asked or self._ready) or self._room():
            mini_batch = self._take(idle=idle and not self._asked and not self._ready)
            if mini_batch is None:
                return
            if mini_batch in self._here:
                self._ready.append(mini_batch)
            else:
                self._asked[mini_batch] = self._manifest.size_bytes(mini_batch)
                self._send(mini_batch)

    def _room(self) -> bool:
        ahead = [*self._asked.values(), *(self._here[number] for number in self._ready)]
        return len(ahead) < self._most and sum(ahead) < self._most_bytes

    def _send(self, mini_batch: int) -> None:
        if self._process is None:
            self._process = subprocess.Popen(self._place.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert self._process.stdout is not None
            assert self.hooks is not None
            os.set_blocking(self._process.stdout.fileno(), False)
            self.hooks.watch(self._process.stdout.fileno(), self._on_reply)
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its end is seen on its stdout, and it is asked again
            self._process.stdin.write(b"%d\n" % mini_batch)
            self._process.stdin.flush()

    def _on_reply(self, _: int) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        assert self.hooks is not None
        try:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
        except BlockingIOError:
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self._take_reply(json.loads(line))
        if not data:
            self._died()
        self.hooks.arrived()

    def _take_reply(self, reply: Report) -> None:
        mini_batch = int(reply["mini_batch"])
        size = self._asked.pop(mini_batch, None)
        if size is None:
            return
        if "error" in reply:
            self._fail(mini_batch, reply["error"])
            return
        self._deaths = 0
        self._here[mini_batch] = int(reply["bytes"])
        self._ready.append(mini_batch)

    def _died(self) -> None:
        """The process is gone: ask another one for what it had not answered, or count a failed try of each."""
        assert self._process is not None
        asked = list(self._asked)
        process = self._process
        self.close()
        if not asked:
            return
        self._deaths += 1
        if self._deaths < MAX_DEATHS:
            for mini_batch in asked:
                self._send(mini_batch)
            return
        self._deaths = 0
        words = f"the process that fetches the items died {MAX_DEATHS} times: exit status {process.returncode}"
        for mini_batch in asked:
            del self._asked[mini_batch]
            self._fail(mini_batch, {"type": "FetchingDied", "message": words})

    def _fail(self, mini_batch: int, report: Report) -> None:
        assert self.hooks is not None
        self.hooks.failed(mini_batch, {"kind": "fetch", **report})
