"""What a repair round does otherwise than the one before: more memory, other nodes; and when another is in vain."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import (
    MAX_EXCLUDED_NODES,
    MAX_MEMORY_RAISES,
    Lessons,
    SlurmEnd,
    can_grow,
    learn,
    lessons_of,
    publish_lessons,
    request,
    size_text,
    worth_another_round,
)  # fmt: skip
from hpcbatch.records.job import ComputePart
from hpcbatch.records.ledger import FLAG_TIME_LIMIT, Kind
from tests.unit.jobdir.sealed import Size, seal

INIT = {"kind": "init", "type": "OSError", "message": "no driver"}


@pytest.fixture
def job(tmp_path: Path) -> JobDir:
    slurm = ComputePart("spot", "slurm", "low_priority", 8, {"mem": "2G"})
    return seal(tmp_path / "b1", Size(items=24, groups=12), compute=slurm)


def begin(job: JobDir, group: int, node: str, *, round_number: int = 0, memory_mib: int = 2048) -> AttemptWriter:
    folder = job.paths.group(round_number, group)
    make_directory(folder)
    about = {"node": node, "memory_mib": memory_mib}
    return AttemptWriter(folder, job=job.record.uuid_bytes, group=group, epoch=1, about=about)


def good(job: JobDir, group: int, node: str, **more: Any) -> None:
    """init() returned, a mini-batch was finished."""
    writer = begin(job, group, node, **more)
    writer.init_ended(10)
    writer.start(group)
    writer.commit(group, b"x\n", rows=1, failed_items=0, run_ms=70 + group)
    writer.note(Kind.END)
    writer.close()


def gave_up(job: JobDir, group: int, node: str, report: Mapping[str, Any] = INIT, **more: Any) -> None:
    writer = begin(job, group, node, **more)
    writer.note(Kind.ABORT, report)
    writer.close()


def killed(writer: AttemptWriter) -> None:
    os.close(writer._segment)
    os.close(writer._ledger)
    writer._segment = writer._ledger = -1


def short_of_memory(job: JobDir, group: int, **more: Any) -> None:
    """The mini-batch of this number was killed for memory twice and set aside."""
    writer = begin(job, group, "n1", **more)
    writer.init_ended(10)
    for _ in range(2):
        writer.start(group)
        writer.fail(group, {"kind": "memory"}, final=False, failed_items=0, memory=True)
    writer.note(Kind.END)
    writer.close()


def learned(job: JobDir, ends: list[SlurmEnd] | None = None, round_number: int = 0) -> Lessons:
    return learn(job, read_coverage(job), round_number, ends or ())


# ---- durations, and the document ------------------------------------------------------------------------------------


def test_a_round_learns_how_long_a_mini_batch_may_take(job: JobDir) -> None:
    """Workers of the next round have none of these ledgers in their groups' folders."""
    good(job, 0, "n1")
    good(job, 3, "n1")
    assert learned(job) == Lessons(longest_run_ms=73)


def test_lessons_are_kept_once(job: JobDir) -> None:
    """Round 0 has none. Keys of a newer version are passed over."""
    first = Lessons(5, 1, 2048, ("n1", "n2"), 1, ("a", "b"))
    publish_lessons(job, 1, first)
    publish_lessons(job, 1, Lessons(6))
    assert (lessons_of(job, 0), lessons_of(job, 1)) == (Lessons(), first)
    path = job.paths.round(1) / "lessons.json"
    path.write_text(path.read_text().replace("{", '{"later":[1],', 1))
    assert lessons_of(job, 1) == first


def test_lessons_add_up_over_rounds(job: JobDir) -> None:
    publish_lessons(job, 1, Lessons(900, 1, 2048, ("n9",), 1, ("before",)))
    short_of_memory(job, 7, round_number=1, memory_mib=4096)
    assert learned(job, round_number=1) == Lessons(
        900, 2, 4096, ("n9",), 1,
        ("before", "mini-batch 7 was killed for memory at 4G; round 2 asks for 8G"),
    )  # fmt: skip


# ---- memory ---------------------------------------------------------------------------------------------------------


def test_a_mini_batch_that_was_killed_for_memory_gets_twice_as_much(job: JobDir) -> None:
    short_of_memory(job, 7)
    found = learned(job)
    assert (found.memory_raises, found.memory_was_mib) == (1, 2048)
    assert found.story == ("mini-batch 7 was killed for memory at 2G; round 1 asks for 4G",)
    assert request(job.record.compute.slurm, found)["mem"] == "4G"


def test_many_of_them_are_one_line(job: JobDir) -> None:
    for group in range(7):
        short_of_memory(job, group)
    [line] = learned(job).story
    assert line.startswith("mini-batches 0, 1, 2, 3, 4 and 2 more were killed for memory at 2G")


def test_an_array_task_that_slurm_ended_for_memory_counts_too(job: JobDir) -> None:
    """The whole worker died with its step; what it was running is short of memory."""
    writer = begin(job, 2, "n1")
    writer.init_ended(10)
    writer.start(2)
    killed(writer)
    assert learned(job).story == ()
    assert learned(job, [SlurmEnd(2, "OUT_OF_MEMORY", "n1")]).story == (
        "mini-batch 2 was killed for memory at 2G; round 1 asks for 4G",
    )


def test_init_that_was_killed_for_memory_gets_another_round(job: JobDir) -> None:
    """A model too large for what the compute asks for; while there is more to be had."""
    for group in range(3):
        gave_up(job, group, "n1", {**INIT, "memory": True})
    assert worth_another_round(job, read_coverage(job), 0)
    found = learned(job)
    assert found.story == ("init() was killed for memory at 2G; round 1 asks for 4G",)
    assert found.excluded_nodes == ()
    publish_lessons(job, 1, replace(found, memory_raises=MAX_MEMORY_RAISES))
    gave_up(job, 0, "n1", {**INIT, "memory": True}, round_number=1, memory_mib=16384)
    assert not worth_another_round(job, read_coverage(job), 1)
    assert learned(job, round_number=1).memory_raises == MAX_MEMORY_RAISES


def test_what_succeeded_after_all_needs_no_more_memory(job: JobDir) -> None:
    """A driver was killed beside others; alone the mini-batch fitted."""
    writer = begin(job, 0, "n1")
    writer.fail(0, {"kind": "memory"}, final=False, failed_items=0, memory=True)
    writer.commit(0, b"x\n", rows=1, failed_items=0, run_ms=1)
    writer.note(Kind.END)
    writer.close()
    assert learned(job).memory_raises == 0


def test_memory_grows_while_it_is_known_and_really_grew(job: JobDir, tmp_path: Path) -> None:
    """Not without bound; not on a site that does not say how much there is; not where the largest node is reached;
    not on this machine.
    """
    assert can_grow(job, Lessons(), 2048)
    assert not can_grow(job, Lessons(), 0)
    assert can_grow(job, Lessons(memory_raises=1, memory_was_mib=2048), 4096)
    assert not can_grow(job, Lessons(memory_raises=1, memory_was_mib=4096), 4096)
    assert not can_grow(job, Lessons(memory_raises=MAX_MEMORY_RAISES), 1 << 20)
    assert not can_grow(seal(tmp_path / "local"), Lessons(), 2048)
    short_of_memory(job, 0, memory_mib=0)
    assert learned(job).memory_raises == 0


@pytest.mark.parametrize(
    ("slurm", "most_mib", "expected"),
    [
        ({"mem": "2G"}, 0, {"mem": "8G"}),
        ({"mem": "2G"}, 6000, {"mem": "6000M"}),
        ({"mem": "700"}, 0, {"mem": "2800M"}),
        ({"mem": "1t"}, 0, {"mem": "4096G"}),
        ({"mem_per_cpu": "512MB", "cpus_per_task": 4}, 0, {"mem_per_cpu": "2G", "cpus_per_task": 4}),
        ({"mem_per_cpu": "1G", "cpus_per_task": 4}, 8192, {"mem_per_cpu": "2G", "cpus_per_task": 4}),
        ({"mem_per_cpu": "1G"}, 2048, {"mem_per_cpu": "2G"}),
        ({"mem": "all of it"}, 0, {"mem": "all of it"}),
        ({}, 0, {"mem": "6G"}),
    ],
)
def test_the_request_is_the_computes_times_two_per_raise(
    slurm: dict[str, Any], most_mib: int, expected: dict[str, Any]
) -> None:
    """In whichever way the compute asks; where it does not, twice what there was. Never more than a node has."""
    assert request(slurm, Lessons(memory_raises=2, memory_was_mib=3072), most_mib) == expected


def test_a_request_without_lessons_is_the_computes() -> None:
    assert request({"mem": "2G", "exclude": "n1"}, Lessons()) == {"mem": "2G", "exclude": "n1"}
    assert request({}, Lessons(memory_raises=1)) == {}


def test_sizes_are_written_as_people_do_and_without_the_fractions_that_sbatch_refuses() -> None:
    assert [size_text(mib) for mib in (512, 1024, 1536, 1500, 65536)] == ["512M", "1G", "1536M", "1500M", "64G"]
    assert size_text(0.2) == "1M"  # `--mem=0` would ask for all the memory of a node


def test_a_doubled_request_is_one_that_sbatch_takes() -> None:
    """768M twice, and a node whose memory is no whole number of GiB: `1.5G` is an invalid --mem specification."""
    assert request({"mem": "768M"}, Lessons(memory_raises=1))["mem"] == "1536M"
    assert request({"mem": "96G"}, Lessons(memory_raises=1), most_mib=128_512)["mem"] == "128512M"


# ---- nodes ----------------------------------------------------------------------------------------------------------


def test_a_node_on_which_nothing_starts_is_left_out(job: JobDir) -> None:
    """Two groups failed to start there, and elsewhere one did not."""
    gave_up(job, 0, "n1")
    gave_up(job, 1, "n1")
    good(job, 2, "n2")
    found = learned(job)
    assert found.excluded_nodes == ("n1",)
    assert found.story == ("node n1 failed 2 array tasks at their start; later rounds do without it",)
    assert request({"exclude": "n7"}, found)["exclude"] == "n7,n1"
    assert request({}, found)["exclude"] == "n1"


def test_one_failure_or_a_failure_everywhere_is_no_evidence(job: JobDir) -> None:
    """One group; a node where another group did start; all nodes alike."""
    gave_up(job, 0, "n1")
    good(job, 2, "n2")
    gave_up(job, 3, "n2")
    gave_up(job, 4, "n2")
    assert learned(job).excluded_nodes == ()


def test_nodes_that_all_fail_are_not_blamed(job: JobDir) -> None:
    for group in range(4):
        gave_up(job, group, f"n{group % 2}")
    assert learned(job).excluded_nodes == ()


def test_preempted_fenced_and_dying_attempts(job: JobDir) -> None:
    """Who was told to make room, or made way, is no evidence; who died on the way to init() is."""
    good(job, 11, "n2")
    for group, word, flags in [(0, Kind.RELEASE, 0), (1, Kind.RELEASE, FLAG_TIME_LIMIT), (2, Kind.FENCED, 0)]:
        writer = begin(job, group, "n1")
        writer.note(word, flags=flags)
        killed(writer)
    assert learned(job).excluded_nodes == ()
    for group in (3, 4):
        killed(begin(job, group, "n1"))
    assert learned(job).excluded_nodes == ("n1",)


def test_array_tasks_that_left_no_ledger_are_known_by_slurm(job: JobDir) -> None:
    """The node has no such filesystem, or no Python: only Slurm saw them."""
    good(job, 0, "n2")
    ends = [SlurmEnd(n, "FAILED", "n1") for n in (1, 2)] + [SlurmEnd(0, "COMPLETED", "n2")]
    ends += [SlurmEnd(3, "CANCELLED", "n3"), SlurmEnd(4, "CANCELLED", "n3"), SlurmEnd(5, "NODE_FAIL", "")]
    assert learned(job, ends).excluded_nodes == ("n1",)


def test_not_half_the_cluster_is_left_out(tmp_path: Path) -> None:
    """The worst first, at most eight over all rounds."""
    slurm = ComputePart("spot", "slurm", "low_priority", 8, {})
    job = seal(tmp_path / "b2", Size(items=120, groups=60), compute=slurm)
    good(job, 59, "good")
    for group in range(20):
        gave_up(job, group, f"n{group % 10}")
    gave_up(job, 20, "n9")
    found = learned(job).excluded_nodes
    assert len(found) == MAX_EXCLUDED_NODES
    assert found[:2] == ("n9", "n0")


def test_the_host_names_a_node_outside_of_slurm(job: JobDir) -> None:
    """Ledgers of an older version have no node."""
    folder = job.paths.group(0, 0)
    make_directory(folder)
    for group in (0, 1):
        make_directory(job.paths.group(0, group))
        writer = AttemptWriter(
            job.paths.group(0, group), job=job.record.uuid_bytes, group=group, epoch=1, about={"host": "h1"}
        )
        killed(writer)
    good(job, 2, "n2")
    assert learned(job).excluded_nodes == ("h1",)


# ---- another round --------------------------------------------------------------------------------------------------


def test_init_that_fails_on_some_nodes_only_gets_another_round(job: JobDir) -> None:
    """Twice; then it is not the node."""
    gave_up(job, 0, "n1")
    good(job, 1, "n2")
    assert worth_another_round(job, read_coverage(job), 0)
    assert learned(job).rounds_in_vain == 1
    publish_lessons(job, 1, Lessons(rounds_in_vain=2))
    gave_up(job, 0, "n3", round_number=1)
    assert not worth_another_round(job, read_coverage(job), 1)


def test_init_that_fails_everywhere_gets_none(job: JobDir) -> None:
    """Nor where it fails beside itself on one node: that is chance, and no other node would help."""
    assert not worth_another_round(job, read_coverage(job), 0), "nobody gave up"
    gave_up(job, 0, "n1")
    gave_up(job, 1, "n2")
    assert not worth_another_round(job, read_coverage(job), 0)
    good(job, 2, "n2")
    assert not worth_another_round(job, read_coverage(job), 0)


@pytest.mark.parametrize("kind", ["no-progress", "error_threshold", "time-limit"])
def test_other_reasons_to_give_up_are_final(job: JobDir, kind: str) -> None:
    gave_up(job, 0, "n1", {"kind": kind, "message": "x"})
    good(job, 1, "n2")
    assert not worth_another_round(job, read_coverage(job), 0)
