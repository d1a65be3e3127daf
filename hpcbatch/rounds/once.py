"""Submit under a name so that one submission stays, whatever is killed or times out in between.

A note names the Slurm job. An sbatch that times out may have been accepted: the name decides. A second try after a
doubtful one is submitted held, so that the later of two can be ended before it runs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir import jobdir
from hpcbatch.scheduler.base import Entry, Request, Scheduler, State

_Answer = TypeVar("_Answer")
DOUBT_S = 12.0  # how long a submission that may have been accepted is looked for


class Submission:
    """Submits what has no note yet and is not in the queue as it was *seen*."""

    def __init__(self, scheduler: Scheduler, seen: list[Entry]) -> None:
        self.scheduler = scheduler
        self.seen = seen

    def once(self, request: Request, note: Path) -> str:
        """The id of the one submission under *request*'s name: noted, found in the queue, or made now."""
        if note.name in scan.names(note.parent):
            return _noted(note)
        mine = self.of_name(request.name, self.seen)
        found, mine = (_oldest(mine), mine) if mine else self._submit(request)
        name = next((e.name for e in mine if e.array_job_id == found), request.name)
        jobdir.publish_document(note, self.about(found, name))
        # Whoever submitted the same round at the same time goes by the note too, so all of them keep the same one.
        kept = _noted(note)
        if others := sorted({found, *(e.array_job_id for e in mine)} - {kept}):
            self.scheduler.cancel(others)
        if any(e.array_job_id == kept and e.state is State.HELD for e in mine):
            self.scheduler.release([kept])
        return kept

    def stem(self, name: str) -> str:
        """The part of *name* that identifies a submission."""
        return name

    def about(self, slurm_job_id: str, name: str) -> dict[str, Any]:
        """What is noted of a submission."""
        return {"slurm_job_id": slurm_job_id, "name": name}

    def of_name(self, name: str, entries: list[Entry]) -> list[Entry]:
        """Those of *entries* that are this submission and have not ended."""
        found = [e for e in entries if e.array_job_id.isdigit() and e.state is not State.ENDED]
        return [e for e in found if self.stem(e.name) == self.stem(name)]

    def _submit(self, request: Request) -> tuple[str, list[Entry]]:
        """Submit; when in doubt look for the name, and only then try once more, held. What the queue showed of it, if
        it was asked.
        """
        try:
            return self.scheduler.submit(request), []
        except SchedulerError as error:
            if not error.fields.get("transient"):
                raise
        if mine := self._look_for(request.name):
            return _oldest(mine), mine
        self.scheduler.submit(replace(request, hold=True))
        if mine := self.of_name(request.name, self.scheduler.queue(self.stem(request.name))):
            return _oldest(mine), mine
        raise SchedulerError(
            f"Slurm accepted {request.name} and does not know it any more.",
            hint="Run the same command again.",
            transient=True,
        )

    def _look_for(self, name: str) -> list[Entry]:
        end = time.monotonic() + DOUBT_S
        while True:
            try:
                if found := self.of_name(name, self.scheduler.queue(self.stem(name))):
                    return found
            except SchedulerError:  # the controller is what is slow; asked again until the time is over
                pass
            if time.monotonic() > end:
                return []
            time.sleep(1.0)


def patiently(ask: Callable[[], _Answer]) -> _Answer:
    """The answer of a query, asked again for a while where the controller is what is slow."""
    end = time.monotonic() + DOUBT_S
    while True:
        try:
            return ask()
        except SchedulerError as error:
            if not error.fields.get("transient") or time.monotonic() > end:
                raise
        time.sleep(1.0)


def _oldest(entries: list[Entry]) -> str:
    return str(min(int(e.array_job_id) for e in entries))


def _noted(note: Path) -> str:
    return str(json.loads(scan.read_document(note))["slurm_job_id"])
