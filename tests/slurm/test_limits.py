"""Slurm takes only so many jobs at once: a part of the job is submitted, and the job itself submits the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.rounds.standing import groups_noted
from tests.processes import kill
from tests.site import Site, eventually
from tests.slurm.watched import Watched, own_cluster, own_site, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm

LIMITS = {"four": 4, "three": 3, "two": 2, "one": 1, "full": 4}
COUNT = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    """A cluster with a QOS for each limit on submitted jobs."""
    with own_cluster("--nodes", "3", "--set", "AccountingStorageEnforce=limits,qos") as found:
        found.run("sacctmgr", "-i", "add", "account", "lab")
        for name, limit in LIMITS.items():
            found.run("sacctmgr", "-i", "add", "qos", name, f"MaxSubmitJobsPerUser={limit}")
        found.run("sacctmgr", "-i", "add", "user", "root", "account=lab")
        found.run("sacctmgr", "-i", "modify", "user", "root", "set", f"qos+={','.join(LIMITS)}")
        options = ("--test-only", f"--output={os.devnull}")
        for name in LIMITS:
            eventually(lambda name=name: _accepts(found, f"--qos={name}", *options))
        yield found


def _accepts(cluster: DevCluster, *options: str) -> bool:
    try:
        return bool(cluster.submit(*options, wrap="true")) or True
    except AssertionError:
        return False


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with own_site() as found:
        computes: list[dict[str, Any]] = [{"name": name, "type": "slurm", "qos": name} for name in LIMITS]
        computes[0]["partition"] = "closed"
        for compute in computes:
            found.add_compute(compute)
        yield found


@pytest.fixture(scope="module")
def started(cluster: DevCluster, site: Site) -> dict[str, Watched]:
    """The jobs that need no watching, at once; the first one waits."""
    cluster.run("scontrol", "create", "PartitionName=closed", "Nodes=ALL", "State=DOWN")
    groups = {"four": 10, "three": 3, "two": 2}
    return {name: start(site, cluster, COUNT, compute=name, groups=count) for name, count in groups.items()}


def assert_completed(job: Watched) -> None:
    job.wait()
    job.assert_undisturbed()
    eventually(lambda: not job.queued())


def test_groups_beyond_the_limit_are_held_back_and_submitted_by_the_merge(
    cluster: DevCluster, started: dict[str, Watched]
) -> None:
    job = started["four"]
    word, detail = job.status()
    assert word == "Queued"
    assert "8 groups are held back by a limit on submitted jobs; the merge submits them." in detail
    job.resume()
    assert "8 groups are held back" in job.status()[1], "there is no room yet"
    cluster.run("scontrol", "update", "PartitionName=closed", "State=UP")
    assert_completed(job)
    job.assert_nothing_finished_ran_again(kills=4)
    assert groups_noted(job.job, 0) == job.job.record.groups, "what was held back came in the same round"


def test_an_array_that_leaves_no_room_for_its_merge_gives_up_its_last_task(started: dict[str, Watched]) -> None:
    """A round without a merge would end unseen. The groups of that task run in the next round."""
    job = started["three"]
    assert_completed(job)
    job.assert_nothing_finished_ran_again(kills=1)
    assert job.job.rounds()[:2] == [0, 1]


def test_a_limit_of_one_leaves_no_room_for_any_merge_and_show_says_so(cluster: DevCluster, site: Site) -> None:
    """The last array task publishes. Where it dies, `job resume` goes on."""
    job = start(site, cluster, COUNT, compute="one", groups=1, hold_after=4)
    eventually(lambda: job.done() >= 2)
    word, detail = job.status()
    assert word == "Running"
    assert "left no room for the merge" in detail
    for worker in job.workers():
        kill(worker)
    eventually(lambda: not job.queued())
    assert job.status()[0] == "NotResponding"
    job.let_go()
    job.resume()
    assert_completed(job)
    job.assert_nothing_finished_ran_again(kills=1)


def test_where_nothing_can_be_submitted_the_job_stays_and_resume_submits_it(cluster: DevCluster, site: Site) -> None:
    others = [
        cluster.submit("--qos=full", "--hold", f"--output={os.devnull}", wrap="true") for _ in range(LIMITS["full"])
    ]
    with pytest.raises(SchedulerError, match="as many jobs as it takes at once") as caught:
        start(site, cluster, COUNT, compute="full", groups=2, job_name="patient")
    assert "QOSMaxSubmitJobPerUserLimit" in caught.value.message
    assert "hpcbatch job resume --name patient" in caught.value.hint
    job = Watched(site, cluster, "patient", site.folder / "unused", COUNT)
    assert job.status()[0] == "NotStarted"
    with pytest.raises(SchedulerError, match="as many jobs"):
        job.resume()
    cluster.run("scancel", *others)
    job.resume()
    assert_completed(job)


def test_a_limit_that_has_room_for_one_array_task_and_a_merge(started: dict[str, Watched]) -> None:
    """A merge that goes on has no room for the next one, so it is queued again itself."""
    job = started["two"]
    assert_completed(job)
    job.assert_nothing_finished_ran_again(kills=4)
    assert groups_noted(job.job, 0) == job.job.record.groups, "what was held back came in the same round"
