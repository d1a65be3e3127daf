"""Slurm's query and control commands: argument lists, one subprocess call, parsers apart from both."""

from __future__ import annotations

import calendar
import re
import subprocess
import time
from collections.abc import Sequence

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler.base import Entry, Preemption, State

DEADLINE_S = 30.0
DEFAULT_MAX_ARRAY_SIZE = 1001  # slurm.conf(5)
LEAST_KILL_WAIT_S, DEFAULT_KILL_WAIT_S = 5, 30  # between SIGTERM and SIGKILL; slurmd waits the least at any rate
DEFAULT_CRED_EXPIRE_S = 120  # slurm.conf(5), AuthInfo: a requeued job is held back for as long, and a second
LEAST_TO_CLEAR_S, STEP_TO_CLEAR_S = 3, 3
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
        # The queue holds names that people gave to other Slurm jobs, in whichever encoding.
        done = subprocess.run(
            arguments, capture_output=True, encoding="utf-8", errors="replace", timeout=deadline_s, check=False
        )
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
    r"timed out|temporar|try again|Unable to contact|Connection refused|Zero Bytes|\bEAGAIN\b|not respond"
    # whole phrases: `rate` is in the name of many an account, `busy` in that of a partition
    r"|\brate[- ]limit|\bresource busy\b|(?:controller|server|slurmctld)(?: is)? (?:too )?busy\b"
    # what a controller that dies, or the network to it, leaves of an answer (slurm_errno, errno)
    r"|not connected|connection failure|Connection reset|Broken pipe|(?:send|receive|shutdown) failure|standby"
    r"|No route to host|unreachable",
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
    did = "did not answer" if transient else "refused"
    return SchedulerError(f"Slurm {did}: {words}", hint=hint, transient=transient, command=what)


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


def preemption(config: str, partition: str) -> Preemption:
    """How array tasks are preempted, by `scontrol show config` and `scontrol show partition`.

    There is no early word where partitions preempt and this one has no GraceTime. A requeued job is held back, by
    default for two minutes after its last process has ended, until its old credential has expired (slurmctld,
    batch_requeue_fini). An eighth of that is enough to clear the node, and slurmd tells credentials apart by time.
    """
    by_partition = re.search(r"^PreemptType\s*=\s*preempt/partition_prio\s*$", config, re.MULTILINE)
    early_word = not by_partition or not re.search(r"\bGraceTime=0\b", partition)
    kill_wait_s = max(LEAST_KILL_WAIT_S, _number(r"^KillWait\s*=\s*(\d+)", config, DEFAULT_KILL_WAIT_S))
    held_s = _number(r"\brequeue_delay=(\d+)", config, _number(r"\bcred_expire=(\d+)", config, DEFAULT_CRED_EXPIRE_S))
    clear_s = max(LEAST_TO_CLEAR_S, held_s // 8) + STEP_TO_CLEAR_S * early_word
    return Preemption(early_word, kill_wait_s + clear_s if clear_s <= held_s else 0)


def _number(pattern: str, text: str, default: int) -> int:
    found = re.search(pattern, text, re.MULTILINE)
    return int(found[1]) if found else default
