"""A process that fetches mini-batches from another place to a folder of the node, for the worker that started it.

    python -I -m hpcbatch.dataio.fetch JOB_JSON MANIFEST FOLDER

Numbers of mini-batches come in, one a line; for each a line of JSON goes out when all its files are there, or when one
of them cannot be fetched. It ends when its input does, or when nothing has moved for long, after saying so of all that
was under way. It is a process of its own so that the libraries stay out of the worker, and the worker out of their
waiting.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from hpcbatch.dataio import remote
from hpcbatch.errors import HpcBatchError
from hpcbatch.fs.own import fetched
from hpcbatch.fs.publish import write_all
from hpcbatch.fs.scan import read_document
from hpcbatch.records.job import RemotePart, parse_job
from hpcbatch.records.plan import Manifest, parse_manifest

AT_ONCE = 8
TRIES = 4
FIRST_PAUSE_S = 0.5
STALLED_S = 300.0
_FINAL = (errno.ENOSPC, errno.EDQUOT, errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR,
          errno.EROFS)  # fmt: skip

Say = Callable[[dict[str, Any]], None]


class Changed(Exception):
    """An item is not what it was when the job was planned."""


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the input ends; 0."""
    job_file, manifest_file, folder = sys.argv[1:4] if argv is None else argv
    os.umask(0o077)
    record = parse_job(read_document(Path(job_file)), job_file)
    assert record.remote_input is not None
    with open(manifest_file, "rb") as file:
        manifest = parse_manifest(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
    fetcher = Fetcher(record.remote_input, manifest, Path(folder), _say)
    threads = ThreadPoolExecutor(AT_ONCE)
    mini_batches = ThreadPoolExecutor(AT_ONCE)
    threading.Thread(target=fetcher.watch, daemon=True).start()
    for line in sys.stdin.buffer:
        mini_batches.submit(fetcher.fetch, int(line), threads)
    os._exit(0)  # whoever asked is gone: nothing that is under way is of use


_saying = threading.Lock()


def _say(document: dict[str, Any]) -> None:
    data = json.dumps(document).encode() + b"\n"
    with _saying:
        write_all(1, data)


class Fetcher:
    """Fetches mini-batches of one job into *folder*, each item under its name."""

    def __init__(self, part: RemotePart, manifest: Manifest, folder: Path, say: Say) -> None:
        self._part = part
        self._manifest = manifest
        self._folder = folder
        self._say = say
        self._place: Any = None
        self._opening = threading.Lock()
        self._under_way: set[int] = set()
        self._moved_at = time.monotonic()

    def fetch(self, mini_batch: int, threads: ThreadPoolExecutor) -> None:
        """Fetch the items of one mini-batch, several at once, and say how it went."""
        began = self._moved_at = time.monotonic()
        self._under_way.add(mini_batch)
        names = os.fsdecode(self._manifest.payload(mini_batch)).split("\0")
        stamps = self._manifest.stamps(mini_batch)
        items = [threads.submit(self._patiently, name, stamp) for name, stamp in zip(names, stamps, strict=True)]
        try:
            sizes = [item.result() for item in items]
        except Exception as error:  # noqa: BLE001  # whatever it is, the mini-batch cannot be run, and the worker is told
            self._remove(names, items)
            self._say({"mini_batch": mini_batch, "error": _report(error)})
            return
        finally:
            self._under_way.discard(mini_batch)
        took_ms = int(1000 * (time.monotonic() - began))
        self._say({"mini_batch": mini_batch, "bytes": sum(sizes), "ms": took_ms})

    def _remove(self, names: Sequence[str], items: Sequence[Future[int]]) -> None:
        """What is there of a mini-batch that cannot be run takes no room, also what is under way still."""
        for item in items:
            item.cancel()
        wait(items)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._folder / name)

    def watch(self) -> None:
        """End the process when nothing moves any more: a thread that waits for a server cannot be ended alone."""
        while True:
            time.sleep(STALLED_S / 30)
            if self._under_way and time.monotonic() - self._moved_at > STALLED_S:
                words = f"the items cannot be fetched: nothing has arrived for {STALLED_S:g} s"
                for mini_batch in sorted(self._under_way):
                    self._say({"mini_batch": mini_batch, "error": {"type": "Stalled", "message": words}})
                os._exit(0)

    def _patiently(self, name: str, stamp: str) -> int:
        pause_s = FIRST_PAUSE_S
        for last in (*[False] * (TRIES - 1), True):
            try:
                return self._item(name, stamp)
            except Exception as error:  # each library has a tree of its own; told with its cause
                if last or not _passing(error):
                    raise _Failed(remote.shown(self._part, name), error) from error
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s *= 3
        raise AssertionError

    def _item(self, name: str, stamp: str) -> int:
        place = self._opened()
        source = remote.location(self._part, name)
        size_text, _, tag = stamp.partition(" ")
        with fetched(self._folder / name) as temp:
            place.get_file(source, str(temp), callback=_callback(self._progress))
            size = temp.stat().st_size
            if size_text and size != int(size_text):
                raise Changed(f"it has {size} bytes, and had {size_text} when the job was planned")
            if tag:
                found = remote.stamp(place.info(source)).decode().partition(" ")[2]
                if found and found != tag:
                    raise Changed(f"it is {found}, and was {tag} when the job was planned")
        return size

    def _opened(self) -> Any:
        with self._opening:
            if self._place is None:
                self._place = remote.open_place(self._part.protocol, self._part.options)
            return self._place

    def _progress(self) -> None:
        self._moved_at = time.monotonic()


class _Failed(Exception):
    """An item that could not be fetched, and why."""

    def __init__(self, item: str, cause: Exception) -> None:
        super().__init__(item, cause)
        self.item = item
        self.cause = cause


def _passing(error: Exception) -> bool:
    """Whether the same call may work a moment later."""
    if isinstance(error, Changed | HpcBatchError | FileNotFoundError | PermissionError):
        return False
    return not (isinstance(error, OSError) and error.errno in _FINAL)


def _report(error: Exception) -> dict[str, str]:
    if not isinstance(error, _Failed):
        return {"type": type(error).__name__, "message": f"the items cannot be fetched: {remote.one_line(error)}"}
    cause = error.cause
    if isinstance(cause, Changed):
        return {"type": "ItemChanged", "message": f"{error.item} changed since the job was planned: {cause}. "
                "Invoke the endpoint again to score what is there now."}  # fmt: skip
    if isinstance(cause, FileNotFoundError):
        return {"type": "ItemGone", "message": f"{error.item} is not there any more."}
    return {"type": type(cause).__name__, "message": f"{error.item} cannot be fetched: {remote.one_line(cause)}"}


def _callback(moved: Callable[[], None]) -> Any:
    from fsspec.callbacks import Callback

    class Moved(Callback):  # type: ignore[misc]  # fsspec ships no types
        def relative_update(self, inc: int = 1) -> None:  # noqa: ARG002  # fsspec's signature
            moved()

    return Moved()


if __name__ == "__main__":
    raise SystemExit(main())
