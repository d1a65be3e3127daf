"""What the files and Slurm say of a round that was submitted: its ids, and what is still alive of it."""

from __future__ import annotations

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir import layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import SlurmEnd
from hpcbatch.scheduler.base import Entry, State


def round_name(job: JobDir, round_number: int) -> str:
    """What the Slurm job names of a round begin with."""
    return f"{job.record.slurm_name}.r{round_number}."


def is_merge(name: str) -> bool:
    """Whether the Slurm job of this *name* is a merge; else it is an array."""
    return name.rpartition(".")[2].startswith("m")


def recorded_ids(job: JobDir) -> dict[str, str]:
    """Slurm job ids that the job's files name: file name below rounds/ to id."""
    found = {}
    for number in job.rounds():
        for name in scan.names(job.paths.round(number)):
            if name.startswith("array-") or layout.merge_number(name) is not None:
                document = job.document(job.paths.round(number) / name) or {}
                found[f"r{number}/{name}"] = str(document.get("slurm_job_id", ""))
    return found


def merges_noted(job: JobDir, round_number: int) -> list[int]:
    """The numbers of the merges of a round that were submitted, ascending."""
    numbers = [layout.merge_number(name) for name in scan.names(job.paths.round(round_number))]
    return sorted(number for number in numbers if number is not None)


def groups_noted(job: JobDir, round_number: int) -> int:
    """How many groups of a round were submitted: arrays follow one another without a gap."""
    start = 0
    while note := job.document(job.paths.round(round_number) / layout.array_name(start)):
        start += max(1, int(note.get("groups", 1)))
    return start


def living_arrays(job: JobDir, round_number: int) -> list[str]:
    """The ids of the round's arrays of which a task is in the queue, waiting, held or running.

    None where Slurm cannot say: a round too many is the smaller harm.
    """
    from hpcbatch.scheduler import slurm_commands

    try:
        entries = slurm_commands.queue(f"{round_name(job, round_number)}w")
    except SchedulerError:
        return []
    return sorted({e.array_job_id for e in entries if e.state is not State.ENDED}, key=_by_number)


def cancelled_by_hand(job: JobDir, round_number: int) -> bool:
    """Whether all that was left of the round's arrays was cancelled (`scancel ARRAY`), not just one of its tasks.

    False where Slurm cannot say: a round too many is the smaller harm.
    """
    from hpcbatch.scheduler import slurm_commands

    noted = {i for name, i in recorded_ids(job).items() if name.startswith(f"r{round_number}/array-")}
    try:
        found = slurm_commands.final_states(f"{round_name(job, round_number)}w")
    except SchedulerError:
        return False
    arrays: dict[str, list[str]] = {}
    for array, state in found:
        if array in noted or not noted:  # one that was submitted twice by mistake was cancelled by us
            arrays.setdefault(array, []).append(state)
    left = []
    for states in arrays.values():
        ended = [state for state in states if state != "COMPLETED"]
        if ended != ["CANCELLED"] or len(states) == 1:  # one of several made room for the merge
            left += ended
    return set(left) == {"CANCELLED"}


def ends(job: JobDir, round_number: int) -> list[SlurmEnd]:
    """How the round's array tasks ended, where and why Slurm says so; nothing where it cannot say."""
    from hpcbatch.scheduler import slurm_commands

    prefix = f"{round_name(job, round_number)}w"
    try:
        found = slurm_commands.ended_tasks(prefix)
    except SchedulerError:
        return []
    first = [(name.removeprefix(prefix).partition("-")[0], index, state, node) for name, index, state, node in found]
    return [SlurmEnd(int(start) + index, state, node) for start, index, state, node in first if start.isdigit()]


def requeue(slurm_job_id: str) -> bool:
    """Have Slurm run this very Slurm job again, some minutes later; False if it refused. The caller is ended then."""
    from hpcbatch.scheduler import slurm_commands

    try:
        slurm_commands.call(["scontrol", "requeue", "incomplete", slurm_job_id])
    except SchedulerError:
        return False
    return True


def held(entries: list[Entry]) -> list[str]:
    """What to name to `scontrol release`: the held tasks, or the whole array where its tasks are many."""
    found: dict[str, list[str]] = {}
    for entry in entries:
        if entry.state is State.HELD:
            found.setdefault(entry.array_job_id, []).append(entry.slurm_job_id)
    return [
        name
        for array, names in found.items()
        for name in (names if len(names) <= 5 and "[" not in "".join(names) else [array])
    ]


def _by_number(slurm_job_id: str) -> int:
    return int(slurm_job_id) if slurm_job_id.isdigit() else 0
