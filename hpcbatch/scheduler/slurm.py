"""Slurm through submitit: submitit renders and submits; what runs on the node is a plain command of ours.

submitit's own node side (pickles, signal handlers, results) is not used: nothing is pickled, so nothing can be planted
or lost, and a worker starts without importing submitit. See docs/adr/0002-submitit-submits.md.
"""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import submitit

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, Preemption, Request
from hpcbatch.scheduler.environment import staying, travelling

SUBMIT_DEADLINE_S = 30
_WARNING = "USR2@60"
_NAMED = {"partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gres": "gres",
          "nodelist": "nodelist", "exclude": "exclude", "cpus_per_task": "cpus_per_task", "mem": "mem",
          "mem_per_cpu": "mem_per_cpu", "time": "time"}  # fmt: skip


class _Executor(submitit.SlurmExecutor):
    """submitit's executor with a deadline, and without what an enclosing Slurm job would leak into sbatch."""

    travelling: Sequence[str] = ()

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        unset = [word for name in staying(self.travelling) for word in ("-u", name)]
        return ["timeout", str(SUBMIT_DEADLINE_S), "env", *unset, "sbatch", str(submission_file_path)]


class SlurmScheduler:
    """The Scheduler on a Slurm cluster; every method is one call of a Slurm command, but for `preemption`."""

    def __init__(self) -> None:
        self._config = ""

    def submit(self, request: Request) -> str:
        """See Scheduler.submit."""
        executor = _executor(request)
        words = io.StringIO()
        try:
            with contextlib.redirect_stderr(words):
                job = executor._submit_command(_command(request))  # noqa: SLF001  # ADR 0002
        except submitit.core.utils.FailedJobError as error:
            if limit := slurm_commands.submit_limit(words.getvalue()):  # sbatch tries again for longer than we wait
                raise slurm_commands.limit_reached(limit, "sbatch") from error
            if _was_ended(error.__cause__):
                raise SchedulerError(
                    f"sbatch did not answer in {SUBMIT_DEADLINE_S} s.",
                    hint="Slurm is busy; run the same command again later.",
                    transient=True,
                ) from error
            raise slurm_commands.failure("sbatch", words.getvalue() or str(error)) from error
        except submitit.core.utils.FailedSubmissionError as error:
            raise SchedulerError(
                f"sbatch printed no job id: {error}", hint="Run the same command again.", transient=True
            ) from error
        _remove_link(request.folder)
        return str(job.job_id)

    def queue(self, prefix: str) -> list[Entry]:
        """See Scheduler.queue."""
        return slurm_commands.queue(prefix)

    def release(self, slurm_job_ids: Sequence[str]) -> None:
        """See Scheduler.release."""
        slurm_commands.call(["scontrol", "release", *slurm_job_ids])

    def cancel(self, slurm_job_ids: Sequence[str]) -> None:
        """See Scheduler.cancel."""
        slurm_commands.call(["scancel", "--quiet", *slurm_job_ids])

    def array_limit(self) -> int:
        """See Scheduler.array_limit."""
        return slurm_commands.array_limit(self._configuration())

    def preemption(self, partition: str) -> Preemption:
        """See Scheduler.preemption. The partition is asked for; the configuration once for this and `array_limit`."""
        return slurm_commands.preemption(
            self._configuration(), slurm_commands.call(["scontrol", "show", "partition", partition])
        )

    def _configuration(self) -> str:
        self._config = self._config or slurm_commands.call(["scontrol", "show", "config"])
        return self._config


def rendered(request: Request) -> str:
    """The batch script that `submit` would hand to sbatch."""
    return str(_executor(request)._make_submission_file_text(_command(request), ""))  # noqa: SLF001  # ADR 0002


def rehearsed(request: Request) -> tuple[bool, str]:
    """Whether Slurm would take *request*, and what it says: when and where it would start (`sbatch --test-only`).

    Nothing is submitted. What the request comes after does not exist yet and is left out. Raises SchedulerError where
    there is no Slurm, or none that answers.
    """
    kept = travelling(request.travelling)
    try:
        done = subprocess.run(
            ["sbatch", "--test-only"], input=rendered(replace(request, after=())), env=kept, cwd="/", text=True,
            capture_output=True, timeout=SUBMIT_DEADLINE_S, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise SchedulerError(
            "sbatch is not installed here.", hint="Run on a login node of the cluster.", transient=False
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(
            f"sbatch did not answer in {SUBMIT_DEADLINE_S} s.", hint="Slurm is busy; try again later.", transient=True
        ) from error
    said = " ".join(line.removeprefix("sbatch:").strip() for line in (done.stderr or done.stdout).splitlines())
    if done.returncode and (refusal := slurm_commands.failure("sbatch", said)).fields.get("no_cluster"):
        raise refusal
    return done.returncode == 0, said.strip()


def _executor(request: Request) -> _Executor:
    executor = _Executor(request.folder)
    executor.travelling = request.travelling
    executor.update_parameters(**_parameters(request))
    if request.count is not None:
        executor.parameters["map_count"] = request.count
    return executor


def _was_ended(error: BaseException | None) -> bool:
    """Whether sbatch was ended, by our deadline (timeout(1): 124) or by a signal: it may have submitted before,
    whatever it had printed by then.
    """
    code = error.returncode if isinstance(error, subprocess.CalledProcessError) else 0
    return code < 0 or code == 124 or code > 128


def _command(request: Request) -> str:
    """The command for a shell. Without srun it takes the place of the batch script's shell: Slurm signals the direct
    child of slurmstepd only, and a shell in between would die of SIGTERM and take the command with it.
    """
    words = shlex.join(request.command)
    return words if request.srun else f"exec {words}"


def _parameters(request: Request) -> dict[str, Any]:
    """Submitit's parameters. Only what the compute names is set: partition, time and memory default to the site's."""
    slurm = request.slurm
    found: dict[str, Any] = {"time": None, "wckey": None}
    found |= {ours: slurm[theirs] for theirs, ours in _NAMED.items() if slurm.get(theirs) is not None}
    # `B:` goes to the batch script, whose place the worker takes, and not to steps. Until it does, and listens, the
    # signal must not end it: with a short limit it comes at once. The merge is not told: it would die of it.
    by_itself = not request.srun and request.count is not None
    setup = ["trap '' USR2"] * by_itself + list(slurm.get("setup") or ())
    extra: dict[str, Any] = {
        "requeue": True,
        "open-mode": "append",
        "chdir": str(request.folder),
        # sbatch itself is given the allow-list as its environment. A list of names here would make slurmd log the user
        # in (`su -`) for each array task, one after the other.
        "export": "ALL",
        "signal": f"B:{_WARNING}" if by_itself else _WARNING,
    }
    if slurm.get("reservation") is not None:
        extra["reservation"] = slurm["reservation"]
    if request.hold:
        extra["hold"] = True
    wanted = [request.dependency] if request.dependency else []
    wanted += ["afterany:" + ":".join(request.after)] if request.after else []
    if wanted:
        extra["dependency"] = ",".join(wanted)
        extra["kill-on-invalid-dep"] = "yes"
    arguments = ["--export=ALL"]  # what `setup` exports in the batch script must reach the step
    if slurm.get("cpus_per_task") is not None:
        arguments.append(f"--cpus-per-task={slurm['cpus_per_task']}")  # not inherited by srun from 22.05 to 23.02
    if request.nodes > 1 or request.tasks_per_node > 1:
        found |= {"nodes": request.nodes, "ntasks_per_node": request.tasks_per_node}
        arguments += ["--nodes=1", "--ntasks=1"]
    return found | {
        "job_name": request.name,
        "array_parallelism": request.throttle,
        "stderr_to_stdout": True,
        "use_srun": request.srun,
        "srun_args": arguments,
        "setup": setup or None,
        "additional_parameters": extra,
    }


def _remove_link(folder: Path) -> None:
    """Submitit leaves a link from the temporary name of each script to its final one; it is of no use afterwards."""
    with os.scandir(folder) as entries:
        links = [e.path for e in entries if e.name.startswith(".submission_file_") and e.is_symlink()]
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
