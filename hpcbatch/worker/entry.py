"""One attempt at one group: check what is to be run, read what is done, do the rest."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch import __version__
from hpcbatch.errors import FileDamaged, HpcBatchError
from hpcbatch.fs.publish import filesystem_error, make_directory, remove_tree, says_full
from hpcbatch.jobdir import jobdir, layout, repair
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import attempts_in, has_ended
from hpcbatch.jobdir.lessons import Lessons, can_grow, lessons_of, size_text
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import Manifest, Plan
from hpcbatch.scoring.driver import die_with_the_owner
from hpcbatch.scoring.driver_process import DriverProcess, DriverSpec
from hpcbatch.words import mini_batches
from hpcbatch.worker import fetching, first_inits, listening, preemption, scratch, timelimit
from hpcbatch.worker.environment import SlurmTask, driver_arguments, driver_environment, slurm_task
from hpcbatch.worker.failures import Abort, Limits, give_up
from hpcbatch.worker.files import is_captured, names_the_folder, open_output
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.loop import Canceled, GiveWay, Loop
from hpcbatch.worker.memory import MAX_MEMORY_KILLS, MemoryKills
from hpcbatch.worker.recovery import MAX_BARREN_ATTEMPTS, MAX_CRASHED_STARTS, GroupState, read_group
from hpcbatch.worker.tracked import collect, tracking_environment
from hpcbatch.worker.work import Work

EXIT_DONE, EXIT_ABORTED, EXIT_IO, EXIT_FULL = 0, 70, 74, 75
MAX_GROUPS_LOOKED_AT, MAX_MINI_BATCHES_LOOKED_AT = 32, 200_000


@dataclass(frozen=True)
class Task:
    """What an array task is told: plain values, nothing to unpickle."""

    job: Path
    sha256: str
    round: int
    group: int
    end: int = 0  # of the groups of its array; 0 outside of one
    back_after_s: int = 0  # when it may begin again after it was told to make room; 0: when Slurm lets it


def main(argv: Sequence[str] | None = None) -> int:
    """JOB_DIRECTORY SHA256 ROUND FIRST_GROUP [END [BACK_AFTER_S]]: run the array task's group, FIRST_GROUP plus its
    index in the array that has the groups up to END.
    """
    folder, digest, round_text, first, *more = sys.argv[1:] if argv is None else argv
    os.umask(0o077)
    if lifeline := os.environ.pop("HPCBATCH_LIFELINE_FD", ""):
        die_with_the_owner(int(lifeline))
    slurm = slurm_task()
    group = int(first) + int(slurm.array_task_id or 0)
    task = Task(Path(folder), digest, int(round_text), group, *map(int, more))
    log = UserLog(1)
    try:
        code = run_array_task(task, slurm, log)
        if code == EXIT_DONE and slurm.job_id and is_last(task):
            # Saves the wait for the dependent job, which finds the verdict. Another program in this process: the
            # worker knows nothing of merging.
            os.execv(sys.executable, [sys.executable, "-I", "-m", "hpcbatch.merge", folder, digest, "early"])  # noqa: S606  # the same interpreter, plain values
        return code
    except HpcBatchError as error:
        log.note(f"ERROR: {error}")
        return EXIT_FULL if says_full(error) else EXIT_IO
    except OSError as error:
        log.note(f"ERROR: {filesystem_error(error, folder)}")
        return EXIT_FULL if says_full(error) else EXIT_IO


def is_last(task: Task) -> bool:
    """Whether every group of the round seems to have ended, by a look at few files: never for many groups."""
    job = jobdir.open_job(task.job, task.sha256)
    groups = job.plan(task.round).groups
    if groups > MAX_GROUPS_LOOKED_AT or job.record.mini_batches > MAX_MINI_BATCHES_LOOKED_AT:
        return False
    return all(
        any(has_ended(attempt) for attempt in attempts_in(job.paths.group(task.round, group), task.round, group))
        for group in range(groups)
    )


@dataclass(frozen=True)
class _Attempt:
    """One attempt with all that it works on."""

    job: JobDir
    task: Task
    plan: Plan
    writer: AttemptWriter
    slurm: SlurmTask
    log: UserLog
    lessons: Lessons
    signals: preemption.Signals


def run_array_task(task: Task, slurm: SlurmTask, log: UserLog) -> int:
    """Score what is left of the group.

    Exit codes: 0 done (or not ours to do), 70 gave up, 74 I/O error, 75 disk full.
    """
    # From here on, not from the first mini-batch on: a SIGTERM while a model is copied must not look like a bad start.
    signals = preemption.Signals()
    job = scratch.with_patience(lambda: jobdir.open_job(task.job, task.sha256), task.job)
    if job.canceled():
        log.note("the job was canceled; nothing to do")
        return EXIT_DONE
    if not _owns(job, task, slurm):
        log.note("another submission of this round runs already; this one gives way")
        return EXIT_DONE
    plan = job.plan(task.round)
    folder = job.paths.group(task.round, task.group)
    make_directory(folder)
    state = read_group(attempts_in(folder, task.round, task.group), job.record.uuid_bytes)
    earlier = repair.suspects_of(job, task.round)
    state.crashed_starts.update({n: earlier[n] for n in plan.mini_batches(task.group) if n in earlier})
    left = sum(mini_batch not in state.done for mini_batch in plan.mini_batches(task.group))
    if not left:
        log.note(f"group {task.group}: every mini-batch is done")
        return EXIT_DONE
    epoch = state.last_epoch + 1
    about = _about(task, slurm, epoch)
    writer = AttemptWriter(folder, job=job.record.uuid_bytes, group=task.group, epoch=epoch, about=about)
    log.note(f"group {task.group}, attempt {epoch} on {about['host']}: {mini_batches(left)} to do")
    try:
        if state.barren >= MAX_BARREN_ATTEMPTS:
            text = f"{state.barren} attempts in a row finished no mini-batch"
            give_up(writer, {"kind": "no-progress", "type": "NoProgress", "message": text})
            return EXIT_ABORTED
        lessons = lessons_of(job, task.round)
        return _score(_Attempt(job, task, plan, writer, slurm, log, lessons, signals), state)
    finally:
        writer.close()


def _about(task: Task, slurm: SlurmTask, epoch: int) -> dict[str, Any]:
    return {
        "group": task.group,
        "round": task.round,
        "epoch": epoch,
        "host": os.uname().nodename,
        "node": slurm.node,
        "cores": slurm.cores,
        "gpus": slurm.gpus,
        "memory_mib": slurm.memory_mib,
        "pid": os.getpid(),
        "slurm_job_id": slurm.requeue_id,
        "restart": slurm.restart_count,
        "began": time.time(),
        "hpcbatch": __version__,
        "python": sys.version.split()[0],
    }


def _score(attempt: _Attempt, state: GroupState) -> int:
    job, task, writer, log = attempt.job, attempt.task, attempt.writer, attempt.log
    local = scratch.open_scratch()
    try:
        first_inits.give_up_like_others(job, task.round, attempt.slurm.node)
        place = fetching.place_of(job, local)
        manifest, start = _unharmed(job, local, place)
        _skip_poison(manifest, state, writer, log)
        requeue = state.time_limits < timelimit.MAX_REQUEUES
        loop, release = _set_up(attempt, state, (manifest, start, place), requeue=requeue)
        if not loop.run():
            release.time_is_up(requeue=requeue)
            release.wait()
            return EXIT_DONE
        writer.note(Kind.END, {"completed": loop.completed, "failed_items": loop.failed_items})
        writer.sync()
    except GiveWay:
        writer.note(Kind.FENCED)
        writer.sync()
        log.note("a later attempt of this group exists; giving way")
        return EXIT_DONE
    except Canceled:
        writer.note(Kind.FENCED)
        writer.sync()
        log.note("the job was canceled")
        return EXIT_DONE
    except Abort as abort:
        give_up(writer, abort.report)
        first_inits.note_failure(job, task.round, attempt.slurm.node, abort.report)
        log.note(f"ERROR: {abort.report['message']}")
        return EXIT_ABORTED
    finally:
        collect(job, local, log)
        remove_tree(local)
    log.note(f"group {task.group}: done, {mini_batches(loop.completed)} in this attempt")
    return EXIT_DONE


def _set_up(
    attempt: _Attempt, state: GroupState, what: tuple[Manifest, Callable[[int], DriverProcess], fetching.Place | None],
    *, requeue: bool,
) -> tuple[Loop, preemption.Release]:  # fmt: skip
    """The loop over what is left of the group, listening to signals and clocks."""
    job, task, writer, log = attempt.job, attempt.task, attempt.writer, attempt.log
    manifest, start, place = what
    limit, work, limits = _time_limit(attempt, state), _work(attempt.plan, task.group, state), _limits(attempt)
    loop = Loop(
        manifest=manifest,
        writer=writer,
        limits=limits,
        work=work,
        start=start,
        log=log,
        limit=limit,
        memory=MemoryKills(),
        queue=fetching.queue_of(place, manifest, work, limit, limits.drivers),
    )
    release = preemption.Release(writer, attempt.slurm, log, back_after_s=task.back_after_s)
    listening.to_signals(loop, attempt.signals, release, job, limit)
    loop.at_limit = lambda: release.time_is_up(requeue=requeue)
    loop.ticks.append(listening.for_a_later_attempt(job, task.round, task.group, writer.epoch))
    if attempt.slurm.job_id and not attempt.slurm.limit_s:
        at_once = timelimit.is_short(job.record.compute.slurm.get("time"))
        question = timelimit.Question(limit, attempt.slurm.requeue_id, at_once=at_once)
        loop.ticks.append(listening.to_slurm(loop, question))
    loop.ready.append(first_inits.success_noted(job, task.round))
    return loop, release


def _unharmed(
    job: JobDir, local: Path, place: fetching.Place | None
) -> tuple[Manifest, Callable[[int], DriverProcess]]:
    """What was submitted, checked against its digests. Abort if it is something else, or gone: nothing runs then."""
    try:
        manifest = job.manifest(check=True)
        return manifest, _driver_factory(job, f"{place.folder}/" if place else manifest.root, local)
    except (FileDamaged, FileNotFoundError) as error:
        words = error.message if isinstance(error, FileDamaged) else f"{error.filename} is not there."
        raise Abort({"kind": "damaged", "type": type(error).__name__, "message": words}) from error


def _limits(attempt: _Attempt) -> Limits:
    scoring, compute, slurm = attempt.job.record.scoring, attempt.job.record.compute, attempt.slurm
    change = f"hpcbatch compute update --name {compute.name} --set time=2-00:00:00"
    mini_batches = sum(stop - start for start, stop in attempt.plan.group(attempt.task.group))
    return Limits(
        drivers=max(1, min(scoring.max_concurrency_per_instance, mini_batches)),  # what gets nothing needs no init()
        timeout_s=scoring.timeout_s,
        init_timeout_s=scoring.init_timeout_s,
        max_tries=1 + scoring.max_retries,
        max_failed_items=scoring.error_threshold,
        memory=size_text(slurm.memory_mib) if slurm.memory_mib else "",
        more_memory_later=can_grow(attempt.job, attempt.lessons, slurm.memory_mib),
        longer=f"Raise `time` of the compute, then invoke again: {change}",
    )


def _time_limit(attempt: _Attempt, state: GroupState) -> timelimit.TimeLimit:
    longest_ms = max(state.longest_run_ms, attempt.lessons.longest_run_ms)
    limit = timelimit.TimeLimit(longest_s=longest_ms / 1000, cut_short=dict(state.cut_short))
    if attempt.slurm.limit_s:  # the array task began a little earlier than this process; Slurm is asked later
        limit.end = limit.began + attempt.slurm.limit_s
    return limit


def _work(plan: Plan, group: int, state: GroupState) -> Work:
    """What is to be done, what the time limit cut off first; not what was killed for memory often enough."""
    set_aside = {n for n, count in state.memory_kills.items() if count >= MAX_MEMORY_KILLS}
    apart = state.done | set_aside | set(state.crashed_starts) | set(state.cut_short)
    first = sorted(n for n in state.cut_short if n not in state.done | set_aside)
    suspects = sorted(n for n in state.crashed_starts if n not in state.done | set_aside | set(first))

    def pending() -> Iterator[int]:
        yield from first
        yield from (n for n in plan.mini_batches(group) if n not in apart)

    return Work(
        pending(), suspects, dict(state.tries), state.failed_items, dict(state.memory_kills),
        begun=len(state.done) > len(state.given_up),
    )  # fmt: skip


def _skip_poison(manifest: Manifest, state: GroupState, writer: AttemptWriter, log: UserLog) -> None:
    """Give up mini-batches whose start killed the whole worker every time: the next attempt would die of them too."""
    for mini_batch, deaths in sorted(state.crashed_starts.items()):
        if deaths >= MAX_CRASHED_STARTS and mini_batch not in state.done:
            message = f"the whole array task died {deaths} times while it ran (out of memory?); it is not tried again"
            items = manifest.item_count(mini_batch)
            report = {
                "kind": "poison",
                "type": "WorkerDied",
                "message": message,
                "mini_batch": mini_batch,
                "try": deaths,
                "of": deaths,
                "items": manifest.paths(mini_batch)[:5],
            }
            writer.fail(mini_batch, report, final=True, failed_items=items)
            log.failure(mini_batch, report)
            state.done.add(mini_batch)
            state.failed_items += items


def _driver_factory(job: JobDir, items: str, local: Path) -> Callable[[int], DriverProcess]:
    record = job.record
    assert record.code is not None
    code = scratch.unpack_code(job.paths.root / record.code.file, record.code, local / "code")
    named = names_the_folder(job.paths.root / record.code.file)
    model = scratch.place_model(record.model, local / "model") if record.model else None
    # A parallel step of a pipeline has arguments of its own (`program_arguments`).
    own = [str(word) for word in record.properties.get("program_arguments", ())]
    arguments = [*driver_arguments(record.scoring), "--input_fds_0", items, *own]
    arguments[1] = record.code.scoring_script

    def start(number: int) -> DriverProcess:
        output = open_output(local, number, record.scoring, named=named) if is_captured(record.scoring) else ()
        spec = DriverSpec(
            python=record.scoring.python,
            launcher=(),
            environment=tracking_environment(job, local, number)
            | driver_environment(job, model, number, output[0] if output else str(job.paths.score)),
            code=str(code),
            script=record.code.scoring_script if record.code else "",
            argv=arguments,
            root=items,
            output_action=record.scoring.output_action,
            rows=record.scoring.row_format,
            output=output,
        )
        try:
            return DriverProcess(spec)
        except (FileNotFoundError, PermissionError) as error:
            words = f"the interpreter {record.scoring.python!r} cannot be started: {error.strerror}"
            raise Abort({"kind": "init", "type": type(error).__name__, "message": words}) from error

    return start


def _owns(job: JobDir, task: Task, slurm: SlurmTask) -> bool:
    """Whether this is the array that runs the group: of two under one name the noted one.

    The submitter writes the note. Where it has not yet, or died before it could, the array task does, and then the
    submitter goes by that: there is never a moment at which two arrays may work.
    """
    if not slurm.array_job_id:
        return True
    first = task.group - int(slurm.array_task_id)
    note = job.paths.round(task.round) / layout.array_name(first)
    noted = job.document(note)
    if noted is None:
        jobdir.publish_document(note, {"slurm_job_id": slurm.array_job_id, "groups": task.end - first})
        noted = job.document(note) or {}
    return noted.get("slurm_job_id") == slurm.array_job_id


__all__ = ["EXIT_ABORTED", "EXIT_DONE", "EXIT_FULL", "EXIT_IO", "Task", "main", "run_array_task"]
