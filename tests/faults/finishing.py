"""What workers and merges do to a job, without their processes: quick enough for thousands of histories."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import attempts_in
from hpcbatch.merge.entry import merge_job
from hpcbatch.records.ledger import Kind
from hpcbatch.worker.recovery import read_group
from tests.unit.jobdir.sealed import expected, output, rows

ROUNDS = 8


def attempt(job: JobDir, round_number: int, group: int, *, sync_every: int = 2) -> Iterator[str]:
    """One attempt at a group, in steps: what a worker does for each mini-batch that is not done."""
    folder = job.paths.group(round_number, group)
    make_directory(folder)
    state = read_group(attempts_in(folder, round_number, group), job.record.uuid_bytes)
    left = [n for n in job.plan(round_number).mini_batches(group) if n not in state.done]
    if not left:
        return
    about = {"host": "here"}
    writer = AttemptWriter(folder, job=job.record.uuid_bytes, group=group, epoch=state.last_epoch + 1, about=about)
    with contextlib.closing(writer):
        for count, mini_batch in enumerate(left, 1):
            writer.start(mini_batch)
            yield "started"
            payload = rows(mini_batch)
            writer.commit(mini_batch, payload, rows=1, failed_items=0, run_ms=1)
            yield "committed"
            if count % sync_every == 0:
                writer.sync()
                yield "synced"
        writer.note(Kind.END, {"completed": len(left)})
        writer.sync()
    yield "ended"


def score(job: JobDir) -> None:
    """Every group of every round, to its end."""
    for number in job.rounds():
        for group in range(job.plan(number).groups):
            for _ in attempt(job, number, group):
                pass


def finish(job: JobDir) -> int:
    """Merge and score what the merge asks for until there is a verdict; how many merges that took.

    What is published is checked after each: never anything but the whole output.
    """
    for merges in range(1, ROUNDS):
        merge_job(job)
        check(job)
        if job.verdict() is not None:
            assert output(job).read_bytes() == expected(job)
            return merges
        score(job)
    raise AssertionError(f"no verdict after {ROUNDS} merges")


def check(job: JobDir) -> None:
    """What always holds: an output is the whole output, and a verdict says so only when it is there."""
    if output(job).exists():
        assert output(job).read_bytes() == expected(job)
    verdict = job.verdict()
    if verdict is not None:
        assert verdict["completed"], verdict
        assert output(job).exists()


def tried(job: JobDir, group: int) -> None:
    """An attempt and a merge that may each fail with an error that names its reason, and nothing else."""
    for call in (lambda: [*attempt(job, 0, group)], lambda: merge_job(job)):
        with contextlib.suppress(OSError, HpcBatchError):
            call()
