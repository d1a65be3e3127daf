"""Create, open and find job directories."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import FileDamaged, NotFound
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.jobdir import layout
from hpcbatch.jobdir.layout import Layout
from hpcbatch.records.job import JobRecord, parse_job
from hpcbatch.records.plan import Manifest, Plan, parse_manifest, parse_plan


@dataclass(frozen=True)
class JobDir:
    """An existing job: its record and its paths."""

    paths: Layout
    record: JobRecord
    sha256: str  # of job.json; travels with the submission so that every process checks what it reads

    @property
    def root(self) -> Path:
        """The job directory."""
        return self.paths.root

    def manifest(self, *, check: bool = False) -> Manifest:
        """The frozen items, mapped from disk. With *check* the whole file is compared with its digest (FileDamaged)."""
        data = _map(self.paths.manifest)
        if check and sha256(data) != self.record.manifest_sha256:  # type: ignore[arg-type]  # hashlib takes any buffer
            raise FileDamaged(
                f"{self.paths.manifest} is not the manifest that was planned.", hint="Invoke the endpoint again."
            )
        return parse_manifest(memoryview(data))

    def plan(self, round_number: int) -> Plan:
        """The plan of one round, mapped from disk."""
        return parse_plan(memoryview(_map(self.paths.round(round_number) / layout.PLAN)))

    def rounds(self) -> list[int]:
        """The numbers of the rounds that have a plan, ascending."""
        found = [int(name[1:]) for name in scan.names(self.paths.rounds) if name[:1] == "r" and name[1:].isdecimal()]
        return sorted(n for n in found if layout.PLAN in scan.names(self.paths.round(n)))

    def document(self, path: Path) -> dict[str, Any] | None:
        """A JSON document of the job; None if it is not there."""
        return scan.document(path)

    def verdict(self) -> dict[str, Any] | None:
        """The job's end as recorded, with `completed` True or False; None while it has none.

        A failure of an earlier round does not count once a later round was planned: `job resume` went on.
        """
        names = scan.names(self.paths.out)
        if layout.SUCCESS in names:
            return {**json.loads(scan.read_document(self.paths.out / layout.SUCCESS)), "completed": True}
        rounds = self.rounds()
        name = layout.failed_name(rounds[-1] if rounds else 0)
        if name in names:
            return {**json.loads(scan.read_document(self.paths.out / name)), "completed": False}
        return None

    def canceled(self) -> bool:
        """Whether somebody asked for the end of this job."""
        return layout.CANCELED in scan.names(self.root)


@dataclass(frozen=True)
class Draft:
    """What `create` needs to seal a job: contents are written as they are."""

    record: JobRecord
    manifest: bytes
    plan: bytes
    code: bytes | None


def create(folder: Path, draft: Draft) -> bool:
    """Seal a whole job directory at *folder* in one step; False, and nothing changed, if that name is taken."""

    def fill(temp: Path) -> None:
        paths = Layout(temp)
        for sub in (paths.groups, paths.rounds, paths.merge, paths.out, paths.score, paths.slurm, paths.round(0)):
            os.mkdir(sub, 0o700)
        contents: Mapping[Path, bytes | None] = {
            paths.manifest: draft.manifest,
            paths.code: draft.code,
            paths.round(0) / layout.PLAN: draft.plan,
            paths.job: draft.record.to_bytes(),
        }
        for path, content in contents.items():
            if content is not None:
                publish.write_durably(path, content)

    publish.make_directory(folder.parent)
    return publish.publish_directory(folder, fill)


def open_job(folder: Path, expected_sha256: str | None = None) -> JobDir:
    """The job at *folder*. Raises NotFound, or FileDamaged if its record is not the expected one."""
    paths = Layout(folder)
    try:
        data = scan.read_document(paths.job)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"There is no job at {str(folder)!r}.", hint="List the jobs: hpcbatch job list", path=str(folder)
        ) from error
    found = sha256(data)
    if expected_sha256 is not None and found != expected_sha256:
        raise FileDamaged(f"{paths.job} is not the record that was submitted.", hint="Invoke the endpoint again.")
    return JobDir(paths, parse_job(data, str(paths.job)), found)


def add_plan(job: JobDir, round_number: int, plan: bytes) -> None:
    """Publish the plan of a repair round unless that round has one already; the first writer's plan stands."""
    folder = job.paths.round(round_number)
    publish.make_directory(folder)
    publish.create_once(folder / layout.PLAN, plan)


def publish_document(path: Path, document: Mapping[str, Any]) -> bool:
    """Publish a JSON document of the job once; False if it is there already."""
    return publish.create_once(path, canonical(document))


def _map(path: Path) -> mmap.mmap | bytes:
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
