"""Run a pipeline job with processes of this machine: the dependencies of Slurm, without Slurm.

`start` leaves a supervisor behind that outlives the caller. It starts each step when those before it have ended, as
many at once as there are processors, and a step again whose process was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from hpcbatch.fs import publish
from hpcbatch.pipeline.graph import ready
from hpcbatch.rounds import local
from hpcbatch.scheduler.environment import travelling
from hpcbatch.steps import outcome, pipelinedir
from hpcbatch.steps.pipelinedir import PipelineDir

MAX_ATTEMPTS = 3


def start(job: PipelineDir) -> int:
    """Start the supervisor of *job* unless one lives; its pid. On return it is noted in the job directory."""
    living = local.living_in(job.rounds_folder)
    if living:
        return living
    process = subprocess.Popen(
        [sys.executable, "-I", "-m", "hpcbatch.steps.local", str(job.root), job.sha256],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=job.root,
        env=travelling(job.record.travelling), start_new_session=True,
    )  # fmt: skip
    return local.claim_in(job.rounds_folder, process.pid)


class Supervisor:
    """Runs the newest round of one job until the job has a verdict."""

    def __init__(self, job: PipelineDir, at_once: int) -> None:
        self._job = job
        self._round = job.rounds()[-1]
        self._at_once = at_once
        self._lifeline_read, self._lifeline_write = os.pipe()
        self._environment = travelling(job.record.travelling) | {"HPCBATCH_LIFELINE_FD": str(self._lifeline_read)}
        self._running: dict[int, tuple[str, subprocess.Popen[bytes]]] = {}
        self._attempts: Counter[str] = Counter()
        self._known: outcome.Results = {}
        signal.signal(signal.SIGTERM, self._on_term)  # somebody canceled the job

    def run(self) -> None:
        """On return the round has its verdict."""
        steps = self._job.record.steps
        while True:
            ends = self._results()
            begun = {step for step, _ in self._running.values()}
            for step in ready(steps, ends, begun)[: self._at_once - len(self._running)]:
                if self._job.canceled():
                    self._job.publish_result(step.name, self._round, outcome.died(self._job, begun=False))
                else:
                    self._start(step.name)
            if self._running:
                self._wait()
            elif not ready(steps, self._results(), ()):
                break
        outcome.finish(self._job, self._round)

    def _results(self) -> outcome.Results:
        return self._job.results(self._known, in_round=self._round)

    def _on_term(self, *_: object) -> None:
        for pid in self._running:  # not Popen's send_signal, which may take the end that `_wait` waits for
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def _start(self, step: str) -> None:
        self._attempts[step] += 1
        out = publish.open_log(self._job.slurm / f"r{self._round}-{step}.out")
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", "-m", "hpcbatch.steps", str(self._job.root), self._job.sha256,
                 str(self._round), "step", step],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=self._job.root, env=self._environment,
                pass_fds=[self._lifeline_read],
            )  # fmt: skip
        finally:
            os.close(out)
        self._running[process.pid] = (step, process)

    def _wait(self) -> None:
        """Until one process has ended; a step that ended without a result begins again, or is given up."""
        pid, status = os.wait()
        if pid not in self._running:
            return
        step, process = self._running.pop(pid)
        process.returncode = code = os.waitstatus_to_exitcode(status)
        if step in self._results():
            return
        if self._attempts[step] >= MAX_ATTEMPTS or self._job.canceled():
            self._job.publish_result(step, self._round, {**outcome.died(self._job, begun=True), "exit_code": code})
        elif code > 0:
            time.sleep(0.2 * 2 ** self._attempts[step])


def main() -> int:
    """JOB_DIRECTORY SHA256: supervise until the end, unless another supervisor does."""
    folder, digest = sys.argv[1:3]
    os.umask(0o077)
    job = pipelinedir.open_pipeline(Path(folder), digest)
    if local.claim_in(job.rounds_folder, os.getpid()) == os.getpid():
        Supervisor(job, max(2, os.cpu_count() or 2)).run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
