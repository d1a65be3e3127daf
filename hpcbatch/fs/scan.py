"""Read what others publish: list first, open afresh, never trust a cached size."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from hpcbatch.errors import FileDamaged
from hpcbatch.fs.publish import is_temp

MAX_DOCUMENT_BYTES = 64 << 20


def names(folder: Path) -> list[str]:
    """Names in *folder*, sorted, without temporary ones; [] if it is not there.

    `opendir` revalidates on NFS where looking up a single name may answer from a cache of absent names for a minute.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not is_temp(entry.name))
    except FileNotFoundError:
        return []


def read_document(path: Path, max_bytes: int = MAX_DOCUMENT_BYTES) -> bytes:
    """The bytes of a regular file by a fresh open. Raises FileNotFoundError; FileDamaged if it is no plain file or
    too large.
    """
    strange = "Remove it: it does not belong to hpcbatch."
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link, a socket
            raise FileDamaged(f"{str(path)!r} is not a plain file.", hint=strange) from error
        raise
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise FileDamaged(f"{str(path)!r} is not a plain file.", hint=strange)
        chunks, total = [], 0
        while chunk := os.read(fd, 1 << 20):
            total += len(chunk)
            if total > max_bytes:
                raise FileDamaged(f"{str(path)!r} is larger than {max_bytes} bytes.", hint=strange)
            chunks.append(chunk)
    finally:
        os.close(fd)
    return b"".join(chunks)


def document(path: Path) -> dict[str, Any] | None:
    """The JSON document *path*, found by listing its folder; None if it is not there, or is no mapping."""
    if path.name not in names(path.parent):
        return None
    found = json.loads(read_document(path))
    return found if isinstance(found, dict) else None
