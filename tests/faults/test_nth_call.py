"""Every call of the filesystem fails once, and then with a second one: what comes next finishes the job."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, HpcBatchError
from hpcbatch.fs import probe
from hpcbatch.jobdir import jobdir
from hpcbatch.registry.store import Registry
from tests.faults.filesystem import ERRORS, SHORT, faulty
from tests.faults.finishing import check, finish, tried
from tests.unit.jobdir.sealed import Size, draft, seal

pytestmark = pytest.mark.slow
FAULTS = (*ERRORS, SHORT)
SMALL = Size(items=6, mini_batch_size=2, groups=1)
CASES = {"singles": 1, "pairs": 24}  # how many histories for each call and error


@pytest.fixture(autouse=True)
def nothing_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "visibility_timeout_s", lambda _: 0.0)


def histories(calls: int, chance: random.Random) -> Iterator[dict[int, int]]:
    """One fault at each call, and pairs: a second one a few calls later."""
    for number, fault in itertools.product(range(calls), FAULTS):
        yield {number: fault}
    for number in range(calls):
        for _ in range(CASES["pairs"]):
            yield {number: chance.choice(FAULTS), number + chance.randint(1, 12): chance.choice(FAULTS)}


def test_a_job_survives_any_two_failed_calls_of_its_worker_and_its_merge(tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    with faulty({}) as made:
        tried(seal(tmp_path / "quiet", SMALL), 0)
    cases = 0
    for faults in histories(len(made), random.Random(seed)):
        job = seal(tmp_path / f"j{cases}", SMALL)
        with faulty(faults):
            tried(job, 0)
        check(job)
        finish(job)
        cases += 1
    print(f"{cases} cases over {len(made)} calls")
    assert cases >= 4000


def test_a_job_directory_is_whole_or_not_there_whatever_call_fails(tmp_path: Path) -> None:
    chance = random.Random(7)
    with faulty({}) as made:
        assert jobdir.create(tmp_path / "quiet", draft(tmp_path / "quiet", SMALL))
    cases = 0
    for faults in histories(len(made), chance):
        folder = tmp_path / f"j{cases}"
        try:
            with faulty(faults):
                jobdir.create(folder, draft(folder, SMALL))
        except (OSError, HpcBatchError):
            pass
        if folder.exists():
            jobdir.open_job(folder)
        else:
            assert jobdir.create(folder, draft(folder, SMALL))
        assert jobdir.open_job(folder).plan(0).groups == 1
        cases += 1
    print(f"{cases} cases over {len(made)} calls")
    assert cases >= 500


def test_a_registry_has_each_revision_whole_or_not_at_all_whatever_call_fails(tmp_path: Path) -> None:
    chance = random.Random(11)
    registry = Registry(tmp_path)
    stream = registry.stream("endpoint", "one")
    stream.append({"n": 0}, op="create", expected=0)
    with faulty({}) as made:
        stream.append({"n": 0}, op="update", expected=1)
    said = 2
    cases = 0
    for faults in histories(len(made), chance):
        before = stream.head()
        assert before is not None
        said += 1
        try:
            with faulty(faults):
                done = stream.append({"n": said}, op="update", expected=before.number).number
        except (OSError, HpcBatchError):
            done = before.number
        after = stream.head()
        assert after is not None
        assert after.number in {done, before.number + 1}, "what was acknowledged is there"
        if after.number > before.number:
            assert after.document == {"n": said}, "and what is there is whole"
        with pytest.raises(Conflict):
            stream.append({"n": -1}, op="update", expected=after.number - 1)
        cases += 1
        if cases % 50 == 0:
            stream = registry.stream("endpoint", f"again-{cases}")
            stream.append({"n": 0}, op="create", expected=0)
    print(f"{cases} cases over {len(made)} calls")
    assert cases >= 500


def test_the_seam_is_put_back() -> None:
    real = os.write
    with faulty({}):
        assert os.write is not real
    assert os.write is real
