"""One merge: everything is there, so publish it; or something is missing, so plan the round that makes it."""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs import probe, scan
from hpcbatch.fs.publish import create_once, filesystem_error, says_full
from hpcbatch.fs.tree import NameClash
from hpcbatch.jobdir import jobdir, layout, repair
from hpcbatch.jobdir.coverage import Coverage, Rejected, read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles
from hpcbatch.jobdir.lessons import SlurmEnd, learn, lessons_of, publish_lessons, worth_another_round
from hpcbatch.merge.elsewhere import send
from hpcbatch.merge.files import Published, publish_files
from hpcbatch.merge.payloads import DamagedPayload, RowsDiffer
from hpcbatch.merge.rows import filler
from hpcbatch.merge.verdict import first_words, reason_to_fail, rows_that_differ, summary
from hpcbatch.merge.write import Written, write_output
from hpcbatch.planning.plan import cut, group_count
from hpcbatch.records.ledger import Record
from hpcbatch.records.merge_plan import MergePlan, parse_merge_plan
from hpcbatch.records.plan import pack_plan
from hpcbatch.words import counted, mini_batches

EXIT_PUBLISHED, EXIT_FAILED, EXIT_INCOMPLETE, EXIT_IO, EXIT_FULL = 0, 5, 8, 74, 75
TOO_EARLY = -1  # what `merge_job` answers while array tasks of its round are alive
EARLY_BYTES = 256 << 20
MAX_ROUNDS, MAX_BARREN_ROUNDS = 20, 4


def main(argv: Sequence[str] | None = None) -> int:
    """JOB_DIRECTORY SHA256 [ROUND [NUMBER] | early]: merge, and print what came of it.

    Exit codes: 0 published, or what is missing was submitted; 5 failed, 8 incomplete, 74 I/O error, 75 disk full. An
    `early` merge, by the last array task that ended, publishes what is complete and small, and leaves everything else
    to the dependent job: 0 unless the disk is to blame. NUMBER counts the merges of one round, from 0.
    """
    folder, digest, *more = sys.argv[1:] if argv is None else argv
    os.umask(0o077)
    try:
        job = jobdir.open_job(Path(folder), digest)
        if more == ["early"]:
            return merge_early(job)
        current = int(more[0]) if more else job.rounds()[-1]
        code, text = merge_job(job, current)
        if code in (EXIT_INCOMPLETE, TOO_EARLY) and job.record.compute.kind == "slurm":
            from hpcbatch.merge.going_on import go_on  # heavy, and only needed when something is missing

            done, what = go_on(job, current, int(more[1]) if more[1:] else 0, too_early=code == TOO_EARLY)
            code, text = EXIT_PUBLISHED if done else EXIT_INCOMPLETE, f"{text}\n-- {what}"
    except OSError as error:
        code = EXIT_FULL if says_full(error) else EXIT_IO
        text = f"ERROR: {filesystem_error(error, folder)}"
    except HpcBatchError as error:
        code = EXIT_FULL if says_full(error) else EXIT_IO
        text = f"ERROR: {error}"
    _say(text)
    return code


def _say(text: str) -> None:
    os.write(1, f"-- {text}\n".encode("utf-8", "replace"))


def merge_early(job: JobDir) -> int:
    """Publish if every mini-batch has a result and the output is small enough not to hold an array task up; 0."""
    if job.verdict() is None and not job.canceled() and job.record.remote_output is None:
        coverage = read_coverage(job)
        if coverage.complete and coverage.output_bytes <= EARLY_BYTES:
            _, text = _publish(job, coverage, job.rounds()[-1])
            _say(text)
    return EXIT_PUBLISHED


def merge_job(job: JobDir, after_round: int | None = None) -> tuple[int, str]:
    """Publish the job's output and verdict if every mini-batch has a result; else plan what is missing.

    *after_round* is the round that this merge was submitted with: when a later one is planned already, this is a merge
    that runs again, and it plans nothing. Nor does it while array tasks of its round are alive (`TOO_EARLY`): its
    dependency was on an id that Slurm had lost, or was met between a preemption and the requeue.

    Any number of these may run at once and die anywhere: the merge plan is frozen before the first byte is copied, the
    output gets its name by link(2), and what is there already is left alone.
    """
    verdict = job.verdict()
    if verdict is not None:
        return (EXIT_PUBLISHED if verdict["completed"] else EXIT_FAILED), "the job has its verdict already"
    if job.canceled():
        return _fail(job, read_coverage(job), "The job was canceled.", canceled=True)
    # Looked up before the ledgers: merges that run at once plan one round, not one each.
    current = job.rounds()[-1] if after_round is None else after_round
    return _publish(job, _wait_for_visibility(job, current), current)


def _publish(job: JobDir, coverage: Coverage, current: int) -> tuple[int, str]:
    rejected: Rejected = frozenset()
    after = 0
    while coverage.complete:
        reason = reason_to_fail(job.record, coverage)
        if reason is not None:
            return _fail(job, coverage, reason)
        number, plan, coverage = _frozen_plan(job, coverage, rejected, after)
        if not coverage.complete:  # another merge's plan, which names what is damaged or not to be seen from here
            after = number
            coverage = read_coverage(job, rejected)
            continue
        try:
            published = publish_files(job, coverage, functools.partial(_write, job, plan))
        except NameClash as clash:
            name = str(clash)
            return _fail(job, coverage, f"{name!r} is the name of a file and of a folder among what run() wrote.")
        except RowsDiffer as differ:
            return _fail(job, coverage, rows_that_differ(job, differ.mini_batch, differ.words))
        except DamagedPayload as damage:
            after = number
            rejected |= {(damage.segment, damage.offset)}
            coverage = read_coverage(job, rejected)
            continue
        return _succeed(job, coverage, published)
    return _incomplete(job, coverage, current)


def _wait_for_visibility(job: JobDir, current: int) -> Coverage:
    """Coverage, read again with growing pauses while something is missing that another node may just have written."""
    end = time.monotonic() + probe.visibility_timeout_s(job.root)
    expected = {(current, group) for group in range(job.plan(current).groups)}
    pause_s = 1.0
    while True:
        coverage = read_coverage(job)
        settled = coverage.complete or _aborts(coverage, current) or expected <= coverage.ended_groups
        if settled or time.monotonic() + pause_s > end:
            return coverage
        time.sleep(pause_s)
        pause_s = min(16.0, 2 * pause_s)


def _aborts(coverage: Coverage, current: int) -> list[tuple[AttemptFiles, Record]]:
    """Attempts of the *current* round that gave up; those of earlier rounds were answered with a new round."""
    return [(attempt, record) for attempt, record in coverage.aborts if attempt.round == current]


def _frozen_plan(job: JobDir, coverage: Coverage, rejected: Rejected, after: int) -> tuple[int, MergePlan, Coverage]:
    """The newest merge plan and the coverage that fits it: made from *coverage* if none is newer than number *after*,
    which points to damaged bytes.
    """
    numbers = [layout.merge_plan_number(name) for name in scan.names(job.paths.merge)]
    number = max([after + 1, *numbers])
    path = job.paths.merge / layout.merge_plan_name(number)
    ours = coverage.pack()
    create_once(path, ours)
    frozen = scan.read_document(path, 1 << 40)
    plan = parse_merge_plan(frozen)
    return number, plan, coverage if frozen == ours else _as_frozen(job, rejected, plan)


def _as_frozen(job: JobDir, rejected: Rejected, plan: MergePlan) -> Coverage:
    """The coverage that fits another merge's *plan*, which may name attempts that are not to be seen here yet."""
    end = time.monotonic() + probe.visibility_timeout_s(job.root)
    while True:
        coverage = read_coverage(job, rejected, plan)
        if coverage.complete or time.monotonic() + 1.0 > end:
            return coverage
        time.sleep(1.0)


def _write(job: JobDir, plan: MergePlan) -> Written | None:
    """Publish the merged rows; None for `summary_only`, whose rows nobody asked for."""
    if job.record.scoring.output_action != "append_row":
        return None
    folder = Path(job.record.output_folder)
    # A folder that the invoker named is for others to read too, as a download is; the job's own is private.
    mode = 0o600 if folder.is_relative_to(job.root) else 0o644
    target = folder / job.record.scoring.output_file_name
    return write_output(target, filler(job.root, plan, job.record.scoring), owner=job.record.uuid, mode=mode)


def _succeed(job: JobDir, coverage: Coverage, published: Published) -> tuple[int, str]:
    written = published.rows
    document: dict[str, Any] = {**summary(job, coverage), "status": "Completed"}
    if written is not None:
        path = str(Path(job.record.output_folder) / job.record.scoring.output_file_name)
        document["output"] = {"path": path, "sha256": written.sha256, "size_bytes": written.size_bytes}
    if published.files is not None:
        document["files"] = published.files
    if sent := send(job, published):
        document["sent_to"] = sent
    jobdir.publish_document(job.paths.out / layout.SUCCESS, document)
    return (
        EXIT_PUBLISHED,
        f"published {document.get('output', {}).get('path', 'the summary')}{sent and f', and sent to {sent}'}",
    )


def _fail(job: JobDir, coverage: Coverage, reason: str, *, canceled: bool = False) -> tuple[int, str]:
    words = first_words(coverage)
    document = {**summary(job, coverage), "status": "Canceled" if canceled else "Failed", "reason": reason}
    if words and not canceled and words.partition(": ")[2] not in reason:
        document["reason"] = f"{reason} First failure: {words}"
    jobdir.publish_document(job.paths.out / layout.failed_name(job.rounds()[-1]), document)
    return EXIT_FAILED, f"ERROR: {document['reason']}"


def _incomplete(job: JobDir, coverage: Coverage, current: int) -> tuple[int, str]:
    """Something has no result: a verdict if trying again is pointless, else a plan for what is missing."""
    missing = coverage.missing()
    count = sum(stop - start for start, stop in missing)
    without = mini_batches(count, "has no result", "have no result")
    if job.rounds()[-1] > current:
        return EXIT_INCOMPLETE, f"{without} yet; a later round is planned already"
    on_slurm = job.record.compute.kind == "slurm"
    if on_slurm and (alive := _living_arrays(job, current)):
        return TOO_EARLY, f"{without} yet; array {', '.join(alive)} is still at work on them"
    final = [] if worth_another_round(job, coverage, current) else _aborts(coverage, current)
    for attempt, record in final[:1]:
        report = attempt.reason(record)
        text = str(report.get("message", "an array task gave up"))
        kind = f"{report['type']}: " if report.get("type") else ""
        return _fail(job, coverage, f"init() failed: {kind}{text}" if report.get("kind") == "init" else text)
    if on_slurm and _cancelled_by_hand(job, current):
        again = f"hpcbatch job resume --name {job.record.name}"
        text = f"{without}, because the array was cancelled with scancel. Continue: {again}"
        return EXIT_FAILED, f"ERROR: {text}"
    if on_slurm and 0 < (noted := _groups_noted(job, current)) < (groups := job.plan(current).groups):
        return EXIT_INCOMPLETE, f"{without} yet; {counted(groups - noted, 'group was', 'groups were')} held back"
    deaths = repair.crashed_starts(coverage.tallies)
    news = [count, deaths.total(), coverage.released]
    if _rounds_spent(job, current, news) >= MAX_ROUNDS or _barren_rounds(job, current, news) >= MAX_BARREN_ROUNDS:
        shown = ", ".join(f"{a}-{b - 1}" if b - a > 1 else f"{a}" for a, b in missing[:5])
        return _fail(job, coverage, f"{without} after {counted(current + 1, 'round')}: {shown}")
    lessons = learn(job, coverage, current, _ends(job, current) if on_slurm else ())
    publish_lessons(job, current + 1, lessons)
    for line in lessons.story[len(lessons_of(job, current).story) :]:
        _say(line)
    groups = group_count(count, at_once=job.record.compute.throttle)
    repair.plan_repair(job, current + 1, pack_plan(current + 1, cut(missing, groups)), deaths)
    jobdir.publish_document(
        job.paths.merge / f"INCOMPLETE.{current}.json",
        {"round": current, "missing": [list(r) for r in missing[:1000]], "mini_batches_missing": count, "news": news},
    )
    return EXIT_INCOMPLETE, f"{without} yet; round {current + 1} will run them"


def _barren_rounds(job: JobDir, current: int, news: list[int]) -> int:
    """How many rounds in a row finished nothing, and saw no worker die or preempted: *news* is what it was before."""
    for number in range(current, 0, -1):
        before = job.document(job.paths.merge / f"INCOMPLETE.{number - 1}.json") or {}
        if before.get("news") != news:
            return current - number
    return current + (news == [job.record.mini_batches, 0, 0])


def _rounds_spent(job: JobDir, current: int, news: list[int]) -> int:
    """The rounds until now that count against the limit: all but those that got on although they were preempted."""
    spent, before = 0, [job.record.mini_batches, 0, 0]
    for number in range(current + 1):
        document = job.document(job.paths.merge / f"INCOMPLETE.{number}.json") or {}
        after = news if number == current else document.get("news", before)
        spent += not (after[0] < before[0] and after[-1] > before[-1])
        before = after
    return spent


def _cancelled_by_hand(job: JobDir, current: int) -> bool:
    from hpcbatch.rounds.standing import cancelled_by_hand  # asks Slurm, and only when something is missing

    return cancelled_by_hand(job, current)


def _ends(job: JobDir, current: int) -> list[SlurmEnd]:
    from hpcbatch.rounds.standing import ends

    return ends(job, current)


def _living_arrays(job: JobDir, current: int) -> list[str]:
    from hpcbatch.rounds.standing import living_arrays

    return living_arrays(job, current)


def _groups_noted(job: JobDir, current: int) -> int:
    from hpcbatch.rounds.standing import groups_noted

    return groups_noted(job, current)
