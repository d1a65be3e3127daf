"""Outputs get their names whole or not at all, and whoever is told to end hears of it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, JobError
from hpcbatch.fs import publish
from hpcbatch.records.pipeline import ParallelPart
from hpcbatch.steps import attempt, outcome
from hpcbatch.steps.local import Supervisor
from hpcbatch.steps.process import Ended
from hpcbatch.worker.environment import slurm_task
from hpcbatch.worker.log import UserLog
from tests.pipelines import Pipelines, step
from tests.unit.steps.test_pipelinedir import sealed

MIB = 1 << 20


def test_an_output_that_the_disk_cuts_short_gets_no_name(tmp_path: Path, file_limit: Callable[[int], None]) -> None:
    """write(2) says how much it took, and the last write of a copy may take less than it was given."""
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    source, target = tmp_path / "made", tmp_path / "wanted" / "model.bin"
    source.write_bytes(b"x" * (MIB + MIB // 2))
    file_limit(MIB + MIB // 4)
    with pytest.raises(OSError, match="too large"):
        outcome.publish_output(job, source, str(target), {})
    assert os.listdir(target.parent) == []
    file_limit(2 * MIB)
    outcome.publish_output(job, source, str(target), {})
    outcome.publish_output(job, source, str(target), {})  # as each process does that finds the job at its end
    assert target.read_bytes() == source.read_bytes()


def test_an_output_does_not_take_the_place_of_what_is_there(tmp_path: Path) -> None:
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    (tmp_path / "made").write_bytes(b"new and longer")
    (tmp_path / "wanted").write_bytes(b"old")
    with pytest.raises(Conflict, match="nothing is overwritten"):
        outcome.publish_output(job, tmp_path / "made", str(tmp_path / "wanted"), {})
    assert (tmp_path / "wanted").read_bytes() == b"old"


def test_what_links_of_an_output_lead_to_inside_of_it_is_copied(tmp_path: Path) -> None:
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    made, wanted = tmp_path / "made", tmp_path / "wanted"
    (made / "v2" / "deep").mkdir(parents=True)
    (made / "v2" / "deep" / "w.bin").write_bytes(b"weights")
    (tmp_path / "elsewhere.txt").write_text("kept")
    (made / "latest").symlink_to("v2")
    (made / "file.txt").symlink_to(tmp_path / "elsewhere.txt")
    (made / "zero").mkdir()
    for _ in range(2):  # as each process does that finds the job at its end
        outcome.publish_output(job, made, str(wanted), {})
    for name in ("v2", "latest"):
        assert (wanted / name / "deep" / "w.bin").read_bytes() == b"weights"
    assert (wanted / "file.txt").read_text() == "kept"
    assert os.listdir(wanted / "zero") == []
    assert not any(path.is_symlink() for path in wanted.rglob("*"))


@pytest.mark.parametrize(
    ("target", "why"), [("../other", "outside of the output"), ("gone", "not there"), (".", "in itself")]
)
def test_an_output_with_a_link_that_cannot_be_followed_is_refused_whole(tmp_path: Path, target: str, why: str) -> None:
    """A folder that is copied without what it had is data lost in silence."""
    job = sealed(Pipelines(tmp_path), step("a", "true"))
    made, wanted = tmp_path / "made", tmp_path / "wanted"
    for folder in (made / "sub", tmp_path / "other"):
        folder.mkdir(parents=True)
        (folder / "a.txt").touch()
    (made / "zz").symlink_to(target)
    for place in (str(wanted), f"file://{wanted}"):
        with pytest.raises(JobError, match=rf"made/zz' leads .*{why}") as caught:
            outcome.publish_output(job, made, place, {})
        assert "job resume" in caught.value.hint
    assert not wanted.exists()


def test_what_a_step_made_is_durable_before_its_end_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outputs of a parallel step lie beside its attempts, and every folder needs its own name, too."""
    part = ParallelPart(
        entry_script="entry.py", input="data", program_arguments="", append_row_to=None, mini_batch_size=1,
        mini_batch_error_threshold=-1, error_threshold=-1, max_concurrency_per_instance=1, max_retries=0, timeout_s=60,
        logging_level="info",
    )  # fmt: skip
    job = sealed(Pipelines(tmp_path), step("a", "", kind="parallel", parallel=part, outputs=["rows"]))
    durable: set[str] = set()
    monkeypatch.setattr(publish, "fsync_file", lambda path: durable.add(str(path)))
    monkeypatch.setattr(publish, "fsync_directory", lambda path: durable.add(str(path)))

    def score(run: attempt.StepRun, _at: object, placed: attempt._Placed) -> Ended:
        (placed.outputs["rows"] / "deep").mkdir()
        (placed.outputs["rows"] / "deep" / "file").touch()
        return Ended(0, "")

    monkeypatch.setattr(attempt, "_run_parallel", score)
    result = attempt.run_step(attempt.StepRun(job, job.record.step("a"), 0, slurm_task(), UserLog(1)), {})
    assert result["status"] == "Completed", result
    made = Path(result["outputs"]["rows"])
    expected = {made / "deep" / "file", made / "deep", made, made.parent, job.root / "steps"}
    assert {str(path) for path in expected} <= durable


def test_the_end_of_a_step_is_not_lost_when_the_job_is_canceled_at_that_moment(tmp_path: Path) -> None:
    """The signal comes between the end of a process and the wait for it: Popen would take the end for itself."""
    supervisor = Supervisor(sealed(Pipelines(tmp_path), step("a", "true")), 2)
    process = subprocess.Popen(["true"])
    supervisor._running[process.pid] = ("a", process)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    supervisor._on_term()
    assert os.waitpid(process.pid, os.WNOHANG) == (process.pid, 0)
