"""The power goes off between any two calls: from whatever the disk may hold then, the job is finished, and rightly."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbatch.fs import probe
from hpcbatch.jobdir import jobdir
from hpcbatch.merge.entry import merge_job
from tests.faults.filesystem import Recorder, lay
from tests.faults.finishing import attempt, check, finish, score
from tests.unit.jobdir.sealed import Size, draft

pytestmark = pytest.mark.slow
PARTS, CASES = 8, 20_800
SMALL = Size(items=10, mini_batch_size=2, groups=2)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(probe, "visibility_timeout_s", lambda _: 0.0)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        yield Path(memory) / "work"


def recorded(folder: Path) -> Recorder:
    """A whole life: an attempt that is killed, the next one, a merge too early, the other group, and the last merge."""
    recorder = Recorder(folder)
    folder.mkdir()
    with recorder.recording():
        jobdir.create(folder / "job", draft(folder / "job", SMALL))
        job = jobdir.open_job(folder / "job")
        first = attempt(job, 0, 0)
        for _ in range(4):
            next(first)
        second = attempt(job, 0, 0)
        next(second)
        merge_job(job)
        score(job)
        merge_job(job)
        assert job.verdict() is not None
    return recorder


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_a_power_cut_left_the_job_is_finished_rightly(folder: Path, part: int) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    recorder = recorded(folder)
    calls = len(recorder.log)
    merged_at_once = 0
    for case in range(CASES // PARTS):
        cut = part + (case * PARTS) % calls
        lay(folder, recorder.after_crash(min(cut, calls), chance))
        place = f"seed {seed}, case {case}, after call {cut} of {calls}"
        if not (folder / "job").exists():
            assert jobdir.create(folder / "job", draft(folder / "job", SMALL)), place
        try:
            job = jobdir.open_job(folder / "job")
            check(job)
            if chance.random() < 0.5:
                score(job)
            merged_at_once += finish(job) == 1
        except BaseException as error:
            error.add_note(place)
            raise
    print(f"{CASES // PARTS} cases over {calls} calls, {merged_at_once} with the first merge")


def test_the_recorder_misses_nothing(folder: Path) -> None:
    """Nothing lost, it is the tree that was really made."""

    class Everything(random.Random):
        def choice(self, seq):  # type: ignore[no-untyped-def]
            return "all" if "all" in seq else seq[1]

    recorder = recorded(folder)
    real = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    tree = recorder.after_crash(len(recorder.log), Everything())
    assert {path: content for path, content in tree.items() if content is not None} == real
    assert len(recorder.log) > 150
