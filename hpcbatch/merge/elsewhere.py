"""Outputs that go to another place: published here first, then put there, and only then is the job Completed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs import scan
from hpcbatch.jobdir.jobdir import JobDir, publish_document
from hpcbatch.jobdir.layout import FILES, unsent_name
from hpcbatch.merge.files import Published


def send(job: JobDir, published: Published) -> str:
    """Put what was *published* where the invoker wants it; the address, empty if it stays here.

    On return the place holds every file, whole. Raises HpcBatchError if one cannot be put, or if something else has its
    name there: nothing is overwritten. What was published here stays, the cause is kept for `job show`, and another
    merge sends again.
    """
    part = job.record.remote_output
    if part is None:
        return ""
    from hpcbatch.dataio.put import put_once  # fsspec, only where an output goes elsewhere

    try:
        for source, name in _files(job, published):
            put_once(source, part, name, owner=job.record.uuid)
    except HpcBatchError as error:
        number = 1 + sum(name.startswith("UNSENT.") for name in scan.names(job.paths.merge))
        publish_document(job.paths.merge / unsent_name(number), {"message": error.message, "at": time.time()})
        raise
    return f"{part.protocol}://{part.root}"


def _files(job: JobDir, published: Published) -> Iterator[tuple[Path, str]]:
    """What is to be sent, and its name there: other files first, the rows last, which a reader waits for."""
    written = job.document(job.paths.out / FILES) if published.files is not None else None
    for name, _ in (written or {}).get("files", ()):
        native = os.fsdecode(name.encode("latin-1"))
        yield Path((written or {})["folder"]) / native, native
    if published.rows is not None:
        name = job.record.scoring.output_file_name
        yield Path(job.record.output_folder) / name, name
