"""What a job registers from a node: what cannot be is said, and is no failure of the job."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.tracking.registering import register


def test_a_registration_that_does_not_end_is_said_and_not_raised(tmp_path: Path) -> None:
    """The step or the array task has its results by then."""
    said = register(tmp_path, "heart", "custom_model", str(tmp_path), deadline_s=0.001)
    assert said == "ERROR: model 'heart' could not be registered: it took longer than 0.001 s"
