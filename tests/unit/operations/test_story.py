"""A job in plain words."""

from __future__ import annotations

from hpcbatch.operations.story import cost

ALL = {
    "useful_s": 7500, "lost_s": 12.4, "failed_s": 61, "start_up_s": 40, "array_task_s": 9000, "uncertain_s": 60,
    "core_h": 1.2512, "gpu_h": 0.5, "preemptions": 2, "time_limits": 1, "deaths": 1, "memory_kills": 3,
    "recomputed_mini_batches": 5,
}  # fmt: skip


def test_everything_that_a_job_can_cost_is_told() -> None:
    assert cost(ALL) == (
        "2:05:00 useful, 0:12 lost, 1:01 failed, 0:40 start-up; 1.25 core hours, 0.5 GPU hours; "
        "2 preemptions, 1 time limit, 1 lost attempt, 3 kills for memory, 5 mini-batches run again"
    )


def test_what_did_not_happen_is_not_told() -> None:
    """Nor is what an older version did not count."""
    assert cost({"useful_s": 3, "lost_s": 0.1, "core_h": 0.004, "preemptions": 0}) == "0:03 useful; 0.004 core hours"
