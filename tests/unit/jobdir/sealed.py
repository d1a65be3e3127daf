"""Jobs on disk for tests: sealed as `invoke` seals them, with attempts written as a worker writes them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpcbatch.fs.publish import make_directory
from hpcbatch.ids import sha256
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.planning.plan import cut, mini_batch_count
from hpcbatch.records.job import ComputePart, JobRecord, ScoringPart
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import pack_manifest, pack_plan

UUID = "0123456789abcdef0123456789abcdef"

SCORING = ScoringPart(
    python=sys.executable,
    environment_name="env",
    environment_origin="own",
    mini_batch_size=2,
    max_concurrency_per_instance=1,
    error_threshold=-1,
    max_retries=2,
    timeout_s=30.0,
    init_timeout_s=600.0,
    output_action="append_row",
    output_file_name="predictions.csv",
    logging_level="info",
    environment_variables={},
)
COMPUTE = ComputePart(name="local", kind="local", tier="dedicated", throttle=2, slurm={})


@dataclass(frozen=True)
class Size:
    """How large a test job is."""

    items: int = 12
    mini_batch_size: int = 2
    groups: int = 2


def draft(folder: Path, size: Size = Size(), scoring: dict[str, Any] | None = None, **changes: Any) -> Draft:
    """What `jobdir.create` takes for a job of *size* at *folder*; keyword arguments change fields of the record."""
    names = [f"item-{n:04d}.txt".encode() for n in range(size.items)]
    manifest = pack_manifest(names, root="/data/", mini_batch_size=size.mini_batch_size)
    mini_batches = mini_batch_count(size.items, size.mini_batch_size)
    record = JobRecord(
        name=folder.name, uuid=UUID, endpoint="heart", deployment="v1", deployment_revision=1,
        experiment_name="heart", created="2026-11-23T10:00:00Z", user="alice", manifest_sha256=sha256(manifest),
        items=size.items, mini_batches=mini_batches, groups=size.groups, input_path="/data", input_type="uri_folder",
        output_folder=str(folder / "out"), request_sha256="0" * 64,
        scoring=replace(SCORING, mini_batch_size=size.mini_batch_size, **(scoring or {})), compute=COMPUTE,
    )  # fmt: skip
    plan = pack_plan(0, cut([(0, mini_batches)], size.groups))
    return Draft(replace(record, **changes), manifest, plan, code=b"zip")


def seal(folder: Path, size: Size = Size(), scoring: dict[str, Any] | None = None, **changes: Any) -> JobDir:
    """A new job at *folder*."""
    assert jobdir.create(folder, draft(folder, size, scoring, **changes))
    return jobdir.open_job(folder)


def begin(job: JobDir, group: int = 0, *, epoch: int = 1, round_number: int = 0) -> AttemptWriter:
    """The next attempt at one group."""
    folder = job.paths.group(round_number, group)
    make_directory(folder)
    return AttemptWriter(
        folder, job=job.record.uuid_bytes, group=group, epoch=epoch, about={"host": os.uname().nodename}
    )


def rows(mini_batch: int, version: str = "") -> bytes:
    """What run() returns for one mini-batch, as bytes; another *version* is another result."""
    return f"{mini_batch},{'x' * (mini_batch % 7 + 1)}{version}\n".encode()


def commit(writer: AttemptWriter, mini_batch: int, payload: bytes | None = None, *, failed_items: int = 0) -> None:
    """Run one mini-batch to its end."""
    writer.start(mini_batch)
    content = rows(mini_batch) if payload is None else payload
    writer.commit(mini_batch, content, rows=content.count(b"\n"), failed_items=failed_items, run_ms=3)


def end(writer: AttemptWriter) -> None:
    """The attempt finishes its group."""
    writer.note(Kind.END, {"completed": 1})
    writer.sync()
    writer.close()


def score(job: JobDir, mini_batches: Iterable[int], *, group: int = 0, epoch: int = 1, round_number: int = 0) -> None:
    """One whole attempt that commits *mini_batches*."""
    writer = begin(job, group, epoch=epoch, round_number=round_number)
    for mini_batch in mini_batches:
        commit(writer, mini_batch)
    end(writer)


def score_all(job: JobDir, round_number: int = 0) -> None:
    """Every group of one round, each by one attempt."""
    plan = job.plan(round_number)
    for group in range(plan.groups):
        score(job, plan.mini_batches(group), group=group, round_number=round_number)


def expected(job: JobDir) -> bytes:
    """The output of a job of which every mini-batch was committed with its usual rows."""
    return b"".join(rows(n) for n in range(job.record.mini_batches))


def output(job: JobDir) -> Path:
    """Where the merged output is published."""
    return Path(job.record.output_folder) / job.record.scoring.output_file_name


def flip(path: Path, at: int, bit: int = 0) -> None:
    """One bit of a file turns over, as on a failing disk."""
    with open(path, "r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ (1 << bit)]))
