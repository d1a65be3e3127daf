"""What Slurm's queue and a job's files say together of a job without a verdict, as a word and a sentence."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from hpcbatch.fs import probe, scan
from hpcbatch.jobdir import layout
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import attempts_in, has_ended
from hpcbatch.rounds.standing import groups_noted, is_merge, merges_noted, recorded_ids
from hpcbatch.scheduler.base import Entry, State
from hpcbatch.words import counted

Said = tuple[str, str]
_NEARLY_FULL_BYTES = 1 << 20
_MAX_LOOKED_AT = 32
_NEVER = "what it waits for never comes. End it, then invoke again: hpcbatch job cancel --name {name}"
_MEANS = {
    "DependencyNeverSatisfied": _NEVER,
    "PartitionDown": "the partition takes jobs and runs none now",
    "PartitionInactive": "the partition is closed",
    "PartitionTimeLimit": "its time is longer than the partition allows",
    "PartitionNodeLimit": "it wants more nodes than the partition has",
    "ReqNodeNotAvail": "a node that it needs is reserved, drained or down",
}
_LIMIT = re.compile(r"(?:QOS|Assoc)(?:Max|Grp)\w+")


def in_queue(job: JobDir, entries: Sequence[Entry], merges: Sequence[str]) -> Said:
    """The state of a job of which the *entries* are in the queue and have not ended; *merges* had been submitted before
    it was looked at.
    """
    workers = [e for e in entries if not is_merge(e.name)]
    running = [e for e in workers if e.state in (State.RUNNING, State.COMPLETING)]
    held = [e for e in workers or entries if e.state is State.HELD]
    again = f"hpcbatch job resume --name {job.record.name}"
    parts = [f"Held ({held[0].reason}). Let it run: {again}"] if held else []
    if running:
        parts.insert(0, f"{_tasks(running, 'is', 'are')} running.")
        if gone := [e for e in running if _has_ended(job, e)]:
            parts.append(f"{len(gone)} of them have ended, which Slurm has yet to notice. If it does not: {again}")
    if returning := [e for e in entries if e.state is State.PENDING and e.reason == "BeginTime"]:
        what = _tasks(returning, "waits", "wait") if workers else "The merge waits"
        parts.append(f"{what} to run again{' (requeued)' * bool(workers)}.")
    if workers and not parts:
        parts.append(waiting(job.record.name, workers))
    if not workers and not parts:
        parts.append("The merge is running or waiting to.")
    parts += _unfinished_submission(job, entries, again)
    if gone_merge := merge_that_left(entries, merges):
        parts.append(f"The merge behind them, Slurm job {gone_merge}, has left the queue. Submit another: {again}")
    return ("Running" if running else "Queued" if workers else "Finalizing"), " ".join(parts)


def canceling(job: JobDir) -> str:
    """What to do when a canceled job does not leave the queue: its end was asked for once, maybe in vain."""
    return f"Its Slurm jobs are about to end. If they do not: hpcbatch job cancel --name {job.record.name}"


def merge_that_left(entries: Sequence[Entry], merges: Sequence[str]) -> str:
    """The Slurm job id of the last of *merges* if none is in the queue any more behind array tasks that are: somebody
    cancelled it alone. Empty if not.
    """
    left = merges and entries and not any(is_merge(e.name) for e in entries)
    return merges[-1] if left else ""


def merge_ids(job: JobDir) -> list[str]:
    """The Slurm job ids of the merges of the newest round that were submitted, in this order."""
    latest = job.rounds()[-1]
    notes = [job.document(job.paths.round(latest) / layout.merge_name(n)) or {} for n in merges_noted(job, latest)]
    return [str(note.get("slurm_job_id", "")) for note in notes]


def _tasks(entries: Sequence[Entry], one: str, many: str) -> str:
    return counted(len(entries), f"array task {one}", f"array tasks {many}")


def not_in_queue(job: JobDir) -> Said:
    """The state of a job of which nothing is in the queue."""
    from hpcbatch.scheduler import slurm_commands

    if job.canceled():
        return "Canceled", "The job was canceled."
    ids = sorted(set(recorded_ids(job).values()))
    again = f"hpcbatch job resume --name {job.record.name}"
    if not ids:
        return "NotStarted", f"It was never submitted. Submit it: {again}"
    states = slurm_commands.history(ids, job.record.created)
    said = ", ".join(f"{count} x {state}" for state, count in Counter(states.values()).most_common())
    latest = job.rounds()[-1]
    refused = job.document(job.paths.round(latest) / layout.REFUSED)
    if refused and not groups_noted(job, latest):
        where, why = refused.get("node"), refused.get("message")
        return "NotResponding", f"Stalled: {where} could not submit round {latest}: {why} Submit it from here: {again}"
    merges = merge_ids(job)
    words = _words_of(job, f"{merges[-1]}_0_log.out") if merges else ""  # submitit's name for it
    silent = f"The merge, Slurm job {merges[-1]}, ended without a word. " if merges and not words else ""
    word, text = stalled(job, words)
    return word, f"{silent}{text} Accounting says: {said}." if said else silent + text


def _words_of(job: JobDir, log: str) -> str:
    """The first line of the last that a merge said in its *log*; "" of one that ended before it could: its node is to
    blame then.
    """
    if log not in scan.names(job.paths.slurm):
        return ""
    lines = scan.read_document(job.paths.slurm / log).decode("utf-8", "replace").splitlines()
    return next((line[3:] for line in reversed(lines) if line.startswith("-- ")), "")


def stalled_here(job: JobDir) -> Said:
    """The state of a job on this machine that nothing works on any more."""
    return stalled(job, _words_of(job, "merge.out"))


def stalled(job: JobDir, words: str) -> Said:
    """The state of a job that nothing works on any more, and whose last merge ended with these *words*."""
    again = f"hpcbatch job resume --name {job.record.name}"
    unsent = [name for name in scan.names(job.paths.merge) if name.startswith("UNSENT.")]
    if unsent:
        why = (job.document(job.paths.merge / layout.unsent_name(len(unsent))) or {}).get("message", "")
        kept = f"The outputs are complete in {str(job.paths.out)!r}, and could not be sent: {why}"
        return "NotResponding", f"{kept} Send them again: {again}"
    if probe.free_bytes(job.root) < _NEARLY_FULL_BYTES:
        text = f"Stalled: the filesystem of {str(job.root)!r} is full. Free some space, then: {again}"
    elif words.startswith("ERROR: "):  # it would end in the same way unless something is done about it
        why = words.removeprefix("ERROR: ").rstrip()
        text = f"Stalled: {why}" if why.endswith(again) else f"Stalled: {why} When that is put right: {again}"
    else:
        text = f"Stalled: nothing runs, and it has no verdict. Continue it: {again}"
    return "NotResponding", text


def submission_is_unfinished(job: JobDir) -> bool:
    """Whether a submit limit kept groups of the newest round, or its merge, out of the queue."""
    latest = job.rounds()[-1]
    return groups_noted(job, latest) < job.plan(latest).groups or not merges_noted(job, latest)


def phantoms(job: JobDir, entries: Sequence[Entry]) -> list[Entry]:
    """Array tasks that run as far as Slurm knows, and have ended as their ledgers know."""
    running = [e for e in entries if e.state in (State.RUNNING, State.COMPLETING) and not is_merge(e.name)]
    return [e for e in running[:_MAX_LOOKED_AT] if _has_ended(job, e)]


def owner(root: Path) -> str:
    """The uid in whose queue the job in the folder *root* is; "" for the caller's own."""
    uid = os.stat(root).st_uid
    return "" if uid == os.geteuid() else str(uid)


def _unfinished_submission(job: JobDir, entries: Sequence[Entry], again: str) -> list[str]:
    latest = job.rounds()[-1]
    names = scan.names(job.paths.round(latest))
    if layout.array_name(0) not in names:
        return []
    held_back = job.plan(latest).groups - groups_noted(job, latest)
    found = []
    if held_back > 0:
        groups = counted(held_back, "group is", "groups are")
        found.append(f"{groups} held back by a limit on submitted jobs; the merge submits them.")
    if not merges_noted(job, latest) and not any(is_merge(e.name) for e in entries):
        found.append(f"A limit on submitted jobs left no room for the merge. Submit it: {again}")
    return found


def waiting(name: str, entries: Sequence[Entry]) -> str:
    """Why the *entries* of the job *name*, none of which runs, wait: the reason that says most, and what to do."""
    told = [e for e in entries if e.reason != "Dependency"] or entries
    lost = [e for e in told if "DependencyNeverSatisfied" in e.reason]
    reason = (lost or told)[0].reason.strip("()")
    means = _MEANS.get(reason.partition(",")[0], "").format(name=name)
    if _LIMIT.search(reason):
        means = "a limit of your account or its QOS"
    return f"Waiting in the queue ({reason}: {means})." if means else f"Waiting in the queue ({reason})."


def _has_ended(job: JobDir, entry: Entry) -> bool:
    """Whether a ledger of the array task's group ends with END; a task that is COMPLETING is seen as it is."""
    name = re.search(r"\.r(\d+)\.w(\d+)-", entry.name)
    index = entry.slurm_job_id.partition("_")[2]
    if name is None or not index.isdecimal() or entry.state is State.COMPLETING:
        return False
    round_number, group = int(name[1]), int(name[2]) + int(index)
    return any(has_ended(a) for a in attempts_in(job.paths.group(round_number, group), round_number, group))
