"""Slurm's query and control commands: argument lists, one subprocess call, parsers apart from both."""

from __future__ import annotations

import calendar
import re
import subprocess
import time
from collections.abc import Sequence

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler.base import Entry, State

DEADLINE_S = 30.0
DEFAULT_MAX_ARRAY_SIZE = 1001  # slurm.conf(5)
_QUEUE_FORMAT = "%i|%F|%j|%T|%r|%N|%M"
_STATES = {
    "PENDING": State.PENDING, "REQUEUED": State.PENDING, "REQUEUE_FED": State.PENDING, "CONFIGURING": State.PENDING,
    "REQUEUE_HOLD": State.HELD, "SPECIAL_EXIT": State.HELD, "RESV_DEL_HOLD": State.HELD,
    "RUNNING": State.RUNNING, "SUSPENDED": State.RUNNING, "STOPPED": State.RUNNING, "SIGNALING": State.RUNNING,
    "STAGE_OUT": State.RUNNING, "RESIZING": State.RUNNING, "COMPLETING": State.COMPLETING,
    "COMPLETED": State.ENDED, "CANCELLED": State.ENDED, "FAILED": State.ENDED, "TIMEOUT": State.ENDED,
    "NODE_FAIL": State.ENDED, "PREEMPTED": State.ENDED, "BOOT_FAIL": State.ENDED, "DEADLINE": State.ENDED,
    "OUT_OF_MEMORY": State.ENDED, "REVOKED": State.ENDED,
}  # fmt: skip


def call(arguments: Sequence[str], deadline_s: float = DEADLINE_S) -> str:
    """Run a Slurm command and return what it printed. Raises SchedulerError with its own words."""
    what = " ".join(arguments[:3])
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=deadline_s, check=False)
    except FileNotFoundError as error:
        raise SchedulerError(
            f"{arguments[0]} is not installed here.",
            hint="Run on a login node of the cluster, or deploy to the local compute: --set compute=local",
            transient=False,
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerError(
            f"`{what}` did not answer in {deadline_s:g} s.", hint="Slurm is busy; run the same command again later.",
            transient=True,
        ) from error  # fmt: skip
    if done.returncode:
        raise failure(what, done.stderr or done.stdout)
    return done.stdout


_TRANSIENT = re.compile(
    r"timed out|temporar|try again|Unable to contact|Connection refused|Zero Bytes|rate|busy|EAGAIN|not respond",
    re.IGNORECASE,
)
_NO_CLUSTER = re.compile(r"slurm\.conf|configless|resolve|DNS SRV|slurm_conf", re.IGNORECASE)
_WITHOUT_CLUSTER = (
    "Where there is a cluster, name its configuration: export SLURM_CONF=/etc/slurm/slurm.conf; scontrol ping\n"
    "To use this machine instead: hpcbatch batch-deployment update --name DEPLOYMENT --endpoint-name ENDPOINT "
    "--set compute=local"
)
_LIMIT = re.compile(r"QOSMax|AssocMax|MaxSubmit|violates accounting|policy", re.IGNORECASE)
# How many jobs may be queued at once: of a user or an account (sacctmgr(1), slurm_errno), of the cluster (MaxJobCount).
_SUBMIT_LIMIT = re.compile(r"(?:QOS|Assoc)\w*Submit\w*|temporarily unable to accept job", re.IGNORECASE)


def submit_limit(text: str) -> str:
    """The limit on queued jobs that *text*, of a refused sbatch, names; empty if it was refused for something else."""
    found = _SUBMIT_LIMIT.search(text)
    return found[0] if found else ""


def failure(what: str, text: str) -> SchedulerError:
    """The SchedulerError for a Slurm command that failed with *text*."""
    words = " ".join(text.split())[-600:] or "no message"
    if limit := submit_limit(words):
        return limit_reached(limit, what)
    if _NO_CLUSTER.search(words) and not _TRANSIENT.search(words):
        return SchedulerError(
            f"There is a {what.split(maxsplit=1)[0]} here, and no Slurm cluster that answers it: {words}",
            hint=_WITHOUT_CLUSTER, transient=False, no_cluster=True, command=what,
        )  # fmt: skip
    transient = bool(_TRANSIENT.search(words)) and not _LIMIT.search(words)
    if transient:
        hint = "Slurm is busy or unreachable; run the same command again later."
    else:
        hint = "Check the compute's partition, account and limits: hpcbatch compute show --name COMPUTE"
    return SchedulerError(f"Slurm refused: {words}", hint=hint, transient=transient, command=what)


def limit_reached(limit: str, what: str) -> SchedulerError:
    """The SchedulerError for a submission that would be accepted later, when fewer jobs are queued."""
    return SchedulerError(
        f"Slurm has as many jobs as it takes at once ({limit}).",
        hint="Run the same command again when some of your jobs have ended: squeue --me",
        transient=False, limit=limit, command=what,
    )  # fmt: skip


def queue(prefix: str, user: str = "") -> list[Entry]:
    """The entries of *user*, by default of the caller, whose job name begins with *prefix*."""
    return parse_queue(call(["squeue", *(["-u", user] if user else ["--me"]), "-h", "-o", _QUEUE_FORMAT]), prefix)


def final_states(prefix: str) -> list[tuple[str, str]]:
    """(array job id, state in Slurm's word) of each array task whose job name begins with *prefix* and that Slurm
    remembers.
    """
    text = call(["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%j|%F|%T"])
    cells = [line.split("|") for line in text.splitlines() if line.startswith(prefix)]
    return [(each[1], each[2]) for each in cells if len(each) == 3]


def ended_tasks(prefix: str) -> list[tuple[str, int, str, str]]:
    """(job name, index in the array, state in Slurm's word, node) of each array task that Slurm remembers."""
    text = call(["squeue", "--me", "-h", "-r", "-t", "all", "-o", "%j|%K|%T|%N"])
    cells = [line.split("|") for line in text.splitlines() if line.startswith(prefix)]
    return [(each[0], int(each[1]), each[2], each[3]) for each in cells if len(each) == 4 and each[1].isdecimal()]


def largest_memory_mib(partition: str) -> int:
    """The memory of the largest node that a job may ask for; 0 where Slurm does not say."""
    try:
        text = call(["sinfo", "-h", *(["-p", partition] if partition else []), "-o", "%m"])
    except SchedulerError:  # then sbatch says so if it is too much
        return 0
    return max((int(word.rstrip("+")) for word in text.split() if word.rstrip("+").isdecimal()), default=0)


def history(ids: Sequence[str], since: str) -> dict[str, str]:
    """What accounting says of jobs that left the queue: Slurm job id to state; {} where there is no accounting.

    *since* is UTC, ISO 8601; without a start sacct would search from the epoch on (sacct(1)).
    """
    start_s = calendar.timegm(time.strptime(since, "%Y-%m-%dT%H:%M:%SZ")) - 60
    start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(start_s))
    arguments = ["sacct", "-X", "-n", "-P", "-j", ",".join(ids), "-S", start, "-o", "JobID,State"]
    try:
        return parse_history(call(arguments))
    except SchedulerError:  # accounting is optional on a Slurm site; the ledger has what matters
        return {}


def parse_history(text: str) -> dict[str, str]:
    """Sacct's lines as Slurm job id to state; of a task that was requeued the last line counts."""
    return {line.split("|")[0]: line.split("|")[1] for line in text.splitlines() if line.count("|") >= 1}


def parse_queue(text: str, prefix: str) -> list[Entry]:
    """The lines of squeue's output for jobs named *prefix*…; a state that is news is UNKNOWN, never an error."""
    found = []
    for line in text.splitlines():
        cells = line.split("|", 6)
        if len(cells) == 7 and cells[2].startswith(prefix):
            slurm_job_id, array, name, state, reason, node, elapsed = cells
            found.append(Entry(slurm_job_id, array, name, parse_state(state, reason), reason, node, elapsed))
    return found


def parse_state(text: str, reason: str = "") -> State:
    """The state in squeue's or sacct's words; `CANCELLED by 1001` and a cut-off `CANCELLED+` are ENDED."""
    word = text.split(maxsplit=1)[0].rstrip("+") if text.strip() else ""
    state = _STATES.get(word, State.UNKNOWN)
    # JobHeldUser, JobHeldAdmin, "job requeued in held state", "launch failed requeued held"
    return State.HELD if state is State.PENDING and "held" in reason.lower() else state


def array_limit(config: str) -> int:
    """How many tasks one array may have by `scontrol show config`: MaxArraySize bounds the index, max_array_tasks the
    count.
    """
    size = re.search(r"^MaxArraySize\s*=\s*(\d+)", config, re.MULTILINE)
    tasks = re.search(r"max_array_tasks=(\d+)", config)
    limit = int(size[1]) if size else DEFAULT_MAX_ARRAY_SIZE
    return max(1, min(limit, int(tasks[1])) if tasks else limit)
