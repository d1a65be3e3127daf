"""Jobs that a worker of this very process runs, on an array task that the test describes."""

from __future__ import annotations

import io
import os
import signal
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpcbatch.ids import sha256
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles, attempts_in
from hpcbatch.records.job import CodePart, ComputePart
from hpcbatch.records.ledger import Kind, Record
from hpcbatch.worker import entry
from hpcbatch.worker.environment import SlurmTask
from hpcbatch.worker.log import UserLog
from tests.unit.jobdir.sealed import Size, draft

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT)
NO_SLURM = SlurmTask("", "", "", "0", "n1", 1, 0, 0, 0)


def seal(folder: Path, script: str, count: int = 6, *, groups: int = 1, kind: str = "local", **scoring: Any) -> JobDir:
    """A job of *count* mini-batches with one item each, scored by *script*."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr("score.py", script)
    code = packed.getvalue()
    settings = {"python": sys.executable, "max_retries": 1} | scoring
    made = draft(
        folder, Size(count, 1, groups), settings, code=CodePart("code.zip", sha256(code), "score.py"),
        compute=ComputePart("spot", kind, "dedicated", 2, {}),
    )  # fmt: skip
    assert jobdir.create(folder, replace(made, code=code))
    return jobdir.open_job(folder)


def work(job: JobDir, group: int = 0, *, round_number: int = 0, **slurm: Any) -> int:
    """The exit code of one attempt at a group."""
    task = entry.Task(job.root, job.sha256, round_number, group)
    told = replace(NO_SLURM, **slurm)
    with own_signals(), open(job.root / f"log-{group}", "ab") as log:
        return entry.run_array_task(task, told, UserLog(log.fileno()))


def said(job: JobDir, group: int = 0) -> str:
    return (job.root / f"log-{group}").read_text()


def attempts(job: JobDir, group: int = 0, round_number: int = 0) -> list[AttemptFiles]:
    return attempts_in(job.paths.group(round_number, group), round_number, group)


def records(job: JobDir, *kinds: Kind, group: int = 0) -> list[Record]:
    """Of all attempts at a group, in order."""
    return [r for one in attempts(job, group) for r in one.scan(job.record.uuid_bytes) if r.kind in kinds]


def committed(job: JobDir, group: int = 0) -> Counter[int]:
    return Counter(r.mini_batch for r in records(job, Kind.COMMIT, group=group))


def reason(job: JobDir, kind: Kind, group: int = 0) -> Mapping[str, Any]:
    """What the last record of this kind says."""
    found = [(one, r) for one in attempts(job, group) for r in one.scan(job.record.uuid_bytes) if r.kind == kind]
    attempt, record = found[-1]
    return attempt.reason(record)


def scontrol(folder: Path) -> Path:
    """A Slurm that accepts everything: put *folder* on the PATH. What it was asked is in the file that is returned."""
    log = folder / "asked"
    for name in ("scontrol", "squeue"):
        program = folder / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n')
        program.chmod(0o755)
    return log


@contextmanager
def own_signals() -> Iterator[None]:
    """The worker's signal handlers end with the attempt."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        yield
    finally:
        fd = signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        if fd >= 0:
            os.close(fd)
