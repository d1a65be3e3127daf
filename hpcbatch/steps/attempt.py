"""One attempt at one step: its command, run in its environment, and what came of it."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import FilesystemError, HpcBatchError
from hpcbatch.fs import publish
from hpcbatch.ids import canonical, sha256
from hpcbatch.pipeline.command import Value, render
from hpcbatch.pipeline.graph import CANCELED, COMPLETED, FAILED
from hpcbatch.pipeline.reuse import step_key
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.steps import outcome, parallel, recorded, reused, values
from hpcbatch.steps.attention import Attention
from hpcbatch.steps.distributed import spread
from hpcbatch.steps.environment import Given, step_environment
from hpcbatch.steps.pipelinedir import AttemptDir, PipelineDir
from hpcbatch.steps.process import Ended, Launch
from hpcbatch.steps.process import run as run_process
from hpcbatch.tracking import filestore
from hpcbatch.worker import scratch
from hpcbatch.worker.environment import SlurmTask
from hpcbatch.worker.log import UserLog

TAIL_BYTES, TAIL_LINES = 8000, 20
CUT_OFF = "the node is needed by somebody else"


class CutOff(Exception):
    """The command ended because Slurm takes the node away: no result, the next attempt makes it."""


@dataclass(frozen=True)
class StepRun:
    """A step of a job in one round, and the process that runs it."""

    job: PipelineDir
    step: PipelineStep
    round: int
    slurm: SlurmTask
    log: UserLog


def run_step(run: StepRun, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The result of *run*: reused if the same was run before, else made by a new attempt.

    What is wrong with the step is a Failed result; only what is wrong with the machine is raised.
    """
    try:
        found = values.sources(run.step, run.job.record, results)
        values.check_inputs(run.step, found)
        identities = values.identities(found) if run.step.is_deterministic else None
        key = step_key(run.step, identities) if identities is not None else ""
        if key and not run.job.record.force_rerun and (earlier := reused.find(run.job, key)):
            return earlier
        # Without a key of its content it is like no other run: what reads from it is never taken for a repetition.
        unique = key or sha256(canonical([run.job.record.uuid, run.step.name, run.round]))
        attempt = run.job.new_attempt(run.step.name)
        document = {"key": unique, **_attempt(run, attempt, found)}
    except HpcBatchError as error:
        if error.fields.get("errno"):
            raise
        return {"status": FAILED, "detail": str(error)}
    if key and document["status"] == COMPLETED:
        try:
            reused.note(run.job, key, run.step.name, document)
        except FilesystemError as error:  # economy only: a repetition will run again
            run.log.note(f"ERROR: this run cannot be noted, so that a repetition would find it: {error}")
    return document


def _attempt(run: StepRun, attempt: AttemptDir, found: Mapping[str, values.Source]) -> dict[str, Any]:
    step = run.step
    engine = parallel.engine_of(run.job, step, run.round)
    base = engine.outputs if step.parallel else attempt.out
    outputs = values.place_outputs(step, base, outcome.final_paths(run.job, step))
    about: dict[str, Any] = {
        "attempt": attempt.path.name, "host": os.uname().nodename, "slurm_job_id": run.slurm.requeue_id,
        "began": outcome.stamp(),
    }  # fmt: skip
    run.log.note(f"step {step.name}, attempt {attempt.epoch} on {about['host']}")
    local = scratch.open_scratch()
    try:
        # What later attempts at a mini-batch job, or other nodes, read as well has to stay where all see it.
        is_shared = step.instance_count > 1 or step.parallel is not None
        found = values.bring_inputs(step, found, (attempt.path if is_shared else local) / "in")
        run_it = _run_parallel if step.parallel else _run
        ended = run_it(run, attempt, _Placed(found, outputs, local))
    finally:
        publish.remove_tree(local)
    if ended.reason == CUT_OFF:
        raise CutOff
    about |= {"ended": outcome.stamp(), "exit_code": ended.code}
    if tracked := recorded.close_run(run.job, step, attempt, succeeded=not ended.code):
        about["mlflow"] = tracked
    if run.job.canceled():
        return {**about, "status": CANCELED, "detail": "The job was canceled."}
    if ended.code or ended.reason:
        return {**about, "status": FAILED, "detail": _why(ended, attempt), "tail": _tail(attempt)}
    # All that the result names is there after a power cut: what was written, and the names of the folders it is in.
    for folder in (attempt.path, base) if step.parallel else (attempt.path,):
        publish.sync_tree(folder)
    publish.fsync_directory(attempt.path.parent)
    return {**about, "status": COMPLETED, "detail": "", "outputs": {n: str(p) for n, p in outputs.items()}}


@dataclass(frozen=True)
class _Placed:
    """What an attempt has to work with: its inputs, its outputs, a folder on the node."""

    inputs: Mapping[str, values.Source]
    outputs: Mapping[str, Path]
    local: Path


def _run(run: StepRun, attempt: AttemptDir, placed: _Placed) -> Ended:
    step, job = run.step, run.job
    code = _code(run, attempt, placed.local)
    inputs = {name: source.value for name, source in placed.inputs.items()}
    outputs = {name: Value(str(path), is_path=True) for name, path in placed.outputs.items()}
    command = render(step.command, inputs, outputs)
    publish.write_durably(attempt.path / "command.txt", command.encode("utf-8", "surrogateescape"))
    tracked = recorded.run_of(job, step, attempt)
    filestore.begin(attempt.path / "mlruns", tracked)
    # Whoever names a tracking server for the step logs there, and our run is not there.
    is_ours = "MLFLOW_TRACKING_URI" not in step.environment_variables
    more = filestore.environment(attempt.path / "mlruns", tracked) if is_ours else {}
    given = Given({n: v.text for n, v in inputs.items()}, {n: v.text for n, v in outputs.items()}, more)
    environment = step_environment(job, step, given, placed.local / "bin")
    commands, environments = spread(step, [shell(), "-c", command], environment, run.slurm)
    return _watched(run, attempt, Launch(commands, environments, code, attempt.log))


def _run_parallel(run: StepRun, attempt: AttemptDir, placed: _Placed) -> Ended:
    """The mini-batch job of the step, by the local engine; its end is in its files."""
    assert run.step.parallel is not None
    outputs = {name: Value(str(path), is_path=True) for name, path in placed.outputs.items()}
    engine = parallel.prepare(
        run.job, run.step, parallel.engine_of(run.job, run.step, run.round), placed.inputs, outputs
    )
    command = [sys.executable, "-I", "-m", "hpcbatch.rounds.local", str(engine.root), engine.sha256]
    environment = parallel.environment(run.step, run.slurm, os.environ)
    ended = _watched(run, attempt, Launch([command], [environment], engine.root, attempt.log, is_told=False))
    if ended.reason:
        return ended
    why = parallel.failure(run.step.parallel, engine.verdict())
    if not why:
        parallel.take_rows(run.step, engine, placed.outputs)
    return Ended(ended.code, why)


def _watched(run: StepRun, attempt: AttemptDir, launch: Launch) -> Ended:
    log_fd = publish.create_exclusive(attempt.log)
    try:
        attention = Attention(run.slurm, run.log, run.job.canceled)
        ended = run_process(launch, attention, timeout_s=run.step.timeout_s, log_fd=log_fd)
    finally:
        os.close(log_fd)
    if ended.code and not ended.reason and attention.is_over() and not run.job.canceled():
        attention.wait_for_the_end()
        return Ended(ended.code, CUT_OFF)
    return ended


def shell() -> str:
    """The shell of commands: Azure ML's is bash; sh where there is none."""
    return shutil.which("bash") or "/bin/sh"


def _code(run: StepRun, attempt: AttemptDir, local: Path) -> Path:
    """The folder that the command starts in: the unpacked snapshot; where all nodes see it if there are several."""
    target = (attempt.path if run.step.instance_count > 1 else local) / "code"
    if run.step.code is None:
        publish.make_directory(target)
    else:
        scratch.unpack_code(run.job.root / run.step.code.file, run.step.code, target)
    for name in ("outputs", "logs"):  # Azure ML keeps what a command writes there
        kept = attempt.path / "artifacts" / name
        publish.make_directory(kept)
        publish.symlink_once(target / name, str(kept))
    return target


def _why(ended: Ended, attempt: AttemptDir) -> str:
    if ended.reason:
        return ended.reason if ended.reason[0].isupper() else f"Ended because {ended.reason}."
    how = f"exit code {ended.code}" if ended.code > 0 else f"signal {_signal(-ended.code)}"
    last = next((line for line in reversed(_tail(attempt).splitlines()) if line.strip()), "")
    return f"The command ended with {how}" + (f": {last.strip()}" if last else ".")


def _signal(number: int) -> str:
    """The name of a signal as kill(1) takes it; those between the two real-time ones that have a name are counted."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}" if number > signal.SIGRTMIN else str(number)


def _tail(attempt: AttemptDir) -> str:
    """The last lines that the command printed."""
    with open(attempt.log, "rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES))
        text = file.read().decode("utf-8", "replace")
    return "\n".join(text.splitlines()[-TAIL_LINES:])
