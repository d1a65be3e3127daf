"""Run a job's rounds with processes of this machine: the array and the merge of Slurm, without Slurm.

`start` leaves a supervisor behind that outlives the caller. It runs as many workers at once as the compute allows,
starts a worker again that was killed, then the merge, then the next round if the merge planned one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path

from hpcbatch.fs import publish, scan
from hpcbatch.fs.living import lives, process_note
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.scheduler.environment import travelling

MAX_ATTEMPTS = 20
MAX_MERGE_TRIES = 5
_FINAL = (0, 70, 75)  # done, gave up, disk full: starting again would end the same way
_INCOMPLETE = 8


def start(job: JobDir) -> int:
    """Start the supervisor of *job* unless one lives; its pid. On return it is noted in the job directory."""
    living = supervisor(job)
    if living:
        return living
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "hpcbatch.rounds.local", str(job.root), job.sha256],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=job.root,
        env=travelling(job.record.travelling), start_new_session=True,
    )  # fmt: skip
    return claim(job, process.pid)


def supervisor(job: JobDir) -> int:
    """The pid of the living supervisor of *job* on this machine; 0 if there is none."""
    return living_in(job.paths.rounds)


def claim(job: JobDir, pid: int) -> int:
    """Note process *pid* as the supervisor unless another one lives; the pid of the one that is."""
    return claim_in(job.paths.rounds, pid)


def living_in(rounds: Path) -> int:
    """The pid of the living supervisor that the folder *rounds* names; 0 if there is none."""
    return _latest(rounds)[1]


def claim_in(rounds: Path, pid: int) -> int:
    """Note process *pid* in the folder *rounds* unless a noted one lives; the pid of the one that does.

    Notes are numbered, and a number is taken only when the process of the one before is gone: so at most one lives on
    this machine. Another machine cannot know, and a second supervisor there does no harm: its attempts are twins.
    """
    while True:
        number, living = _latest(rounds)
        note = process_note(pid)
        if living or not note["started"]:
            return living
        if jobdir.publish_document(rounds / f"local-{number + 1}.json", note):
            return pid


def _latest(rounds: Path) -> tuple[int, int]:
    """The number of the newest note, and its pid if that process lives."""
    numbers = [int(name[6:-5]) for name in scan.names(rounds) if name.startswith("local-")]
    number = max(numbers, default=0)
    note = json.loads(scan.read_document(rounds / f"local-{number}.json")) if number else {}
    return number, int(note["pid"]) if note and lives(note) else 0


class Supervisor:
    """Runs the rounds of one job until it has a verdict or nothing more can be done."""

    def __init__(self, job: JobDir) -> None:
        self._job = job
        self._lifeline_read, self._lifeline_write = os.pipe()
        # A parallel step on several nodes starts each worker on a node of its own (steps/parallel.py); those end with
        # their Slurm job, not with us.
        self._launcher: list[str] = json.loads(os.environ.pop("HPCBATCH_WORKER_LAUNCHER", "[]"))
        self._environment = travelling(job.record.travelling) | {"HPCBATCH_LIFELINE_FD": str(self._lifeline_read)}

    def run(self) -> int:
        """The exit code of the last merge."""
        while True:
            current = self._job.rounds()[-1]
            self._workers(current)
            code = self._merge(current)
            if code != _INCOMPLETE or self._job.rounds()[-1] == current:
                return code

    def _workers(self, round_number: int) -> None:
        waiting = deque(range(self._job.plan(round_number).groups))
        running: dict[int, tuple[int, subprocess.Popen[bytes]]] = {}
        attempts: Counter[int] = Counter()
        while waiting or running:
            while waiting and len(running) < self._job.record.compute.throttle:
                group = waiting.popleft()
                attempts[group] += 1
                process = self._spawn(
                    "hpcbatch.worker", [str(round_number), str(group)], f"r{round_number}-g{group:05d}.out",
                    [word.replace("{group}", str(group)) for word in self._launcher],
                )  # fmt: skip
                running[process.pid] = (group, process)
            pid, status = os.wait()
            if pid not in running:
                continue
            group, process = running.pop(pid)
            process.returncode = code = os.waitstatus_to_exitcode(status)
            if code not in _FINAL and attempts[group] < MAX_ATTEMPTS and not self._job.canceled():
                time.sleep(min(5.0, 0.05 * 2 ** attempts[group]) if code > 0 else 0)
                waiting.append(group)

    def _merge(self, round_number: int) -> int:
        code = 1
        for _ in range(MAX_MERGE_TRIES):
            code = self._spawn("hpcbatch.merge", [str(round_number)], "merge.out").wait()
            if code >= 0:
                break
        return code

    def _spawn(
        self, module: str, arguments: list[str], log: str, launcher: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        out = publish.open_log(self._job.paths.slurm / log)
        environment = dict(self._environment)
        if launcher:
            del environment["HPCBATCH_LIFELINE_FD"]
        try:
            return subprocess.Popen(
                [*launcher, sys.executable, "-I", "-m", module, str(self._job.root), self._job.sha256, *arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._job.root, env=environment,
                pass_fds=[self._lifeline_read],
            )  # fmt: skip
        finally:
            os.close(out)


def main() -> int:
    """JOB_DIRECTORY SHA256: supervise until the end, unless another supervisor does."""
    folder, digest = sys.argv[1:3]
    os.umask(0o077)
    job = jobdir.open_job(Path(folder), digest)
    return Supervisor(job).run() if claim(job, os.getpid()) == os.getpid() else 0


if __name__ == "__main__":
    raise SystemExit(main())
