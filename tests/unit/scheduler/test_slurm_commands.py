"""Slurm's words, read: refusals, limits, states."""

from __future__ import annotations

import pytest

from hpcbatch.scheduler import slurm_commands
from hpcbatch.scheduler.base import State

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
