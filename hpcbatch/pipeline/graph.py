"""What may start, what must not, and which steps travel together: decided from states alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from hpcbatch.ids import canonical, sha256
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.words import counted

# Azure ML's words for the end of a step.
COMPLETED, FAILED, CANCELED, NOT_STARTED = "Completed", "Failed", "Canceled", "NotStarted"
ENDS = (COMPLETED, FAILED, CANCELED, NOT_STARTED)


def obstacle(step: PipelineStep, ends: Mapping[str, str], *, continue_on_step_failure: bool) -> str | None:
    """Why *step* must not start, given how others ended; None if it may.

    A step needs every step that it reads from. Without *continue_on_step_failure* the first failure anywhere ends all
    starts; with it only what depends on the failure does not run (Azure ML, pipeline job settings).
    """
    for name in step.dependencies:
        if ends.get(name) != COMPLETED:
            return f"step {name!r}, which it reads from, is {ends.get(name, 'not there')}"
    if not continue_on_step_failure:
        failed = sorted(name for name, end in ends.items() if end == FAILED)
        if failed:
            return f"step {failed[0]!r} failed and continue_on_step_failure is false"
    return None


def ready(steps: Sequence[PipelineStep], ends: Collection[str], begun: Collection[str]) -> list[PipelineStep]:
    """The steps whose dependencies have all ended, well or not, and that have not begun; in the order of the record."""
    return [s for s in steps if s.name not in begun and s.name not in ends and set(s.dependencies) <= set(ends)]


def pipeline_end(steps: Sequence[PipelineStep], ends: Mapping[str, str], *, canceled: bool) -> tuple[str, str]:
    """(status, reason) of a pipeline whose every step has ended."""
    failed = [s.name for s in steps if ends.get(s.name) == FAILED]
    if all(ends.get(s.name) == COMPLETED for s in steps):
        return COMPLETED, ""
    if canceled:
        return CANCELED, "The job was canceled."
    if failed:
        return FAILED, f"{len(failed)} of {counted(len(steps), 'step')} failed: {', '.join(failed[:5])}."
    return FAILED, f"{sum(ends.get(s.name) != COMPLETED for s in steps)} of {counted(len(steps), 'step')} did not run."


@dataclass(frozen=True)
class Unit:
    """Steps that are one submission: alike in all that Slurm sees, so that siblings are one array."""

    number: int
    steps: tuple[PipelineStep, ...]
    parents: tuple[str, ...]  # names of steps


def units(steps: Sequence[PipelineStep], largest: int) -> list[Unit]:
    """*steps*, which are in topological order, as submissions of at most *largest*, each after all its parents.

    Dependencies on steps that are not among *steps* have been met before.
    """
    names = {s.name for s in steps}
    depth: dict[str, int] = {}
    groups: dict[tuple[int, str], list[PipelineStep]] = {}
    for step in steps:
        parents = [name for name in step.dependencies if name in names]
        depth[step.name] = 1 + max((depth[name] for name in parents), default=-1)
        groups.setdefault((depth[step.name], _alike(step, parents)), []).append(step)
    found: list[Unit] = []
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):
        for start in range(0, len(group), largest):
            members = tuple(group[start : start + largest])
            parents = [name for name in members[0].dependencies if name in names]
            found.append(Unit(len(found), members, tuple(parents)))
    return found


def halved(cut: Sequence[Unit], number: int) -> list[Unit]:
    """*cut* with unit *number*, of at least two steps, in two parts; those after it are numbered on."""
    parts: list[Unit] = []
    for unit in cut:
        middle = len(unit.steps) // 2
        pieces = (unit.steps[:middle], unit.steps[middle:]) if unit.number == number else (unit.steps,)
        parts += [Unit(len(parts) + at, piece, unit.parents) for at, piece in enumerate(pieces)]
    return parts


def _alike(step: PipelineStep, parents: Sequence[str]) -> str:
    compute = step.compute
    about = [compute.name, compute.tier, dict(compute.slurm), step.instance_count, tasks_per_node(step), list(parents)]
    return sha256(canonical(about))


def tasks_per_node(step: PipelineStep) -> int:
    """How many processes of its distribution a node runs; 1 without a distribution."""
    distribution = step.distribution or {}
    return max(1, int(distribution.get("process_count_per_instance") or 1))


def leaves(steps: Sequence[PipelineStep]) -> list[str]:
    """The steps that no other step reads from: when they have ended, all have."""
    read = {name for s in steps for name in s.dependencies}
    return [s.name for s in steps if s.name not in read]
