"""A pipeline job's state and that of its steps, derived each time: results, attempts, then one look at the queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcbatch.errors import SchedulerError
from hpcbatch.fs import scan
from hpcbatch.jobdir.jobdir import open_job
from hpcbatch.operations import slurm_state
from hpcbatch.operations.status import OneLook, Queue, Status, progress_of
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.rounds import local
from hpcbatch.scheduler.base import Entry, State
from hpcbatch.steps import units
from hpcbatch.steps.outcome import final_paths
from hpcbatch.steps.parallel import engine_of
from hpcbatch.steps.pipelinedir import INTENT, AttemptDir, PipelineDir
from hpcbatch.steps.submission import is_end, round_name
from hpcbatch.words import counted

Results = Mapping[str, Mapping[str, Any]]


def status_of(job: PipelineDir, queue: Queue | None = None) -> Status:
    """The state of *job*: its verdict, else what the local supervisor or the queue says."""
    verdict = job.verdict()
    if verdict is not None:
        return Status(str(verdict["status"]), str(verdict.get("reason", "")))
    if job.record.steps[0].compute.kind == "local":
        found = _local(job)
    else:
        found = _slurm(job, queue or OneLook())
    if found.word in ("NotResponding", "NotStarted", "Canceled") and (verdict := job.verdict()) is not None:
        return Status(str(verdict["status"]), str(verdict.get("reason", "")))  # it ended between the two looks
    return found


def _local(job: PipelineDir) -> Status:
    if local.living_in(job.rounds_folder):
        if job.canceled():
            return Status("CancelRequested")
        return Status("Running" if scan.names(job.root / "steps") else "Preparing")
    if job.canceled():
        return Status("Canceled", "The job was canceled.")
    if not any(name.startswith("local-") for name in scan.names(job.rounds_folder)):
        return Status("NotStarted", f"It was never started. Start it: hpcbatch job resume --name {job.record.name}")
    return _stalled(job)


def _slurm(job: PipelineDir, queue: Queue) -> Status:
    try:
        entries = tuple(queue(job.record.slurm_name, slurm_state.owner(job.root)))
    except SchedulerError as error:
        return Status("Running", f"Slurm does not answer, so this is a guess from the job's files. {error.message}")
    live = [e for e in entries if e.state is not State.ENDED]
    if not live:
        if job.canceled():
            return Status("Canceled", "The job was canceled.")
        if INTENT not in scan.names(job.round(0)):
            again = f"hpcbatch job resume --name {job.record.name}"
            return Status("NotStarted", f"It was never submitted. Submit it: {again}")
        return _stalled(job)
    if job.canceled():
        return Status("CancelRequested", slurm=entries)
    steps = [e for e in live if not is_end(e.name)]
    running = [e for e in steps if e.state in (State.RUNNING, State.COMPLETING)]
    held = [e for e in steps if e.state is State.HELD]
    how = f"Held ({held[0].reason}). Let it run: scontrol release {held[0].slurm_job_id}" if held else ""
    if waiting := _held_back(job):
        many = counted(waiting, "step is", "steps are")
        how = f"{how} {many} held back by a limit on submitted jobs; those before submit them.".strip()
    if running:
        return Status("Running", f"{counted(len(running), 'step is', 'steps are')} running. {how}".rstrip(), entries)
    if steps:
        begun = bool(scan.names(job.root / "steps"))
        return Status("Running" if begun else "Queued", how or slurm_state.waiting(job.record.name, steps), entries)
    if waiting:
        return Status("Running", how, entries)
    return Status("Finalizing", "The last step has ended; the end of the job is being recorded.", entries)


def _held_back(job: PipelineDir) -> int:
    """How many steps Slurm has not been given yet."""
    number = job.rounds()[-1]
    return sum(map(len, (units.members_of(job, number) or [])[units.noted(job, number) :]))


def _stalled(job: PipelineDir) -> Status:
    again = f"hpcbatch job resume --name {job.record.name}"
    return Status("NotResponding", f"Stalled: nothing runs, and it has no verdict. Continue it: {again}")


def child_name(job: PipelineDir, step: str) -> str:
    """The name of a step as a job of its own."""
    return f"{job.record.name}.{step}"


def step_states(job: PipelineDir, status: Status, known: dict[str, dict[str, Any]] | None = None) -> dict[str, str]:
    """An Azure ML status word for each step, in the order of the record; nothing but files and *status* is asked."""
    results = job.results(known)
    begun = job.attempts()
    queued = _queued(job, status.slurm)
    ended = status.word in ("Completed", "Failed", "Canceled", "NotResponding")
    found = {}
    for step in job.record.steps:
        if step.name in results:
            found[step.name] = str(results[step.name]["status"])
        elif ended:
            found[step.name] = "NotStarted" if step.name not in begun else "NotResponding"
        elif step.name in queued:
            found[step.name] = queued[step.name]
        else:
            found[step.name] = "Running" if step.name in begun else "NotStarted"
    return found


def _queued(job: PipelineDir, entries: tuple[Entry, ...]) -> dict[str, str]:
    """What the queue says of steps: Running, or Queued where all that a step waits for is a place."""
    number = job.rounds()[-1]
    cut = (units.members_of(job, number) or []) if entries else []
    by_name = {f"{round_name(job, number)}u{n}": members for n, members in enumerate(cut)}
    found = {}
    for entry in entries:
        members = by_name.get(entry.name, ())
        running = entry.state in (State.RUNNING, State.COMPLETING)
        waits = entry.reason in ("Dependency", "DependencyNeverSatisfied")
        word = "Running" if running else "NotStarted" if waits else "Queued"
        for index in _indices(entry, len(members)):
            found[members[index]] = word
    return found


def _indices(entry: Entry, count: int) -> list[int]:
    """Which members of a unit an entry of the queue stands for: `12` all, `12_3` one, `12_[4-9%2]` those."""
    _, _, part = entry.slurm_job_id.partition("_")
    if not part:
        return list(range(count))
    found: list[int] = []
    for piece in part.strip("[]").partition("%")[0].split(","):
        first, _, last = piece.partition("-")
        if first.isdecimal() and (not last or last.isdecimal()):
            found += range(int(first), int(last or first) + 1)
    return [index for index in found if index < count]


def describe(job: PipelineDir, status: Status | None = None, *, steps: bool = True) -> dict[str, Any]:
    """What `job show` says: Azure ML's keys, then ours. Without *steps* no more files are read than for the status."""
    status = status or status_of(job)
    record = job.record
    return {
        "id": str(job.root),
        "name": record.name,
        "display_name": record.display_name or record.name,
        "type": "pipeline",
        "status": status.word,
        "detail": status.detail,
        "experiment_name": record.experiment_name,
        "endpoint": record.endpoint,
        "deployment": record.deployment,
        "creation_context": {"created_at": record.created, "created_by": record.user},
        "compute": record.steps[0].compute.name,
        "inputs": {n: {"type": i.type, "path" if _is_data(i.type) else "value": i.value}
                   for n, i in record.inputs.items()},
        "outputs": {n: {"type": o.type, "path": o.path} for n, o in record.outputs.items()},
        "settings": {"continue_on_step_failure": record.continue_on_step_failure, "force_rerun": record.force_rerun},
        **({"jobs": _steps(job, status)} if steps else {}),
        "picture": _picture(job),
        "mlflow": _tracked(job),
        "job_directory": str(job.root),
        "slurm_jobs": [
            {"id": e.slurm_job_id, "name": e.name, "state": e.state.value, "reason": e.reason} for e in status.slurm
        ],
        "warnings": list(record.warnings),
    }  # fmt: skip


def _tracked(job: PipelineDir) -> dict[str, str] | None:
    """The MLflow run of the job, where a step logged anything, and the store that shows the runs of all steps."""
    if not scan.names(job.root / "mlruns"):
        return None
    return {"run_id": job.record.uuid, "tracking_uri": (job.root / "mlruns").as_uri()}


def _picture(job: PipelineDir) -> str | None:
    """The file with the graph as it was when the job ended."""
    name = f"graph.{job.rounds()[-1]}.svg"
    return str(job.root / name) if name in scan.names(job.root) else None


def _steps(job: PipelineDir, status: Status) -> dict[str, Any]:
    known: dict[str, dict[str, Any]] = {}
    states = step_states(job, status, known)
    results = job.results(known)
    return {s.name: _step(job, s, states[s.name], results.get(s.name, {})) for s in job.record.steps}


def _step(job: PipelineDir, step: PipelineStep, state: str, result: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": child_name(job, step.name),
        "display_name": step.display_name or step.name,
        "type": step.kind,
        "status": state,
        "component": step.component,
        "compute": step.compute.name,
        "depends_on": list(step.dependencies),
        "creation_context": {"created_at": result.get("began"), "created_by": job.record.user},
    }
    for key in ("detail", "began", "ended", "reused", "exit_code", "host", "slurm_job_id", "mlflow"):
        if result.get(key) not in (None, "", {}):
            found[key] = result[key]
    return found


def describe_step(job: PipelineDir, step: PipelineStep, status: Status | None = None) -> dict[str, Any]:
    """What `job show` says of one step: a child job."""
    status = status or status_of(job)
    result = job.results().get(step.name, {})
    state = step_states(job, status)[step.name]
    attempts = job.attempts().get(step.name, [])
    made = result.get("outputs", {})
    final = final_paths(job, step)
    return {
        "id": str(job.root / "steps" / step.name),
        **_step(job, step, state, result),
        "parent_job_name": job.record.name,
        "experiment_name": job.record.experiment_name,
        "creation_context": {"created_at": result.get("began", job.record.created), "created_by": job.record.user},
        "inputs": {n: {"type": i.type, "value": i.value} for n, i in step.inputs.items()},
        "outputs": {n: {"type": o.type, "path": final.get(n) or made.get(n)} for n, o in step.outputs.items()},
        "attempts": len(attempts),
        "log": str(log_of(attempts, result)) if attempts or result.get("reused") else None,
        "job_directory": str(job.root),
        "tail": result.get("tail", ""),
        **_mini_batches(job, step),
    }


def _mini_batches(job: PipelineDir, step: PipelineStep) -> dict[str, Any]:
    """How far a parallel step is, from the ledgers of its mini-batch job; {} for other steps, and before it began."""
    for number in reversed(job.rounds()):
        folder = engine_of(job, step, number).folder
        if step.parallel is not None and folder.name in scan.names(folder.parent):
            engine = open_job(folder)
            return {
                "items": engine.record.items, "mini_batches": engine.record.mini_batches,
                "progress": progress_of(engine),
            }  # fmt: skip
    return {}


def log_of(attempts: list[AttemptDir], result: Mapping[str, Any]) -> str:
    """The log of the attempt that counts: the one with the result, that of the run reused, else the newest."""
    if result.get("reused"):
        return f"{result['reused']['attempt']}/std_log.txt"
    named = [a for a in attempts if a.path.name == result.get("attempt")]
    return str((named or attempts)[-1].log)


def _is_data(kind: str) -> bool:
    return kind not in ("string", "integer", "number", "boolean")
