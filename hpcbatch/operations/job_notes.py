"""What users say about a job after it was sealed: archived or not, tags, a display name. Decides nothing about it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.spec.base import COMMAND_LINE, parse
from hpcbatch.spec.edits import Edit
from hpcbatch.spec.job_texts import JobTexts
from hpcbatch.spec.yamlfile import Loaded
from hpcbatch.steps.pipelinedir import PipelineDir

_FILE = re.compile(r"NOTES\.([0-9]{1,6})\.json\Z", re.ASCII)
_TRIES = 20


def read_notes(job: JobDir | PipelineDir) -> dict[str, Any]:
    """What was said last; empty if nothing was."""
    number = _newest(job)
    if number == 0:
        return {}
    document = json.loads(scan.read_document(job.root / _name(number)))
    return document if isinstance(document, dict) else {}


def shown_notes(notes: Mapping[str, Any]) -> dict[str, Any]:
    """The notes as `show` prints them, over what the job itself says."""
    shown = {key: notes[key] for key in ("display_name", "description", "tags", "properties") if notes.get(key)}
    return {**shown, "archived": True} if notes.get("archived") else shown


def archive(job: JobDir | PipelineDir, *, archived: bool = True) -> None:
    """Leave the job out of lists, or put it back. Nothing else changes: it runs on, its output stays."""
    if bool(read_notes(job).get("archived")) != archived:
        _change(job, lambda before: {**before, "archived": archived})


def update(job: JobDir | PipelineDir, edit: Edit) -> None:
    """Change the job's display name, description, tags or properties. Raises SpecError for anything else."""

    def change(before: Mapping[str, Any]) -> dict[str, Any]:
        texts: dict[str, Any] = {"display_name": None, "description": None, "tags": {}, "properties": {}}
        texts |= {key: before[key] for key in texts if key in before}
        source = Loaded(edit.applied(texts), COMMAND_LINE, {}, Path.cwd(), overridden=edit.paths)
        return {**before, **parse(JobTexts, source).model_dump()}

    _change(job, change)


def _change(job: JobDir | PipelineDir, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> None:
    for _ in range(_TRIES):
        number = _newest(job)
        if publish.create_once(job.root / _name(number + 1), canonical(change(read_notes(job)))):
            return
    raise Conflict(
        f"Somebody else changed the notes of {job.record.name!r} at the same time.", hint="Run the same command again."
    )


def _newest(job: JobDir | PipelineDir) -> int:
    return max((int(match[1]) for name in scan.names(job.root) if (match := _FILE.match(name))), default=0)


def _name(number: int) -> str:
    return f"NOTES.{number}.json"
