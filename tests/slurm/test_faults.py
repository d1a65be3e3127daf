"""What goes wrong on a real Slurm, one at a time: the bytes of a quiet run, or an honest word about what is missing."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.rounds import once
from hpcbatch.rounds.standing import groups_noted
from hpcbatch.scheduler import slurm
from tests.site import Site
from tests.slurm import budgets, healing, losses, submissions
from tests.slurm.at_once import SCENARIOS, Scenario
from tests.slurm.watched import Watched, own_cluster, own_site, speaking_to, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm

WITH_SCENARIOS = (budgets, healing, losses, submissions)  # importing them fills SCENARIOS


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with own_cluster("--nodes", "16", "--max-array-size", "5", "--no-accounting") as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def running(cluster: DevCluster) -> Iterator[Mapping[str, Future[None]]]:
    def run(scenario: Scenario) -> None:
        with own_site() as site:
            scenario(site, cluster)

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(run, scenario) for name, scenario in SCENARIOS.items()}


@pytest.fixture
def site() -> Iterator[Site]:
    with own_site() as found:
        yield found


TIMED_OUT = 'echo "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation" >&2; exit 1'
SBATCH = {
    "accepts, then times out": f'{{real}} "$@" >&2; {TIMED_OUT}',
    "times out first": TIMED_OUT,
    "accepts, then hangs": '{real} "$@" >&2; sleep 60',
    "hangs": "sleep 60",
    "accepts and prints rubbish": '{real} "$@" >&2; echo "Welcome to the cluster! Quota: 42 %"',
    "prints rubbish": 'echo "Welcome to the cluster!"',
}


def shim(folder: Path, body: str, *, until: int) -> str:
    """A PATH in which the first *until* calls of sbatch do *body*."""
    count, real = folder / "calls-of-sbatch", shutil.which("sbatch")
    (folder / "bin").mkdir()
    program = folder / "bin" / "sbatch"
    program.write_text(
        f'#!/bin/sh\necho x >>{count}\n[ "$(wc -l <{count})" -le {until} ] || exec {real} "$@"\n'
        f"{body.format(real=real)}\n"
    )
    program.chmod(0o755)
    return f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"


@contextmanager
def impatient(cluster: DevCluster, deadline_s: float = 10) -> Iterator[None]:
    """Less patience with sbatch. The scenarios beside this test, in the same process, speak to Slurm after it."""
    with speaking_to(cluster), pytest.MonkeyPatch.context() as patch:
        patch.setattr(slurm, "SUBMIT_DEADLINE_S", deadline_s)
        patch.setattr(once, "DOUBT_S", 5.0)
        yield


@pytest.mark.parametrize("how", SBATCH)
def test_an_sbatch_that_cannot_be_believed(how: str, site: Site, cluster: DevCluster, tmp_path: Path) -> None:
    """Whatever the first sbatch did, one array and one merge run."""
    with impatient(cluster):
        job = start(site, cluster, 4, groups=2, environment={"PATH": shim(tmp_path, SBATCH[how], until=1)})
    names = Counter(job.queued("%j"))
    job.wait()
    job.assert_undisturbed()
    assert names[f"{job.prefix}.r0.w0-2"] <= 2, names
    assert names[f"{job.prefix}.r0.m"] <= 1, names
    assert job.tally()["calls"] == 4


def test_a_cluster_that_is_full_takes_a_part_and_the_merge_submits_the_rest(
    site: Site, cluster: DevCluster, tmp_path: Path
) -> None:
    """MaxJobCount: sbatch tries again for minutes, which is longer than anybody waits. Its words are Slurm 22.05's."""
    full = 'echo "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying" >&2; sleep 60'
    with impatient(cluster):
        job = start(site, cluster, 4, groups=2, environment={"PATH": shim(tmp_path, full, until=1)})
    job.wait()
    job.assert_undisturbed()
    job.assert_each_ran_once()
    assert (bool(job.array(first=1)), groups_noted(job.job, 0)) == (True, 2), "two arrays"


def test_an_sbatch_that_always_times_out_and_accepts(site: Site, cluster: DevCluster, tmp_path: Path) -> None:
    path = shim(tmp_path, SBATCH["accepts, then times out"], until=99)
    with impatient(cluster):
        job = start(site, cluster, 4, groups=2, environment={"PATH": path})
    job.wait()
    job.assert_undisturbed()
    assert job.tally()["calls"] == 4


def test_an_sbatch_that_never_answers_leaves_a_job_that_resume_submits(
    site: Site, cluster: DevCluster, tmp_path: Path
) -> None:
    path = shim(tmp_path, SBATCH["hangs"], until=99)
    with impatient(cluster, 2), pytest.raises(SchedulerError, match="did not answer") as caught:
        start(site, cluster, 4, groups=2, job_name="mine", environment={"PATH": path})
    assert "hpcbatch job resume --name mine" in caught.value.hint
    job = Watched(site, cluster, "mine", next(iter(site.folder.glob("calls-*")), site.folder / "calls-1"), 4)
    assert job.status()[0] == "NotStarted"
    job.resume()
    job.wait()
    job.assert_undisturbed()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_once(scenario: str, running: Mapping[str, Future[None]]) -> None:
    running[scenario].result(1000)
