"""Find the run of a step that did the same before, and note the runs that may be found.

`<workspace>/reuse/<user>/<first two of key>/<key>.<n>.json`: written once each; the newest whose outputs are all there
counts. Each user finds his own runs only: others may not be able to read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import FilesystemError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.owned import require_own_folder
from hpcbatch.pipeline.graph import COMPLETED
from hpcbatch.steps.pipelinedir import PipelineDir, publish_document


def find(job: PipelineDir, key: str) -> dict[str, Any] | None:
    """The result of *job*'s step that is a repetition of a run with *key*; None if there is no such run."""
    folder = _folder(job, key)
    if not _is_own(folder.parent):
        return None
    for number in sorted(_numbers(folder, key), reverse=True):
        note = json.loads(scan.read_document(folder / f"{key}.{number}.json"))
        if all(_is_there(Path(path)) for path in note["outputs"].values()):
            where = {"job": note["job"], "step": note["step"], "attempt": note["attempt"]}
            return {
                "status": COMPLETED, "detail": f"Reused from step {note['step']!r} of job {note['job']!r}.",
                "key": key, "outputs": note["outputs"], "reused": where,
            }  # fmt: skip
    return None


def note(job: PipelineDir, key: str, step: str, result: Mapping[str, Any]) -> None:
    """Remember the completed run of *step* under *key*. Raises FilesystemError."""
    folder = _folder(job, key)
    publish.make_directory(folder.parent.parent, 0o1777)  # everybody's, as /tmp is
    publish.make_directory(folder.parent)
    require_own_folder(folder.parent)
    publish.make_directory(folder)
    document = {
        "schema": "hpcbatch.reuse/1", "job": job.record.name, "step": step, "outputs": result["outputs"],
        "attempt": str(job.root / "steps" / str(result["attempt"])),
    }  # fmt: skip
    number = max(_numbers(folder, key), default=0) + 1
    publish_document(folder / f"{key}.{number}.json", document)  # a twin that was first says the same


def _folder(job: PipelineDir, key: str) -> Path:
    workspace = job.root.parent.parent.parent
    return workspace / "reuse" / job.record.user / key[:2]


def _numbers(folder: Path, key: str) -> list[int]:
    return [int(name.split(".")[1]) for name in scan.names(folder) if name.startswith(f"{key}.")]


def _is_own(folder: Path) -> bool:
    """Whether *folder* is there, and nobody else can have put a note into it, which is taken for a result."""
    try:
        require_own_folder(folder)
    except (OSError, FilesystemError):
        return False
    return True


def _is_there(path: Path) -> bool:
    return path.name in scan.names(path.parent)
