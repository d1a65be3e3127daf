"""What a person wants to see of a job: the verdict and the failures first, then progress, then where things are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcbatch.cli.formats import at
from hpcbatch.cli.views import Card, flat

ENDED = ("Completed", "Failed", "Canceled", "NotResponding", "Paused")


def job_card(job: Mapping[str, Any]) -> Card:
    """The job as a card."""
    return Card(title=str(job.get("name", "")), status=str(job.get("status", "")), fields=tuple(flat(job)))


def summary_lines(job: Mapping[str, Any]) -> list[str]:
    """The lines that az ends a stream with."""
    return ["", "Execution Summary", "=================", f"RunId: {job.get('name')}", f"Status: {at(job, 'status')}"]
