"""A repair round: its plan, and which mini-batches earlier rounds suspect of killing the worker that runs them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from hpcbatch.fs import publish
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.accounting import AttemptTally
from hpcbatch.jobdir.jobdir import JobDir


def crashed_starts(tallies: Iterable[AttemptTally]) -> Counter[int]:
    """How often one of these attempts died without a word while it ran a mini-batch."""
    return Counter(mini_batch for tally in tallies if tally.is_silent for mini_batch in tally.running)


def plan_repair(job: JobDir, round_number: int, plan: bytes, suspects: Mapping[int, int]) -> None:
    """Publish the plan of a repair round, and before it the `crashed_starts` that its workers go by.

    The first writer's plan stands.
    """
    folder = job.paths.round(round_number)
    publish.make_directory(folder)
    document = {"crashed_starts": {str(mini_batch): count for mini_batch, count in sorted(suspects.items())}}
    jobdir.publish_document(folder / layout.SUSPECTS, document)
    jobdir.add_plan(job, round_number, plan)


def suspects_of(job: JobDir, round_number: int) -> dict[int, int]:
    """The `crashed_starts` that *round_number* was planned with."""
    document = job.document(job.paths.round(round_number) / layout.SUSPECTS) or {}
    return {int(mini_batch): int(count) for mini_batch, count in document.get("crashed_starts", {}).items()}
