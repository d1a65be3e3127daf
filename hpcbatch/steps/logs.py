"""Follow what the steps of a job print."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpcbatch.fs import scan
from hpcbatch.fs.follow import Follower
from hpcbatch.steps.pipelinedir import PipelineDir


class StepLogs:
    """The logs of the steps of one job (or of the one *step*), read as they grow."""

    def __init__(self, job: PipelineDir, step: str | None = None) -> None:
        self._job = job
        self._step = step
        self._files = Follower()
        self._ends: dict[str, int] = {}
        self._known: dict[str, dict[str, Any]] = {}

    def lines(self) -> Iterator[str]:
        """Whole lines that are new since the last call, each file's under its name; then which steps have ended."""
        results = self._job.results(self._known)
        attempts = self._job.attempts()
        for step in self._job.record.steps:
            if self._step not in (None, step.name):
                continue
            result = results.get(step.name)
            for attempt in attempts.get(step.name, ()):
                yield from self._files.lines(attempt.log, f"{step.name}/{attempt.log.name}", whole=result is not None)
            if step.parallel is not None:
                yield from self._engines(step.name, whole=result is not None)
            if result is not None and self._ends.get(step.name) != result["round"]:
                self._ends[step.name] = result["round"]
                self._files.say_the_title_again()
                detail = f". {result['detail']}" if result.get("detail") else ""
                yield f"-- step {step.name}: {result['status']}{detail}"

    def _engines(self, step: str, *, whole: bool) -> Iterator[str]:
        """What the scoring scripts of a parallel step printed."""
        for number in self._job.rounds():
            folder = self._job.root / "steps" / f"{step}.e{number}" / "slurm"
            for name in scan.names(folder):
                yield from self._files.lines(folder / name, f"{step}/{name}", whole=whole)
