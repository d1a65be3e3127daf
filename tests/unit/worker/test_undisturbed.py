"""What happens beside the work must not cost a try: signals before it has begun, and pauses of the event loop."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.records.ledger import FLAG_TIME_LIMIT, Kind
from hpcbatch.worker import loop, scratch, tracked
from hpcbatch.worker.entry import EXIT_DONE
from hpcbatch.worker.recovery import read_group
from tests.unit.worker.attempts import attempts, committed, records, said, scontrol, seal, work

ONE = "def run(mini_batch):\n    return [1]\n"


def test_a_preemption_while_the_attempt_is_prepared_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large model takes a minute to copy. Whoever dies then without a word looks like a node that cannot start."""
    (tmp_path / "bin").mkdir()
    asked = scontrol(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    job, real, died = seal(tmp_path / "b1", ONE, 2), scratch.unpack_code, list[int]()

    def unpack(*arguments: Any) -> Path:
        os.kill(os.getpid(), signal.SIGTERM)
        return real(*arguments)

    monkeypatch.setattr(scratch, "unpack_code", unpack)
    before = signal.signal(signal.SIGTERM, lambda number, _: died.append(number))
    try:
        assert work(job, job_id="77") == EXIT_DONE
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not died
    [release] = records(job, Kind.RELEASE)
    assert not release.flags & FLAG_TIME_LIMIT
    assert sum(committed(job).values()) == 2
    assert "requeue incomplete 77" in asked.read_text()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), FilesystemError("no room")])
def test_logs_of_mlflow_that_cannot_be_kept_are_no_failure_of_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Every mini-batch is done and is not run again: a worker that failed would say otherwise, each time."""

    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(tracked, "_collect", full)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    job = seal(tmp_path / "b1", ONE, 2)
    assert work(job) == EXIT_DONE
    assert "ERROR: what was logged with MLflow could not be kept" in said(job)
    assert list(tmp_path.glob("hpcbatch-*")) == []


PAIR = """
import os, pathlib, signal, time

here = pathlib.Path({here!r})

def run(mini_batch):
    if mini_batch[0].endswith("0000.txt") and not (here / "again").exists():
        while not (here / "beside").exists():
            time.sleep(0.01)
        (here / "again").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    (here / "beside").touch()
    time.sleep(0.1)
    return [1]
"""


@pytest.mark.slow
def test_a_result_that_comes_while_the_loop_looks_at_a_death_is_in_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop waits after a SIGKILL, longer than run() may take: the other driver's result was there before that."""
    monkeypatch.setattr(loop, "KILL_SPREAD_S", 4.0)
    job = seal(tmp_path / "b1", PAIR.format(here=str(tmp_path)), 4, max_concurrency_per_instance=2, timeout_s=3.0)
    assert work(job) == EXIT_DONE
    assert [r.mini_batch for r in records(job, Kind.FAIL)] == [0]
    assert committed(job) == {0: 1, 1: 1, 2: 1, 3: 1}
    assert read_group(attempts(job), job.record.uuid_bytes).failed_items == 0
