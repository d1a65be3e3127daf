"""What a mount can be relied on for."""

from __future__ import annotations

import os
import re
from pathlib import Path

_LOCAL = {"ext2", "ext3", "ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "f2fs", "ramfs"}
_NFS = {"nfs", "nfs4"}
_LONGEST_S, _SHORTEST_S = 180.0, 60.0


def visibility_timeout_s(path: Path, mounts: Path = Path("/proc/self/mounts")) -> float:
    """How long another node's finished write may stay unseen in listings below *path*.

    A filesystem of one machine shows everything at once. NFS caches directories for up to `acdirmax`; twice that,
    between one and three minutes. Anything else (Lustre, GPFS, FUSE) gets one minute.
    """
    kind, options = _mount_of(path, mounts)
    if kind in _LOCAL:
        return 0.0
    if kind in _NFS:
        acdirmax_s = next(
            (float(o.partition("=")[2]) for o in options if o.startswith(("acdirmax=", "actimeo="))), 60.0
        )
        return min(_LONGEST_S, max(_SHORTEST_S, 2 * acdirmax_s))
    return _SHORTEST_S


def free_bytes(path: Path) -> int:
    """Bytes that this user may still write below *path*."""
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _mount_of(path: Path, mounts: Path) -> tuple[str, list[str]]:
    best, kind, options = "", "", [""]
    target = os.path.realpath(path)
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, point, found, flags, *_ = line.split()
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), point)  # blanks and backslashes
        inside = target == point or target.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, kind, options = point, found, flags.split(",")
    return kind, options
