"""Time limits, memory, nodes and certain failures: what a worker does about each, with real drivers."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from hpcbatch.fs.publish import make_directory
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.lessons import MAX_MEMORY_RAISES, Lessons, publish_lessons
from hpcbatch.records.ledger import FLAG_FINAL, FLAG_MEMORY, FLAG_TIME_LIMIT, Kind
from hpcbatch.worker import entry, timelimit
from hpcbatch.worker.entry import EXIT_ABORTED, EXIT_DONE
from tests.unit.worker.attempts import (
    attempts,
    committed,
    reason,
    records,
    said,
    scontrol,
    seal,
    work,
)  # fmt: skip

SLEEP = "import time\n\ndef run(mini_batch):\n    time.sleep({})\n    return mini_batch\n"


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What Slurm was asked, once it was."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return scontrol(tmp_path / "bin")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last seconds before the limit are tenths."""
    monkeypatch.setattr(timelimit, "RESERVE_S", 0.3)
    monkeypatch.setattr(timelimit, "LAST_CALL_S", 0.6)


# ---- time limits ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_worker_begins_nothing_that_cannot_end_in_time(tmp_path: Path, asked: Path) -> None:
    """It lets what runs end, says that the limit is near, and asks for the next attempt, which does the rest."""
    job = seal(tmp_path / "b1", SLEEP.format(0.5), 9)
    began = time.time()
    assert work(job, job_id="77", limit_s=3) == EXIT_DONE
    done = committed(job)
    assert 1 <= len(done) < 9
    assert time.time() - began < 3.5 + 5
    [release] = records(job, Kind.RELEASE)
    assert release.flags & FLAG_TIME_LIMIT
    assert len(records(job, Kind.START)) == len(done), "nothing was cut off"
    assert asked.read_text() == "scontrol requeue incomplete 77\n"
    assert records(job, Kind.END) == []
    assert work(job) == EXIT_DONE
    assert set(committed(job).values()) == {1}
    assert len(committed(job)) == 9


@pytest.mark.slow
@pytest.mark.parametrize(("limit_s", "questions"), [(600, ""), (0, "squeue -h -j 77 -o %L\n")])
def test_slurm_is_asked_for_a_limit_only_where_the_environment_has_none(
    tmp_path: Path, asked: Path, monkeypatch: pytest.MonkeyPatch, limit_s: int, questions: str
) -> None:
    """A thousand array tasks with a short limit would ask at the same moment (Slurm before 23.02 tells no limit)."""
    monkeypatch.setattr(timelimit, "is_short", lambda _: True)
    job = seal(tmp_path / "b1", SLEEP.format(0.5), 2)
    assert work(job, job_id="77", limit_s=limit_s) == EXIT_DONE
    assert (asked.read_text() if asked.exists() else "") == questions


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_durations_are_learned_from_earlier_attempts_and_rounds(tmp_path: Path, asked: Path) -> None:
    """A new attempt with little time makes one mini-batch, as it must to get on, and knows that no second one fits."""
    job = seal(tmp_path / "b1", SLEEP.format(0.05), 4)
    publish_lessons(job, 0, Lessons(longest_run_ms=60_000))
    assert work(job, job_id="77", limit_s=20.5) == EXIT_DONE
    assert len(committed(job)) == 1
    assert "the time limit is near" in said(job)


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_a_mini_batch_longer_than_the_limit_is_a_clear_failure(tmp_path: Path, asked: Path) -> None:
    """Nothing was ever finished within the limit: no attempt can. The words say what to do."""
    job = seal(tmp_path / "b1", SLEEP.format(60), 4)
    assert work(job, job_id="77", limit_s=2) == EXIT_ABORTED
    found = reason(job, Kind.ABORT)
    assert found["kind"] == "time-limit"
    assert "mini-batch 0 did not end within the array task's time limit" in found["message"]
    assert "hpcbatch compute update --name spot --set time=" in found["message"]
    assert not asked.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_one_long_mini_batch_among_short_ones_fails_alone(tmp_path: Path, asked: Path) -> None:
    """It had nearly all the time that any attempt can have; what is left goes on."""
    script = (
        "import time\n\ndef run(mini_batch):\n    time.sleep(60 * ('0001' in mini_batch[0]))\n    return mini_batch\n"
    )
    job = seal(tmp_path / "b1", script, 4)
    assert work(job, job_id="77", limit_s=4) == EXIT_DONE, said(job)
    [fail] = records(job, Kind.FAIL)
    assert (fail.mini_batch, fail.flags) == (1, FLAG_FINAL)
    assert reason(job, Kind.FAIL)["kind"] == "time-limit"
    assert "requeue" in asked.read_text()
    assert work(job) == EXIT_DONE
    assert committed(job) == {0: 1, 2: 1, 3: 1}


def cut_off(job: JobDir, mini_batch: int, *, times: int) -> None:
    """Attempts that had finished others and were running this one when their time limit came."""
    for epoch in range(1, times + 1):
        make_directory(job.paths.group(0, 0))
        writer = AttemptWriter(job.paths.group(0, 0), job=job.record.uuid_bytes, group=0, epoch=epoch, about={})
        writer.start(epoch - 1)
        writer.commit(epoch - 1, b"x\n", rows=1, failed_items=0, run_ms=1, then_start=mini_batch)
        writer.note(Kind.RELEASE, flags=FLAG_TIME_LIMIT)
        writer.close()


def test_what_the_limit_cut_off_is_first_next_time(tmp_path: Path) -> None:
    """It may just have begun too late. A time limit is not a death of the worker: nothing is held against it."""
    job = seal(tmp_path / "b1", SLEEP.format(0), 6)
    cut_off(job, 4, times=2)
    assert work(job) == EXIT_DONE
    assert [r.mini_batch for r in records(job, Kind.START)][-4:] == [4, 2, 3, 5]
    assert set(committed(job)) == set(range(6))


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_what_the_limit_cuts_off_for_the_third_time_is_given_up(tmp_path: Path, asked: Path) -> None:
    """However little of each attempt it had: here init() takes most."""
    script = "import time\n\ndef init():\n    time.sleep(1)\n" + SLEEP.format(60).removeprefix("import time\n")
    job = seal(tmp_path / "b1", script, 6)
    cut_off(job, 4, times=2)
    assert work(job, job_id="77", limit_s=2.5) == EXIT_DONE
    assert [(r.mini_batch, r.flags) for r in records(job, Kind.FAIL)] == [(4, FLAG_FINAL)]


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_an_init_longer_than_the_limit_is_a_clear_failure(tmp_path: Path, asked: Path) -> None:
    script = "import time\n\ndef init():\n    time.sleep(60)\n\ndef run(mini_batch):\n    return mini_batch\n"
    job = seal(tmp_path / "b1", script, 2)
    assert work(job, job_id="77", limit_s=1.5) == EXIT_ABORTED
    assert "init() did not return within the array task's time limit" in reason(job, Kind.ABORT)["message"]
    assert not asked.exists()


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_requeues_for_the_limit_are_counted(tmp_path: Path, asked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After so many the rest is left to the next round, which cuts it into groups anew."""
    monkeypatch.setattr(timelimit, "MAX_REQUEUES", 1)
    job = seal(tmp_path / "b1", SLEEP.format(0.05), 4)
    publish_lessons(job, 0, Lessons(longest_run_ms=60_000))
    for _ in range(2):
        assert work(job, job_id="77", limit_s=5.5) == EXIT_DONE
    assert asked.read_text() == "scontrol requeue incomplete 77\n"
    assert "left is for the next round" in said(job)


# ---- memory ---------------------------------------------------------------------------------------------------------

HUNGRY = """
def run(mini_batch):
    if "0001" in mini_batch[0]:
        raise MemoryError
    return mini_batch
"""


def test_a_mini_batch_without_memory_is_set_aside_for_a_round_with_more(tmp_path: Path) -> None:
    """Its second try ran alone. No try of `max_retries` was spent, and the array task ends as one that is done."""
    job = seal(tmp_path / "b1", HUNGRY, 4, kind="slurm", max_retries=0, max_concurrency_per_instance=2)
    assert work(job, memory_mib=2048) == EXIT_DONE
    assert committed(job) == {0: 1, 2: 1, 3: 1}
    fails = records(job, Kind.FAIL)
    assert [(r.mini_batch, r.flags) for r in fails] == [(1, FLAG_MEMORY)] * 2
    found = reason(job, Kind.FAIL)
    assert (found["kind"], found["type"], found["try"], found["of"]) == ("memory", "OutOfMemory", 2, 2)
    words = "run() raised MemoryError. The array task has 2G. It runs again in a round that asks for more."
    assert found["message"] == words
    assert len(records(job, Kind.END)) == 1
    order = [r.mini_batch for r in records(job, Kind.START)]
    assert order[-1] == 1, "alone, after all others"
    assert work(job, memory_mib=2048) == EXIT_DONE
    assert len(records(job, Kind.FAIL)) == 2, "a requeued attempt does not try it again"


@pytest.mark.parametrize(
    ("kind", "memory_mib", "lessons"),
    [("local", 2048, Lessons()), ("slurm", 0, Lessons()), ("slurm", 2048, Lessons(memory_raises=MAX_MEMORY_RAISES)),
     ("slurm", 2048, Lessons(memory_raises=1, memory_was_mib=2048))],
    ids=["no scheduler", "not known", "raised three times", "the largest node"],
)  # fmt: skip
def test_where_no_more_memory_can_be_had_it_is_given_up(
    tmp_path: Path, kind: str, memory_mib: int, lessons: Lessons
) -> None:
    job = seal(tmp_path / "b1", HUNGRY, 3, kind=kind)
    publish_lessons(job, 0, lessons)
    assert work(job, memory_mib=memory_mib) == EXIT_DONE
    assert [r.flags for r in records(job, Kind.FAIL)] == [FLAG_MEMORY, FLAG_MEMORY | FLAG_FINAL]
    assert committed(job) == {0: 1, 2: 1}


class OneKill:
    """A kernel that killed once for memory."""

    def __init__(self) -> None:
        self._left = 1

    def one_more(self) -> bool:
        self._left -= 1
        return self._left >= 0


@pytest.mark.slow
def test_a_killed_process_is_one_for_memory_only_if_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first death of this mini-batch is, the second is a failed try."""
    monkeypatch.setattr(entry, "MemoryKills", OneKill)
    script = "import os\n\ndef run(mini_batch):\n    os.kill(os.getpid(), 9)\n"
    job = seal(tmp_path / "b1", script, 1, max_retries=0)
    assert work(job) == EXIT_DONE
    assert [r.flags for r in records(job, Kind.FAIL)] == [FLAG_MEMORY, FLAG_FINAL]
    assert "killed for memory" in said(job)
    assert "killed by signal 9" in reason(job, Kind.FAIL)["message"]


def test_an_init_without_memory_says_so(tmp_path: Path) -> None:
    """The merge asks for more, then."""
    job = seal(
        tmp_path / "b1", "def init():\n    raise MemoryError('model')\n\ndef run(mini_batch):\n    return []\n", 2
    )
    assert work(job) == EXIT_ABORTED
    assert reason(job, Kind.ABORT)["memory"] is True
    assert not list(job.paths.round(0).glob("INIT_FAILED*")), "elsewhere there may be more"


# ---- what fails everywhere ------------------------------------------------------------------------------------------

BROKEN = """
import os

def init():
    open(os.environ["CALLS"], "a").write("x")
    raise ValueError("no such column")

def run(mini_batch):
    return mini_batch
"""


def test_an_init_that_fails_for_the_first_three_groups_is_not_tried_by_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They fail at once, with the same words and its traceback, and start no driver."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    job = seal(tmp_path / "b1", BROKEN, 12, groups=12)
    for group in range(3):
        assert work(job, group) == EXIT_ABORTED
    tried = (tmp_path / "calls").read_text()
    for group in range(3, 12):
        assert work(job, group) == EXIT_ABORTED
    assert (tmp_path / "calls").read_text() == tried
    found = reason(job, Kind.ABORT, 11)
    assert (found["kind"], found["message"]) == ("init", "no such column")
    assert "Traceback" in found["traceback"]
    assert "not_tried" in found


def test_an_init_that_fails_on_one_node_is_tried_on_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three failures of one node say nothing about another; those of two nodes do."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    job = seal(tmp_path / "b1", BROKEN, 8, groups=8)
    for group in range(4):
        work(job, group, node="n1")
    before = len((tmp_path / "calls").read_text())
    work(job, 4, node="n2")
    assert len((tmp_path / "calls").read_text()) == before + 3
    other = seal(tmp_path / "b2", BROKEN, 8, groups=8)
    for group in range(3):
        work(other, group, node=f"n{group}")
    before = len((tmp_path / "calls").read_text())
    work(other, 4, node="n9")
    assert len((tmp_path / "calls").read_text()) == before


def test_an_init_that_succeeded_somewhere_is_tried_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    once = '    if open(os.environ["CALLS"]).read() != "x":\n        raise'
    job = seal(tmp_path / "b1", BROKEN.replace("    raise", once), 8, groups=8)
    assert work(job, 0) == EXIT_DONE
    for group in range(1, 5):
        assert work(job, group) == EXIT_ABORTED
    assert len((tmp_path / "calls").read_text()) == 1 + 4 * 3


def test_different_failures_of_init_are_not_one(tmp_path: Path) -> None:
    """Each has its own chance: a race for a file, a full disk."""
    script = "import os\n\ndef init():\n    raise ValueError(os.getpid())\n\ndef run(mini_batch):\n    return []\n"
    job = seal(tmp_path / "b1", script, 8, groups=8)
    for group in range(4):
        work(job, group)
    assert "not_tried" not in reason(job, Kind.ABORT, 3)


def test_a_result_of_the_wrong_type_is_not_tried_again(tmp_path: Path) -> None:
    """What run() returns is a matter of its code, not of chance."""
    job = seal(tmp_path / "b1", "def run(mini_batch):\n    return 7\n", 3, max_retries=3)
    assert work(job) == EXIT_DONE
    assert [(r.mini_batch, r.flags) for r in records(job, Kind.FAIL)] == [(n, FLAG_FINAL) for n in range(3)]
    assert (reason(job, Kind.FAIL)["try"], reason(job, Kind.FAIL)["of"]) == (1, 1)


# ---- restarts -------------------------------------------------------------------------------------------------------


def test_a_restart_of_a_complete_group_starts_no_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves no new files: Slurm may requeue what has ended (24.05 and later)."""
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    script = "open(__import__('os').environ['CALLS'], 'a').write('imported ')\n\ndef run(mini_batch):\n    return []\n"
    job = seal(tmp_path / "b1", script, 4)
    assert work(job) == EXIT_DONE
    files = sorted(job.root.rglob("*"))
    monkeypatch.setattr(entry, "DriverProcess", None)
    assert work(job) == EXIT_DONE
    assert (tmp_path / "calls").read_text() == "imported "
    assert sorted(job.root.rglob("*")) == files
    assert len(attempts(job)) == 1
