"""The processes of a job, found by their command lines: the same on every compute of one machine."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

WORKER, MERGE, SUPERVISOR, DRIVER = "hpcbatch.worker", "hpcbatch.merge", "hpcbatch.rounds.local", "driver.py"


def of_job(root: Path, module: str = "") -> list[int]:
    """The pids of the Python processes that were started with this job directory, those of *module* only if named."""
    found = []
    for pid, words in _command_lines():
        if str(root) in words and module in ("", *words) and "-m" in words and "python" in words[0]:
            found.append(pid)
    return found


def drivers_of(worker: int) -> list[int]:
    """The living drivers of one worker."""
    return [
        pid for pid, words in _command_lines() if words[2:3] and words[2].endswith(DRIVER) and _parent(pid) == worker
    ]


def lives(pid: int) -> bool:
    """Whether it runs; one that waits to be reaped does not."""
    with suppress(OSError):
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    return False


def kill(pid: int) -> bool:
    """SIGKILL; False if it was gone."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _command_lines() -> list[tuple[int, list[str]]]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            with suppress(OSError):
                words = Path(f"/proc/{name}/cmdline").read_bytes().decode("utf-8", "replace").split("\0")
                found.append((int(name), words))
    return found


def _parent(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def only_below(pid: int, command: str) -> str:
    """A line for sh(1) that does *command* if it runs below process *pid*, at any depth: PATH travels with a job, and
    what the job itself calls is not what the test asks about.
    """
    up = "p=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$p/status)"
    return f'p=$$; while [ "$p" -gt 1 ] && [ "$p" != {pid} ]; do {up}; done; [ "$p" != {pid} ] || {command}\n'
