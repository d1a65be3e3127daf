"""What waits for a merge that has to go on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.jobdir import jobdir, layout
from hpcbatch.merge import going_on
from hpcbatch.operations.dependencies import checked_dependency
from hpcbatch.rounds.dependents import hand_over, merge_id, moved_dependency
from tests.unit.jobdir.sealed import seal


@pytest.mark.parametrize(
    ("wanted", "moved"),
    [
        ("afterok:12(unfulfilled)", "afterok:99"),
        ("afterok:12(unfulfilled),afterany:13_*(unfulfilled)", "afterok:99,afterany:13_*"),
        ("afterok:12:14", "afterok:99:14"),
        ("afterany:5?afterok:12(unfulfilled)", "afterany:5?afterok:99"),
        ("afterok:12+5(unfulfilled)", "afterok:99+5"),
        ("afterok:112(unfulfilled)", ""),
        ("afterok:121(unfulfilled)", ""),
        ("afterany:12_*(unfulfilled)", ""),
        ("singleton(unfulfilled)", ""),
        ("(null)", ""),
    ],
)
def test_only_the_merge_s_id_is_replaced(wanted: str, moved: str) -> None:
    """As squeue prints dependencies, and as scontrol takes them."""
    assert moved_dependency(wanted, "12", "99") == moved


@pytest.mark.parametrize("text", ["afterok:1", "afterany:1:2_3,afterok:4", "after:1+10?singleton", "afternotok:7"])
def test_dependencies_that_sbatch_takes(text: str) -> None:
    assert checked_dependency(text, "slurm") == text


@pytest.mark.parametrize(
    "text", ["1", "afterok", "afterok:x", "afterok:1 --wrap=id", "afterok:1,b?c", "afterok:1\n#", "$(id)"]
)
def test_what_is_no_dependency_never_reaches_sbatch(text: str) -> None:
    with pytest.raises(SpecError, match="is no dependency"):
        checked_dependency(text, "slurm")


def test_nothing_waits_on_this_machine() -> None:
    assert checked_dependency(None, "local") == ""
    with pytest.raises(SpecError, match="Only jobs on Slurm"):
        checked_dependency("afterok:1", "local")


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands that answer as Slurm's do; the file has the arguments of each call of scontrol."""
    said = tmp_path / "said"
    commands = {
        "squeue": "printf '%s\\n' '41|afterok:12(unfulfilled)' '42|(null)' '43_[0-3]|afterany:7(unfulfilled)'",
        "scontrol": f'echo "$@" >> {said}',
    }
    for name, line in commands.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{line}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return said


def test_what_waits_is_told_of_the_next_merge(slurm: Path) -> None:
    """The others are left alone."""
    assert hand_over("12", "99") == ["41"]
    assert slurm.read_text() == "update JobId=41 Dependency=afterok:99\n"


@pytest.mark.parametrize(("merge", "environ"), [("", {"SLURM_JOB_ID": "12"}), ("99", {})])
def test_a_merge_that_has_no_successor_or_no_id_moves_nothing(slurm: Path, merge: str, environ: dict[str, str]) -> None:
    going_on._hand_over(merge, environ)
    assert not slurm.exists()


def test_a_merge_hands_its_own_id_over(slurm: Path) -> None:
    going_on._hand_over("99", {"SLURM_JOB_ID": "12"})
    assert "JobId=41" in slurm.read_text()


def test_the_id_to_wait_for_is_that_of_the_newest_merge(tmp_path: Path) -> None:
    """Empty before anything was submitted."""
    job = seal(tmp_path / "b1")
    assert merge_id(job) == ""
    for number in (0, 1):
        jobdir.publish_document(job.paths.round(0) / layout.merge_name(number), {"slurm_job_id": f"7{number}"})
    assert merge_id(job) == "71"
