"""One attempt at one group: check what is to be run, read what is done, do the rest."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch import __version__
from hpcbatch.errors import FileDamaged, HpcBatchError
from hpcbatch.fs.publish import filesystem_error, make_directory, remove_tree
from hpcbatch.jobdir import jobdir, layout, repair
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import attempts_in, has_ended
from hpcbatch.records.ledger import Kind
from hpcbatch.records.plan import Manifest, Plan
from hpcbatch.scoring.driver import die_with_the_owner
from hpcbatch.scoring.driver_process import DriverProcess, DriverSpec
from hpcbatch.worker import preemption, scratch
from hpcbatch.worker.environment import SlurmTask, driver_arguments, driver_environment, slurm_task
from hpcbatch.worker.log import UserLog
from hpcbatch.worker.loop import Abort, Canceled, GiveWay, Limits, Loop, Work, give_up
from hpcbatch.worker.recovery import MAX_BARREN_ATTEMPTS, MAX_CRASHED_STARTS, GroupState, read_group

EXIT_DONE, EXIT_ABORTED, EXIT_IO, EXIT_FULL = 0, 70, 74, 75
FENCE_CHECK_S = 30.0
MAX_GROUPS_LOOKED_AT, MAX_MINI_BATCHES_LOOKED_AT = 32, 200_000


@dataclass(frozen=True)
class Task:
    """What an array task is told: plain values, nothing to unpickle."""

    job: Path
    sha256: str
    round: int
    group: int


def main(argv: Sequence[str] | None = None) -> int:
    """JOB_DIRECTORY SHA256 ROUND FIRST_GROUP: run the array task's group, FIRST_GROUP plus its index in the array."""
    folder, digest, round_text, first = sys.argv[1:5] if argv is None else argv
    os.umask(0o077)
    if lifeline := os.environ.pop("HPCBATCH_LIFELINE_FD", ""):
        die_with_the_owner(int(lifeline))
    slurm = slurm_task()
    task = Task(Path(folder), digest, int(round_text), int(first) + int(slurm.array_task_id or 0))
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
        return EXIT_IO
    except OSError as error:
        log.note(f"ERROR: {filesystem_error(error, folder)}")
        return EXIT_FULL if error.errno in (errno.ENOSPC, errno.EDQUOT) else EXIT_IO


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


def run_array_task(task: Task, slurm: SlurmTask, log: UserLog) -> int:
    """Score what is left of the group.

    Exit codes: 0 done (or not ours to do), 70 gave up, 74 I/O error, 75 disk full.
    """
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
    log.note(f"group {task.group}, attempt {epoch} on {about['host']}: {left} mini-batches to do")
    try:
        if state.barren >= MAX_BARREN_ATTEMPTS:
            text = f"{state.barren} attempts in a row finished no mini-batch"
            give_up(writer, {"kind": "no-progress", "type": "NoProgress", "message": text})
            return EXIT_ABORTED
        return _score(_Attempt(job, task, plan, writer, slurm, log), state)
    finally:
        writer.close()


def _about(task: Task, slurm: SlurmTask, epoch: int) -> dict[str, Any]:
    return {
        "group": task.group,
        "round": task.round,
        "epoch": epoch,
        "host": os.uname().nodename,
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
        manifest, start = _unharmed(job, local)
        _skip_poison(manifest, state, writer, log)
        loop = Loop(
            manifest=manifest,
            writer=writer,
            limits=_limits(job),
            work=_work(attempt.plan, task.group, state),
            start=start,
            log=log,
        )
        _listen(loop, attempt)
        loop.ticks.append(_fence(job, task, writer))
        loop.run()
        writer.note(Kind.END, {"completed": loop.completed, "failed_items": loop.failed_items})
        writer.sync()
    except GiveWay:
        writer.note(Kind.FENCED)
        writer.sync()
        log.note("a later attempt of this group exists; giving way")
        return EXIT_DONE
    except Canceled:
        writer.note(Kind.RELEASE)
        writer.sync()
        log.note("the job was canceled")
        return EXIT_DONE
    except Abort as abort:
        give_up(writer, abort.report)
        log.note(f"ERROR: {abort.report['message']}")
        return EXIT_ABORTED
    finally:
        remove_tree(local)
    log.note(f"group {task.group}: done, {loop.completed} mini-batches in this attempt")
    return EXIT_DONE


def _unharmed(job: JobDir, local: Path) -> tuple[Manifest, Callable[[int], DriverProcess]]:
    """What was submitted, checked against its digests. Abort if it is something else, or gone: nothing runs then."""
    try:
        manifest = job.manifest(check=True)
        return manifest, _driver_factory(job, manifest, local)
    except (FileDamaged, FileNotFoundError) as error:
        words = error.message if isinstance(error, FileDamaged) else f"{error.filename} is not there."
        raise Abort({"kind": "damaged", "type": type(error).__name__, "message": words}) from error


def _limits(job: JobDir) -> Limits:
    scoring = job.record.scoring
    return Limits(
        drivers=scoring.max_concurrency_per_instance,
        timeout_s=scoring.timeout_s,
        init_timeout_s=scoring.init_timeout_s,
        max_tries=1 + scoring.max_retries,
        max_failed_items=scoring.error_threshold,
    )


def _work(plan: Plan, group: int, state: GroupState) -> Work:
    def fresh() -> list[int]:
        return [n for n in plan.mini_batches(group) if n not in state.done and n not in state.crashed_starts]

    suspects = sorted(n for n in state.crashed_starts if n not in state.done)
    return Work(iter(fresh()), suspects, dict(state.tries), state.failed_items)


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


def _driver_factory(job: JobDir, manifest: Manifest, local: Path) -> Callable[[int], DriverProcess]:
    record = job.record
    assert record.code is not None
    code = scratch.unpack_code(job.paths.root / record.code.file, record.code, local / "code")
    model = scratch.place_model(record.model, local / "model") if record.model else None
    arguments = [*driver_arguments(record.scoring), "--input_fds_0", manifest.root]
    arguments[1] = record.code.scoring_script

    def start(number: int) -> DriverProcess:
        spec = DriverSpec(
            python=record.scoring.python,
            launcher=(),
            environment=driver_environment(job, model, number),
            code=str(code),
            script=record.code.scoring_script if record.code else "",
            argv=arguments,
            root=manifest.root,
            output_action=record.scoring.output_action,
        )
        try:
            return DriverProcess(spec)
        except (FileNotFoundError, PermissionError) as error:
            words = f"the interpreter {record.scoring.python!r} cannot be started: {error.strerror}"
            raise Abort({"kind": "init", "type": type(error).__name__, "message": words}) from error

    return start


def _listen(loop: Loop, attempt: _Attempt) -> None:
    writer = attempt.writer
    signals = preemption.Signals()
    ask = preemption.requeue(attempt.slurm)

    def on_signal(_: int) -> None:
        came = signals.take()
        if signal.SIGTERM in came and attempt.job.canceled():
            raise Canceled
        # SIGUSR2 comes shortly before the time limit, with a short limit at the very start: then there is nothing to
        # gain by beginning again.
        if (signal.SIGTERM in came or (signal.SIGUSR2 in came and loop.completed)) and not writer.sync_each:
            writer.note(Kind.RELEASE)
            writer.sync()
            writer.sync_each = True
            attempt.log.note("told to make room: what is finished is safe; working on until the end")
            ask()

    loop.watch(signals.read_fd, on_signal)


def _fence(job: JobDir, task: Task, writer: AttemptWriter) -> Callable[[], None]:
    """A check that ends this process when a later attempt exists. Economy only: the merge takes one result per
    mini-batch.
    """
    checked = [time.monotonic()]
    folder = job.paths.group(task.round, task.group)

    def check() -> None:
        if time.monotonic() - checked[0] < FENCE_CHECK_S:
            return
        checked[0] = time.monotonic()
        if any(attempt.epoch > writer.epoch for attempt in attempts_in(folder, task.round, task.group)):
            raise GiveWay

    return check


def _owns(job: JobDir, task: Task, slurm: SlurmTask) -> bool:
    """Whether this is the submission that runs the round.

    Of two arrays under one name the noted one runs; before there is a note, the first to start.
    """
    if not slurm.array_job_id:
        return True
    first = task.group - int(slurm.array_task_id)
    folder = job.paths.round(task.round)
    noted = job.document(folder / layout.array_name(first))
    if noted is None:
        owner = folder / f"OWNER-{first}"
        jobdir.publish_document(owner, {"slurm_job_id": slurm.array_job_id})
        noted = job.document(owner)
    return noted is None or noted.get("slurm_job_id") == slurm.array_job_id


__all__ = ["EXIT_ABORTED", "EXIT_DONE", "EXIT_FULL", "EXIT_IO", "Task", "main", "run_array_task"]
