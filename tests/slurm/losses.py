"""Scenarios: array tasks and nodes that are lost, and what waits for somebody."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from typing import TYPE_CHECKING

from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.operations import jobs
from hpcbatch.records.ledger import Kind
from tests.processes import kill
from tests.site import Site, eventually
from tests.slurm.at_once import at_once
from tests.slurm.watched import Watched, crash, node_of, speaking_to, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster


# ---- array tasks that end before their work --------------------------------------------------------------------------


@at_once
def the_process_of_a_step_is_killed(site: Site, cluster: DevCluster) -> None:
    """No word in its ledger, so its mini-batch is a suspect: it runs again, alone, and no try is spent."""
    job = start(site, cluster, 60, groups=2, hold_after=8)
    eventually(lambda: job.done() >= 10)
    assert kill(job.workers()[0])
    job.let_go()
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def one_array_task_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
    """The merge makes up for it: what is missing is known from the ledgers alone."""
    job = start(site, cluster, 80, groups=2, hold_after=8)
    eventually(lambda: job.done() >= 10)
    job.cancel_a_task()
    job.let_go()
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert job.job.rounds() == [0, 1]


@at_once
def a_whole_array_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
    """Nobody cancels every task of an array to have them run again."""
    job = start(site, cluster, 400, groups=2, hold_after=20)
    eventually(lambda: job.done() >= 10)
    cluster.run("scancel", job.array())
    eventually(lambda: not job.queued())
    assert (job.job.rounds(), job.verdict()) == ([0], {}), site.log(job.name)
    word, detail = job.status()
    assert word == "NotResponding"
    assert f"hpcbatch job resume --name {job.name}" in detail
    assert "cancelled" in site.log(job.name)
    begun = job.tally()["calls"]
    time.sleep(8)  # a requeued task would have begun by now
    assert (job.tally()["calls"], job.queued()) == (begun, [])


@at_once
def a_cancelled_job_stays_cancelled(site: Site, cluster: DevCluster) -> None:
    """Its workers hear SIGTERM and ask for a requeue, as in a preemption; Slurm must not grant it."""
    job = start(site, cluster, 1000, groups=2, hold_after=20)
    eventually(lambda: job.done() >= 10)
    with speaking_to(cluster):
        jobs.cancel_job(site.ws, job.name)
    eventually(lambda: not job.queued())
    eventually(lambda: not job.workers())
    job.let_go()
    time.sleep(2)  # a driver outlives its worker by a moment
    begun = job.tally()["calls"]
    time.sleep(8)
    found = (job.tally()["calls"], job.queued(), job.status()[0])
    assert found == (begun, [], "Canceled"), (found, begun, site.log(job.name))
    assert read_coverage(job.job).accounting(over=True).preemptions == 0
    assert site.output(job.name) is None


# ---- nodes -----------------------------------------------------------------------------------------------------------


def _alone_on_a_node(site: Site, cluster: DevCluster, count: int, **more: int) -> Watched:
    job = start(site, cluster, count, run_s=0.4, groups=1, compute="steps", **more)
    eventually(lambda: job.done() >= 5)
    return job


@at_once
def a_node_crashes(site: Site, cluster: DevCluster) -> None:
    job = _alone_on_a_node(site, cluster, 30, hold_after=8)
    node = node_of(job)
    try:
        crash(cluster, job, node)
        job.let_go()
        job.wait()
    finally:
        cluster.control("start", f"slurmd-{node}")
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def a_node_is_cut_off_and_its_worker_lives_on(site: Site, cluster: DevCluster) -> None:
    """Two attempts of one group, both writing: each mini-batch is in the output once. In as many jobs as it takes: the
    first gives way up to 30 s after the second has begun.
    """
    duplicates = 0
    while not duplicates:
        job = _alone_on_a_node(site, cluster, 150, hold_after=10)
        slurmd = int(cluster.control("pid", f"slurmd-{node_of(job)}"))
        os.kill(slurmd, signal.SIGSTOP)
        try:
            eventually(lambda job=job: job.twins_at_work(1) or job.verdict(), 400, 0.1)
        finally:
            os.kill(slurmd, signal.SIGCONT)
        verdict = job.wait()
        print(job.tally(), verdict["attempts"], verdict["duplicates"])
        job.assert_undisturbed()
        assert verdict["nondeterministic_duplicates"] == 0
        committed = Counter(mini_batch for _, mini_batch in job.records(Kind.COMMIT))
        duplicates = verdict["duplicates"]
        assert duplicates <= committed.total() - job.count


@at_once
def the_time_is_up_before_the_work(site: Site, cluster: DevCluster) -> None:
    job = _alone_on_a_node(site, cluster, 110)
    cluster.run("scontrol", "update", f"JobId={job.array()}_0", "EndTime=now+3seconds")
    verdict = job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert verdict["attempts"] == 2


# ---- what waits for somebody -----------------------------------------------------------------------------------------


@at_once
def a_held_job_says_so_and_how_to_let_it_go(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 60, groups=1, hold_after=8)
    eventually(lambda: job.done() >= 5)
    cluster.run("scontrol", "requeuehold", f"{job.array()}_0")
    eventually(lambda: job.status()[1].startswith("Held"), pause_s=0.3)
    word, detail = job.status()
    assert (word, f"hpcbatch job resume --name {job.name}" in detail) == ("Queued", True), detail
    job.let_go()
    job.resume()
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def a_held_merge_says_so(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 8, groups=1, hold_after=2)
    merge = (job.job.document(job.job.paths.round(0) / "merge.json") or {})["slurm_job_id"]
    cluster.run("scontrol", "hold", merge)
    eventually(lambda: job.done() >= 1)
    for worker in job.workers():
        kill(worker)
    eventually(lambda: len(job.queued()) == 1)
    word, detail = job.status()
    assert "Held" in detail, (word, detail)
    assert f"hpcbatch job resume --name {job.name}" in detail
    job.let_go()
    job.resume()
    job.wait()
    job.assert_undisturbed()


@at_once
def a_task_that_slurm_cannot_launch_is_no_hang(site: Site, cluster: DevCluster) -> None:
    """The folder of its standard output is gone: nothing of the job can run, and it says so."""
    cluster.run("scontrol", "create", "PartitionName=closed", "Nodes=ALL", "State=DOWN")
    job = start(site, cluster, 8, groups=1, compute="late")
    job.job.paths.slurm.rename(job.job.root / "moved")
    cluster.run("scontrol", "update", "PartitionName=closed", "State=UP")
    eventually(lambda: job.status()[0] == "NotResponding" or job.status()[1].startswith("Held"), pause_s=0.5)
    word, detail = job.status()
    print(word, detail, job.queued())
    (job.job.root / "moved").rename(job.job.paths.slurm)
    job.resume()
    job.wait()
    job.assert_undisturbed()
