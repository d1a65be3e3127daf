"""The first array tasks of a round tell the others how init() went: what fails everywhere fails quickly.

Economy only: whoever does not see the notes finds out by itself. At most three notes of one failure, one of success.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from hpcbatch.fs import scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.worker.failures import Abort

ENOUGH = 3


def success_noted(job: JobDir, round_number: int) -> Callable[[], None]:
    """A call that tells the others, once, that init() has returned here: it is not the script that fails elsewhere."""
    told: list[bool] = []

    def note() -> None:
        folder = job.paths.round(round_number)
        if not told and layout.INIT_OK not in scan.names(folder):
            jobdir.publish_document(folder / layout.INIT_OK, {})
        told.append(True)

    return note


def note_failure(job: JobDir, round_number: int, node: str, report: Mapping[str, Any]) -> None:
    """The attempt gave up with *report*: if that was init(), tell the others."""
    if report.get("kind") != "init" or report.get("memory"):
        return
    folder = job.paths.round(round_number)
    digest = sha256(canonical([str(report.get("type")), str(report.get("message"))]))[:16]
    for number in range(ENOUGH):
        if jobdir.publish_document(folder / f"{layout.INIT_FAILED}.{digest}.{number}", {**report, "node": node}):
            return


def give_up_like_others(job: JobDir, round_number: int, node: str) -> None:
    """Raise Abort with the others' report if init() failed in the same way for the first three array tasks, nowhere
    did it return, and *node* is no better than theirs: one of theirs, or one of two that agree.
    """
    folder = job.paths.round(round_number)
    names = scan.names(folder)
    failures = [name for name in names if name.startswith(f"{layout.INIT_FAILED}.") and name.endswith(f".{ENOUGH - 1}")]
    if layout.INIT_OK in names or not failures:
        return
    stem = failures[0].rpartition(".")[0]
    reports = [job.document(folder / f"{stem}.{number}") or {} for number in range(ENOUGH)]
    nodes = {str(report.get("node")) for report in reports}
    if node in nodes or len(nodes) > 1:
        raise Abort({**reports[0], "not_tried": f"init() had failed {ENOUGH} times in the same way"})
