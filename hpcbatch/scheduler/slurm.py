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
from pathlib import Path
from typing import Any

import submitit

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import Entry, Request
from hpcbatch.scheduler.environment import staying

SUBMIT_DEADLINE_S = 30
_NAMED = {"partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gres": "gres",
          "nodelist": "nodelist", "exclude": "exclude", "cpus_per_task": "cpus_per_task", "mem": "mem",
          "mem_per_cpu": "mem_per_cpu", "time": "time"}  # fmt: skip


class _Executor(submitit.SlurmExecutor):
    """submitit's executor with a deadline, and without what an enclosing Slurm job would leak into sbatch."""

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        unset = [word for name in staying() for word in ("-u", name)]
        return ["timeout", str(SUBMIT_DEADLINE_S), "env", *unset, "sbatch", str(submission_file_path)]


class SlurmScheduler:
    """The Scheduler on a Slurm cluster; every method is one call of a Slurm command."""

    def submit(self, request: Request) -> str:
        """See Scheduler.submit."""
        executor = _Executor(request.folder)
        executor.update_parameters(**_parameters(request))
        if request.count is not None:
            executor.parameters["map_count"] = request.count
        words = io.StringIO()
        try:
            with contextlib.redirect_stderr(words):
                job = executor._submit_command(_command(request))  # noqa: SLF001  # ADR 0002
        except submitit.core.utils.FailedJobError as error:
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
        return slurm_commands.array_limit(slurm_commands.call(["scontrol", "show", "config"]))


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
    extra: dict[str, Any] = {
        "requeue": True,
        "open-mode": "append",
        "chdir": str(request.folder),
        # sbatch itself is given the allow-list as its environment. A list of names here would make slurmd log the user
        # in (`su -`) for each array task, one after the other.
        "export": "ALL",
        "signal": "USR2@60",
    }
    if slurm.get("reservation") is not None:
        extra["reservation"] = slurm["reservation"]
    if request.hold:
        extra["hold"] = True
    if request.after:
        extra["dependency"] = "afterany:" + ":".join(request.after)
        extra["kill-on-invalid-dep"] = "yes"
    arguments = ["--export=ALL"]  # what `setup` exports in the batch script must reach the step
    if slurm.get("cpus_per_task") is not None:
        arguments.append(f"--cpus-per-task={slurm['cpus_per_task']}")  # not inherited by srun from 22.05 to 23.02
    return found | {
        "job_name": request.name,
        "array_parallelism": request.throttle,
        "stderr_to_stdout": True,
        "use_srun": request.srun,
        "srun_args": arguments,
        "setup": list(slurm.get("setup") or ()) or None,
        "additional_parameters": extra,
    }


def _remove_link(folder: Path) -> None:
    """Submitit leaves a link from the temporary name of each script to its final one; it is of no use afterwards."""
    with os.scandir(folder) as entries:
        links = [e.path for e in entries if e.name.startswith(".submission_file_") and e.is_symlink()]
    for link in links:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
