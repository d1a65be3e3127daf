"""Slurm's words, read: refusals, limits, states."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.scheduler import slurm, slurm_commands
from hpcbatch.scheduler.base import Request, State

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
