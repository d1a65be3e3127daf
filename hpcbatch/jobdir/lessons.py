"""What the rounds of a job have taught: how long a mini-batch takes, how much memory it needs, which nodes are bad.

Written once for each repair round, beside its plan; its array is submitted, and its workers run, by it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpcbatch.fs import publish
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.jobdir.accounting import AttemptTally
from hpcbatch.jobdir.coverage import Coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.words import counted

MAX_MEMORY_RAISES = 3  # each doubles
MAX_EXCLUDED_NODES = 8
MAX_ROUNDS_IN_VAIN = 2  # that array tasks gave up in at their start, although others did not
BAD_STARTS = 2  # groups that one node must have failed, while another node did not
_NEVER_STARTED = ("FAILED", "NODE_FAIL", "BOOT_FAIL")
_SIZE = re.compile(r"(\d+)([KMGT]?)B?\Z", re.ASCII | re.IGNORECASE)
_MIB = {"K": 1 / 1024, "": 1, "M": 1, "G": 1024, "T": 1024**2}


@dataclass(frozen=True)
class SlurmEnd:
    """How Slurm says that one array task ended."""

    group: int
    state: str
    node: str


@dataclass(frozen=True)
class Lessons:
    """What a round goes by. Sizes in MiB, 0 if not known."""

    longest_run_ms: int = 0
    memory_raises: int = 0  # so often was the memory of an array task doubled
    memory_was_mib: int = 0  # too little, as an earlier round had
    excluded_nodes: tuple[str, ...] = ()
    rounds_in_vain: int = 0
    story: tuple[str, ...] = field(default=())  # of all rounds before: what happened, and what was done about it


def lessons_of(job: JobDir, round_number: int) -> Lessons:
    """What *round_number* was planned with; nothing for round 0."""
    document = job.document(job.paths.round(round_number) / layout.LESSONS) or {}
    known = {each.name for each in fields(Lessons)}
    found: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in document.items() if key in known
    }
    return Lessons(**found)


def publish_lessons(job: JobDir, round_number: int, lessons: Lessons) -> None:
    """Keep *lessons* for *round_number*; the first writer's stand."""
    folder = job.paths.round(round_number)
    publish.make_directory(folder)
    jobdir.publish_document(folder / layout.LESSONS, asdict(lessons))


def learn(job: JobDir, coverage: Coverage, round_number: int, ends: Iterable[SlurmEnd] = ()) -> Lessons:
    """The lessons for the round after *round_number*: those before it, and what its attempts and Slurm tell."""
    before = lessons_of(job, round_number)
    ends = list(ends)
    tallies = [t for t in coverage.tallies if t.attempt.round == round_number]
    raises, was_mib, memory_story = _memory(job, coverage, tallies, ends, before)
    nodes, node_story = _nodes(tallies, ends, before)
    return Lessons(
        longest_run_ms=max(before.longest_run_ms, coverage.longest_run_ms),
        memory_raises=raises,
        memory_was_mib=was_mib,
        excluded_nodes=nodes,
        rounds_in_vain=before.rounds_in_vain + any(t.aborted is not None for t in tallies),
        story=(*before.story, *memory_story, *node_story),
    )


def worth_another_round(job: JobDir, coverage: Coverage, round_number: int) -> bool:
    """Whether array tasks that gave up in *round_number* may do better in the next: init() failed for want of memory
    that can still be had; or on some nodes only, while on another node it did not.
    """
    before = lessons_of(job, round_number)
    tallies = [t for t in coverage.tallies if t.attempt.round == round_number]
    gave_up = [(t, t.attempt.reason(t.aborted)) for t in tallies if t.aborted is not None]
    if not gave_up or any(report.get("kind") not in ("init", "damaged") for _, report in gave_up):
        return False
    if all(report.get("memory") for _, report in gave_up):
        return all(_can_have_more(job, t.about(), before) for t, _ in gave_up)
    bad = {_node(t) for t, _ in gave_up}
    elsewhere = any(t.inits and _node(t) not in bad for t in coverage.tallies)
    return elsewhere and before.rounds_in_vain < MAX_ROUNDS_IN_VAIN


def can_grow(job: JobDir, lessons: Lessons, memory_mib: int) -> bool:
    """Whether a later round can have more memory than *memory_mib*, which the array task has now."""
    known = job.record.compute.kind == "slurm" and memory_mib > 0
    return known and lessons.memory_raises < MAX_MEMORY_RAISES and memory_mib > lessons.memory_was_mib


def request(slurm: Mapping[str, Any], lessons: Lessons, most_mib: int = 0) -> dict[str, Any]:
    """The sbatch settings *slurm* with what *lessons* ask for: memory, at most the *most_mib* of a node (0: any), and
    nodes to do without.
    """
    found = dict(slurm)
    if lessons.memory_raises:
        factor = 2**lessons.memory_raises
        if found.get("mem_per_cpu"):
            most_mib //= int(found.get("cpus_per_task") or 1)
            found["mem_per_cpu"] = _raised(str(found["mem_per_cpu"]), factor, most_mib)
        elif found.get("mem"):
            found["mem"] = _raised(str(found["mem"]), factor, most_mib)
        elif lessons.memory_was_mib:
            found["mem"] = _raised(f"{lessons.memory_was_mib}M", 2, most_mib)
    return elsewhere(found, lessons)


def elsewhere(slurm: Mapping[str, Any], lessons: Lessons) -> dict[str, Any]:
    """The sbatch settings *slurm* without the nodes that array tasks could not start on: for a merge, too."""
    if not lessons.excluded_nodes:
        return dict(slurm)
    asked = [str(slurm["exclude"])] if slurm.get("exclude") else []
    return {**slurm, "exclude": ",".join([*asked, *lessons.excluded_nodes])}


def size_text(mib: float) -> str:
    """`2G`, `1536M`: as people write it, and as Slurm takes it, which knows no fractions; rounded up."""
    whole = math.ceil(mib)
    return f"{whole}M" if whole % 1024 else f"{whole // 1024}G"


def _raised(text: str, factor: int, most_mib: int) -> str:
    match = _SIZE.match(text.strip())
    if not match:
        return text
    asked_mib = int(match[1]) * _MIB[match[2].upper()] * factor
    return size_text(min(asked_mib, most_mib) if most_mib else asked_mib)


def _memory(
    job: JobDir, coverage: Coverage, tallies: list[AttemptTally], ends: list[SlurmEnd], before: Lessons
) -> tuple[int, int, list[str]]:
    killed_by_slurm = {end.group for end in ends if end.state == "OUT_OF_MEMORY"}
    hit = [t for t in tallies if t.memory_killed or t.attempt.group in killed_by_slurm or _init_died(t)]
    short = sorted({n for t in hit for n in (*t.memory_killed, *t.running) if not coverage.states[n]})
    abouts = [t.about() for t in hit]
    if not hit or not all(_can_have_more(job, about, before) for about in abouts):
        return before.memory_raises, before.memory_was_mib, []
    had_mib = max(int(about["memory_mib"]) for about in abouts)
    if not short and not any(_init_died(t) for t in hit):
        return before.memory_raises, before.memory_was_mib, []
    what = _counted("mini-batch", "mini-batches", short) if short else "init()"
    number = tallies[0].attempt.round + 1
    line = f"{what} {'was' if len(short) < 2 else 'were'} killed for memory at {size_text(had_mib)}; "
    return before.memory_raises + 1, had_mib, [f"{line}round {number} asks for {size_text(2 * had_mib)}"]


def _can_have_more(job: JobDir, about: Mapping[str, Any], before: Lessons) -> bool:
    return can_grow(job, before, int(about.get("memory_mib") or 0))


def _init_died(tally: AttemptTally) -> bool:
    return tally.aborted is not None and bool(tally.attempt.reason(tally.aborted).get("memory"))


def _nodes(tallies: list[AttemptTally], ends: list[SlurmEnd], before: Lessons) -> tuple[tuple[str, ...], list[str]]:
    failed: dict[str, set[int]] = defaultdict(set)
    good: Counter[str] = Counter()
    began = {t.attempt.group for t in tallies}
    for tally in tallies:
        if tally.inits or tally.commits:
            good[_node(tally)] += 1
        elif not (tally.preempted or tally.at_time_limit or _init_died(tally) or _is_idle_end(tally)):
            failed[_node(tally)].add(tally.attempt.group)
    for end in ends:
        if end.group not in began and end.state in _NEVER_STARTED and end.node:
            failed[end.node].add(end.group)
    bad = [n for n, groups in failed.items() if n and len(groups) >= BAD_STARTS and not good[n] and good.total()]
    news = sorted(set(bad) - set(before.excluded_nodes), key=lambda node: (-len(failed[node]), node))
    news = news[: MAX_EXCLUDED_NODES - len(before.excluded_nodes)]
    tasks = {n: counted(len(failed[n]), "array task") for n in news}
    story = [f"node {n} failed {tasks[n]} at their start; later rounds do without it" for n in news]
    return (*before.excluded_nodes, *news), story


def _is_idle_end(tally: AttemptTally) -> bool:
    return tally.ended and tally.aborted is None


def _node(tally: AttemptTally) -> str:
    about = tally.about()
    return str(about.get("node") or about.get("host") or "")


def _counted(one: str, many: str, numbers: list[int]) -> str:
    shown = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"{one if len(numbers) == 1 else many} {shown}"
