"""What goes wrong on a real Slurm, one at a time: the bytes of a quiet run, or an honest word about what is missing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.operations import jobs
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds import submission
from hpcbatch.scheduler import slurm
from tests.processes import kill, lives
from tests.site import Site, eventually
from tests.slurm.watched import Watched, own_cluster, own_site, speaking_to, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with own_cluster("--nodes", "5", "--max-array-size", "5", "--no-accounting") as found:
        yield found


@pytest.fixture
def site(cluster: DevCluster) -> Iterator[Site]:
    with own_site() as found:
        yield found
        for line in cluster.run("squeue", "-h", "-o", "%A %j").splitlines():
            cluster.run("scancel", line.split()[0])
        eventually(lambda: not cluster.run("squeue", "-h", "-o", "%A"))


# ---- array tasks that end before their work --------------------------------------------------------------------------


def test_the_process_of_a_step_is_killed(site: Site, cluster: DevCluster) -> None:
    """No word in its ledger, so its mini-batch is a suspect: it runs again, alone, and no try is spent."""
    job = start(site, cluster, 30, groups=2)
    eventually(lambda: job.done() >= 10)
    assert kill(job.workers()[0])
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


def test_one_array_task_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
    """The merge makes up for it: what is missing is known from the ledgers alone."""
    job = start(site, cluster, 30, groups=2)
    eventually(lambda: job.done() >= 10)
    cluster.run("scancel", f"{job.array()}_1")
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert job.job.rounds() == [0, 1]


def test_a_whole_array_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
    """Nobody cancels every task of an array to have them run again."""
    job = start(site, cluster, 200, groups=2)
    eventually(lambda: job.done() >= 10)
    cluster.run("scancel", job.array())
    eventually(lambda: not job.queued(), 30)
    assert (job.job.rounds(), job.verdict()) == ([0], {}), site.log(job.name)
    word, detail = job.status()
    assert word == "NotResponding"
    assert f"hpcbatch job resume --name {job.name}" in detail
    assert "cancelled" in site.log(job.name)
    begun = job.tally()["calls"]
    time.sleep(8)  # a requeued task would have begun by now
    assert (job.tally()["calls"], job.queued()) == (begun, [])


def test_a_cancelled_job_stays_cancelled(site: Site, cluster: DevCluster) -> None:
    """Its workers hear SIGTERM and ask for a requeue, as in a preemption; Slurm must not grant it."""
    job = start(site, cluster, 200, groups=2)
    eventually(lambda: job.done() >= 10)
    with speaking_to(cluster):
        jobs.cancel_job(site.ws, job.name)
    eventually(lambda: not job.queued(), 30)
    begun = job.tally()["calls"]
    time.sleep(8)
    assert (job.tally()["calls"], job.queued(), job.status()[0]) == (begun, [], "Canceled")
    assert site.output(job.name) is None


# ---- nodes -----------------------------------------------------------------------------------------------------------


@dataclass
class Nodes:
    """Three jobs, each alone on its node, and what was done to them."""

    crashed: Watched
    split: Watched
    limited: Watched
    two_at_once: bool = False


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    """One node crashes with everything on it; one is only cut off, so that its worker lives on; one job's time is up."""
    with own_cluster("--nodes", "5", "--no-accounting") as cluster, own_site() as site:
        found = Nodes(*(start(site, cluster, 120, run_s=0.4, groups=1, compute="steps") for _ in range(3)))
        for job in (found.crashed, found.split, found.limited):
            eventually(lambda job=job: job.done() >= 5, 30)
        cluster.run("scontrol", "update", f"JobId={found.limited.array()}_0", "EndTime=now+3seconds")
        _crash(cluster, found.crashed)
        node = _node(found.split)
        slurmd = int(cluster.control("pid", f"slurmd-{node}"))
        os.kill(slurmd, signal.SIGSTOP)
        try:
            eventually(lambda: len(found.split.workers()) == 2, 60, 0.1)
            found.two_at_once = True
            time.sleep(4)
        finally:
            os.kill(slurmd, signal.SIGCONT)
        yield found


def _node(job: Watched) -> str:
    [line] = [line for line in job.queued("%T %N") if line.startswith("RUNNING")]
    return line.split()[1]


def _crash(cluster: DevCluster, job: Watched) -> None:
    """End slurmd, every slurmstepd and every process of the job, as a power cut does."""
    slurmd = int(cluster.control("pid", f"slurmd-{_node(job)}"))
    os.kill(slurmd, signal.SIGKILL)
    for pid in sorted({one for worker in job.workers() for one in _family(worker)}):
        kill(pid)
    eventually(lambda: not job.workers())


def _family(worker: int) -> Iterator[int]:
    """A worker, its drivers, and the slurmstepd above it; of the batch script that waits for it, the same."""
    conf = next(word for word in _environ(worker) if word.startswith(b"SLURM_CONF="))
    slurm_job = next(word for word in _environ(worker) if word.startswith(b"SLURM_JOB_ID="))
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if {conf, slurm_job} <= set(_environ(pid)):
            while pid > 1 and pid != os.getpid():
                try:
                    name = Path(f"/proc/{pid}/comm").read_text().strip()
                    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    break
                if name in ("slurmd", "slurmctld"):
                    break
                yield pid
                pid = parent


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def test_a_node_crashes(nodes: Nodes) -> None:
    verdict = nodes.crashed.wait(90)
    print(nodes.crashed.tally(), verdict["attempts"])
    nodes.crashed.assert_undisturbed()
    nodes.crashed.assert_nothing_finished_ran_again(kills=1)


def test_a_node_is_cut_off_and_its_worker_lives_on(nodes: Nodes) -> None:
    """Two attempts of one group, both writing: each mini-batch is in the output once."""
    assert nodes.two_at_once
    verdict = nodes.split.wait(90)
    print(nodes.split.tally(), verdict["attempts"], verdict["duplicates"])
    nodes.split.assert_undisturbed()
    assert verdict["nondeterministic_duplicates"] == 0
    committed = Counter(mini_batch for _, mini_batch in nodes.split.records(Kind.COMMIT))
    assert verdict["duplicates"] <= committed.total() - nodes.split.count


def test_the_time_is_up_before_the_work(nodes: Nodes) -> None:
    verdict = nodes.limited.wait(90)
    print(nodes.limited.tally(), verdict["attempts"], nodes.limited.job.rounds())
    nodes.limited.assert_undisturbed()
    nodes.limited.assert_nothing_finished_ran_again(kills=1)
    assert verdict["attempts"] >= 2
