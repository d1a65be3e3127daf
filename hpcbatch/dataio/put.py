"""Put a file into another place, once: whoever else puts one there under that name, exactly one wins."""

from __future__ import annotations

import contextlib
import errno
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hpcbatch.dataio.remote import WITHOUT_FOLDERS, explained, open_place, shown
from hpcbatch.errors import Conflict
from hpcbatch.records.job import RemotePart

_CLAIM = ".claim-"
_WAIT_S = 60.0
_CONDITIONAL = ("s3", "s3a")


def put_once(source: Path, part: RemotePart, name: str, *, owner: str = "", wait_s: float = _WAIT_S) -> None:
    """Put the file *source* into the place as *name*, unless it is there.

    On return the place holds all bytes under that name, which had it whole from the first moment on. Of several that
    put at once, one wins and the others raise Conflict, unless theirs are the same bytes; so does one that waited
    *wait_s* seconds for another that does not end. An *owner* (a job's uuid) takes up what it left when it was killed.
    Raises FilesystemError if the place refuses.
    """
    target = f"{part.root}{name}"
    address = shown(part, name)
    with explained(address):
        place = open_place(part.protocol, part.options)
        if _is_there(place, source, target, address):
            return
        if part.protocol not in WITHOUT_FOLDERS:  # where it would make a bucket
            place.makedirs(target.rpartition("/")[0], exist_ok=True)
        with _claimed(place, target, address, owner or secrets.token_hex(16), wait_s):
            if not _is_there(place, source, target, address):
                put = _put_if_absent if part.protocol in _CONDITIONAL else _put_aside
                put(place, source, target)
                _is_there(place, source, target, address)
        if place.info(target)["size"] != source.stat().st_size:
            raise OSError("what arrived has another size")


@contextlib.contextmanager
def _claimed(place: Any, target: str, address: str, owner: str, wait_s: float) -> Iterator[None]:
    """While this holds, no other owner is inside for the same *target*.

    Each puts an object of its own beside the target, then lists: who finds only its own goes in. What is listed holds
    what was put before (S3, GCS, Azure and POSIX promise that), so of two the later finds the earlier. Of two that find
    each other, the one whose name sorts later takes its own away and tries again.
    """
    prefix = f"{target.rpartition('/')[2]}{_CLAIM}"
    ours = f"{prefix}{owner}-"
    mine = f"{ours}{secrets.token_hex(8)}"
    folder = target.rpartition("/")[0]
    end = time.monotonic() + wait_s
    pause_s = 0.05
    try:
        while True:
            place.pipe_file(f"{folder}/{mine}", b"")
            others = {name for name in _claims(place, folder, prefix) if not name.startswith(ours)}
            if not others:
                break
            if min(others) < mine:
                place.rm_file(f"{folder}/{mine}")
            if time.monotonic() > end:
                raise Conflict(
                    f"{address!r} is being written by another job, or was when that job was killed.",
                    hint=f"Wait for it, or remove {min(others)!r} beside it if that job is dead; then continue: "
                    "hpcbatch job resume", path=address,
                )  # fmt: skip
            time.sleep(pause_s)
            pause_s = min(1.0, 2 * pause_s)
        yield
        for name in _claims(place, folder, ours):  # what killed merges of this job left; a living one has our bytes
            with contextlib.suppress(FileNotFoundError):
                place.rm_file(f"{folder}/{name}")
    finally:
        with contextlib.suppress(Exception):  # it may be gone, or the place; neither changes what was put
            place.rm_file(f"{folder}/{mine}")


def _claims(place: Any, folder: str, prefix: str) -> set[str]:
    listed = (str(one).rstrip("/").rpartition("/")[2] for one in place.ls(folder, detail=False))
    return {name for name in listed if name.startswith(prefix)}


def _put_if_absent(place: Any, source: Path, target: str) -> None:
    """An object has its name when its last byte has arrived; S3 gives it only to the first (`If-None-Match: *`)."""
    try:
        place.put_file(str(source), target, mode="create")
    except FileExistsError:
        return  # somebody who is none of us was faster; what is there is looked at next
    except OSError as error:
        if error.errno != errno.EINVAL:  # what older s3fs makes of it, and of a store that knows no conditions
            raise
        if not place.exists(target):
            place.put_file(str(source), target)


def _put_aside(place: Any, source: Path, target: str) -> None:
    size = source.stat().st_size
    temp = f"{target}.part-{secrets.token_hex(8)}"
    try:
        place.put_file(str(source), temp)
        found = place.info(temp)["size"]
        if found != size:
            raise OSError(f"{size} bytes were put and {found} arrived")
        place.mv(temp, target)
    finally:
        with contextlib.suppress(Exception):
            place.rm_file(temp)


def _is_there(place: Any, source: Path, target: str, address: str) -> bool:
    """Whether these bytes are there under that name. Raises Conflict if others are."""
    if not place.exists(target):
        return False
    if place.info(target)["size"] == source.stat().st_size:
        with place.open(target, "rb") as theirs, open(source, "rb") as ours:
            while block := ours.read(1 << 22):
                if theirs.read(len(block)) != block:
                    break
            else:
                return True
    raise Conflict(
        f"{address!r} exists and holds something else; nothing was overwritten.",
        hint="Move it away, then continue: hpcbatch job resume", path=address,
    )  # fmt: skip
