"""Whether the kernel killed a process of this array task for memory, by the counters of its cgroup."""

from __future__ import annotations

import re
from pathlib import Path

MAX_MEMORY_KILLS = 2  # of one mini-batch in one round; the second time it had run alone
_COUNT = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)


class MemoryKills:
    """Counts what the kernel killed in the cgroup of this process, which its drivers share (cgroups 1 and 2)."""

    def __init__(self, own: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")) -> None:
        self._files = _counters(own, root)
        self._told = self._count()

    def one_more(self) -> bool:
        """Whether there is a kill that was not told yet; it is told now."""
        more = self._count() > self._told
        self._told += more
        return more

    def _count(self) -> int:
        total = 0
        for file in self._files:
            try:
                match = _COUNT.search(file.read_text())
            except OSError:
                continue  # not this version of cgroups, or a kernel that does not count
            total += int(match[1]) if match else 0
        return total


def _counters(own: Path, root: Path) -> list[Path]:
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            found.append(root / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            found.append(root / "memory" / path.lstrip("/") / "memory.oom_control")
    return found
