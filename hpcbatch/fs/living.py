"""Notes that name a process, and whether that process still lives.

A number alone does not tell: it is handed out again, and means something only on its machine, between two boots, among
the processes that see each other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def process_note(pid: int) -> dict[str, Any]:
    """What a note says of process *pid* of this machine. `started` is in clock ticks since boot; 0: it is gone."""
    return {"pid": pid, "started": _started(pid), **_here()}


def is_of_here(note: Mapping[str, Any]) -> bool:
    """Whether *note* names a process that would be seen from here if it lived."""
    return all(note.get(key, value) == value for key, value in _here().items())


def lives(note: Mapping[str, Any]) -> bool:
    """Whether the process that *note* names lives here."""
    return is_of_here(note) and _started(int(note["pid"])) == note["started"] != 0


def _here() -> dict[str, Any]:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return {"host": os.uname().nodename, "boot": boot, "namespace": os.stat("/proc/self/ns/pid").st_ino}


def _started(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    fields = text.rpartition(")")[2].split()
    return 0 if fields[0] == "Z" else int(fields[19])
