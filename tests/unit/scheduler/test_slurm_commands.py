"""Slurm's words, read: refusals, limits, states."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler import slurm, slurm_commands
from hpcbatch.scheduler.base import Preemption, Request, State

# As sbatch 22.05 prints them.
REFUSALS = {
    "sbatch: error: QOSMaxSubmitJobPerUserLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy (job submit limit, user's size and/or time limits)": "QOSMaxSubmitJobPerUserLimit",
    "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates "
    "accounting/QOS policy": "AssocMaxSubmitJobLimit",
    "sbatch: error: AssocGrpSubmitJobsLimit": "AssocGrpSubmitJobsLimit",
    "sbatch: error: QOSGrpSubmitJobsLimit": "QOSGrpSubmitJobsLimit",
    "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying": (
        "temporarily unable to accept job"
    ),
    "sbatch: error: Batch job submission failed: Invalid partition name specified": "",
    "sbatch: error: QOSMaxWallDurationPerJobLimit": "",
    "slurm_load_jobs error: Unable to contact slurm controller (connect failure)": "",
}


@pytest.mark.parametrize(("text", "limit"), REFUSALS.items())
def test_a_limit_on_submitted_jobs_is_told_from_other_refusals(text: str, limit: str) -> None:
    """It passes by itself: a part of the job may be submitted now, and the rest later."""
    error = slurm_commands.failure("sbatch", text)
    assert (error.fields.get("limit") or "") == limit
    assert error.fields["transient"] is ("Unable to contact" in text)


@pytest.mark.parametrize(
    "words",
    [
        "Transport endpoint is not connected", "Connection reset by peer", "Broken pipe", "Message receive failure",
        "Communication connection failure", "Communication shutdown failure", "Slurm backup controller in standby mode",
        "Zero Bytes were transmitted or received", "Socket timed out on send/recv operation", "No route to host",
    ],
)  # fmt: skip
def test_an_answer_that_was_lost_is_no_refusal(words: str) -> None:
    """A controller that is killed may have accepted a job: an sbatch that says so is looked for by its name."""
    error = slurm_commands.failure("sbatch", f"sbatch: error: Batch job submission failed: {words}")
    assert error.fields["transient"] is True
    assert error.message.startswith("Slurm did not answer: sbatch: error: ")


@pytest.mark.parametrize(
    ("text", "reason", "state"),
    [
        ("PENDING", "JobHeldUser", State.HELD),
        ("PENDING", "launch failed requeued held", State.HELD),
        ("PENDING", "job requeued in held state", State.HELD),
        ("PENDING", "BeginTime", State.PENDING),
        ("CANCELLED by 1001", "", State.ENDED),
        ("CANCELLED+", "", State.ENDED),
        ("A_STATE_OF_2031", "", State.UNKNOWN),
        ("", "", State.UNKNOWN),
    ],
)
def test_states_of_the_queue(text: str, reason: str, state: State) -> None:
    assert slurm_commands.parse_state(text, reason) is state


def test_how_many_tasks_one_array_may_have() -> None:
    assert slurm_commands.array_limit("MaxArraySize            = 1001\n") == 1001
    assert slurm_commands.array_limit("MaxArraySize = 1001\nSchedulerParameters = a,max_array_tasks=40,b\n") == 40
    assert slurm_commands.array_limit("") == slurm_commands.DEFAULT_MAX_ARRAY_SIZE


CONFIG = """AuthInfo                = socket=/run/munge{}
KillWait                = {} sec
PreemptType             = preempt/{}
"""


@pytest.mark.parametrize(
    ("config", "partition", "wanted"),
    [
        (CONFIG.format(",cred_expire=5", 2, "partition_prio"), "GraceTime=0 Hidden=NO", Preemption(False, 8)),
        (CONFIG.format("", 30, "partition_prio"), "GraceTime=0 Hidden=NO", Preemption(False, 45)),
        (CONFIG.format("", 30, "partition_prio"), "GraceTime=60 Hidden=NO", Preemption(True, 48)),
        (CONFIG.format("", 30, "qos"), "GraceTime=0 Hidden=NO", Preemption(True, 48)),
        (CONFIG.format(",cred_expire=2", 30, "partition_prio"), "GraceTime=0 Hidden=NO", Preemption(False, 0)),
        (CONFIG.format("", 30, "qos") + "SchedulerParameters = requeue_delay=4", "GraceTime=0", Preemption(True, 0)),
        ("", "", Preemption(True, 48)),
    ],
)
def test_when_a_preempted_array_task_may_begin_again(config: str, partition: str, wanted: Preemption) -> None:
    """After SIGKILL and what it takes to clear a node, a little longer for a step; but where Slurm is as quick, never.

    A word before SIGTERM is not to be expected where partitions preempt and this one gives no grace.
    """
    assert slurm_commands.preemption(config, partition) == wanted


def test_where_no_cluster_answers_the_way_out_is_a_command() -> None:
    """Sbatch may be installed on a machine that belongs to no cluster, so that `amlcompute` means Slurm there."""
    text = (
        "sbatch: error: resolve_ctls_from_dns_srv: res_nsearch error: Unknown host\n"
        "sbatch: fatal: Could not establish a configuration source"
    )
    error = slurm_commands.failure("sbatch", text)
    assert error.message.startswith("There is a sbatch here, and no Slurm cluster that answers it: sbatch: error")
    assert error.hint.endswith("--endpoint-name ENDPOINT --set compute=local")
    assert error.fields["transient"] is False


def test_a_rehearsal_without_a_cluster_is_no_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job is not what is wrong; the same way out is told."""
    (tmp_path / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: fatal: Could not establish a configuration source: "
        "DNS SRV lookup failed' >&2\nexit 1\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm, "rendered", lambda _: "#!/bin/sh\n")
    with pytest.raises(SchedulerError, match="no Slurm cluster that answers"):
        slurm.rehearsed(Request("hb-x", ["true"], tmp_path))


def test_a_name_in_another_encoding_in_the_queue_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """People name their Slurm jobs as they like, and `squeue --me` shows all of them."""
    squeue = tmp_path / "squeue"
    squeue.write_bytes(
        b"#!/bin/sh\nprintf '1|1|caf\\351|RUNNING|None|n1|0:01\\n2|2|hb-abc.r0.w0-1|RUNNING|None|n1|0:01\\n'\n"
    )
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [entry.slurm_job_id for entry in slurm_commands.queue("hb-abc")] == ["2"]


@pytest.mark.parametrize(
    ("words", "transient"),
    [
        ("Invalid account corporate or account/partition combination specified", False),
        ("Invalid partition busybox specified", False),
        ("Requested operation not permitted for user separate", False),
        ("RPC rate limit exceeded 3 times", True),
        ("Device or resource busy", True),
        ("Slurm controller is too busy", True),
    ],
)
def test_a_name_that_holds_rate_or_busy_is_no_busy_controller(words: str, transient: bool) -> None:
    error = slurm_commands.failure("sbatch", f"sbatch: error: Batch job submission failed: {words}")
    assert error.fields["transient"] is transient
