"""Everything at once, at random: jobs that are hit every few seconds end with the bytes of a quiet run.

`HPCBATCH_CHAOS_S` is how long (300 s), `HPCBATCH_CHAOS_SEED` repeats a run's choices. Both are printed.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hpcbatch.errors import SchedulerError
from tests.processes import kill
from tests.site import Site, eventually
from tests.slurm.watched import Watched, crash, own_cluster, own_site, start, take_the_nodes

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.chaos]

NODES, JOBS, COUNT = 4, 3, 160
COMPUTES = ("spot", "dedicated", "spot")


class Chaos:
    """Hits one cluster and its jobs. Every method but `restore` is one fault."""

    def __init__(self, cluster: DevCluster, choose: random.Random) -> None:
        self.cluster = cluster
        self.choose = choose
        self.faults: tuple[Callable[[Watched], None], ...] = (
            self.preempt, self.preempt, self.preempt, self.cancel_a_task, self.cancel_an_array, self.kill_a_worker,
            self.requeue, self.requeue_and_hold, self.crash_a_node, self.stop_a_slurmd, self.kill_slurmctld,
            self.stop_slurmctld, self.another_merge, self.end_its_time, self.resume,
        )  # fmt: skip
        self._later: list[threading.Timer] = []

    def hit(self, jobs: list[Watched]) -> str:
        """One fault; its name."""
        fault = self.choose.choice(self.faults)
        job = self.choose.choice(jobs)
        # What it wants to hit may have ended, and Slurm may be down.
        with suppress(AssertionError, RuntimeError, SchedulerError, IndexError, ProcessLookupError, KeyError):
            fault(job)
            return fault.__name__
        return f"{fault.__name__} (missed)"

    def preempt(self, _: Watched) -> None:
        take_the_nodes(self.cluster, self.choose.randint(1, NODES))

    def cancel_a_task(self, job: Watched) -> None:
        self.cluster.run("scancel", self._task(job))

    def cancel_an_array(self, job: Watched) -> None:
        self.cluster.run("scancel", self._task(job).partition("_")[0])

    def kill_a_worker(self, job: Watched) -> None:
        kill(self.choose.choice(job.workers()))

    def requeue(self, job: Watched) -> None:
        self.cluster.run("scontrol", "requeue", self._task(job))

    def requeue_and_hold(self, job: Watched) -> None:
        self.cluster.run("scontrol", "requeuehold", self._task(job))

    def end_its_time(self, job: Watched) -> None:
        self.cluster.run("scontrol", "update", f"JobId={self._task(job)}", "EndTime=now+1seconds")

    def another_merge(self, job: Watched) -> None:
        scripts = [path for path in job.job.paths.slurm.glob("*.sh") if "hpcbatch.merge" in path.read_text()]
        self.cluster.run("sbatch", "--partition=normal", "--dependency=", self.choose.choice(scripts))

    def resume(self, job: Watched) -> None:
        job.do_as_told()

    def crash_a_node(self, job: Watched) -> None:
        node = self.choose.choice([line.split()[1] for line in job.queued("%T %N") if line.startswith("RUNNING")])
        self._after(2, lambda: self.cluster.control("start", f"slurmd-{node}"))
        crash(self.cluster, job, node)

    def stop_a_slurmd(self, _: Watched) -> None:
        pid = int(self.cluster.control("pid", f"slurmd-n{self.choose.randint(1, NODES)}"))
        os.kill(pid, signal.SIGSTOP)
        self._after(self.choose.choice((3, 30)), lambda: os.kill(pid, signal.SIGCONT))

    def kill_slurmctld(self, _: Watched) -> None:
        os.kill(int(self.cluster.control("pid", "slurmctld")), signal.SIGKILL)
        self.cluster.control("restart", "slurmctld")

    def stop_slurmctld(self, _: Watched) -> None:
        pid = int(self.cluster.control("pid", "slurmctld"))
        os.kill(pid, signal.SIGSTOP)
        self._after(6, lambda: os.kill(pid, signal.SIGCONT))

    def restore(self) -> None:
        """Every daemon runs again."""
        for timer in self._later:
            timer.join()
        self.cluster.control("start", "slurmctld")
        # A slurmctld that was killed may think that tasks run which ended meanwhile, until their nodes register again.
        self.cluster.control("restart", *(f"slurmd-n{number}" for number in range(1, NODES + 1)))
        self._return_nodes()

    def _return_nodes(self) -> None:
        """Slurm drains a node whose processes did not end in time; an administrator looks, and returns it."""
        for line in self.cluster.run("sinfo", "-h", "-N", "-p", "normal", "-o", "%N %t").splitlines():
            node, state = line.split()
            if state.startswith(("drain", "drng", "down")):
                with suppress(AssertionError):  # it came back by itself
                    self.cluster.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def _task(self, job: Watched) -> str:
        running = [line.split() for line in job.queued("%i %T") if line.endswith("RUNNING")]
        return str(self.choose.choice([words[0] for words in running if "_" in words[0]]))

    def _after(self, seconds: float, then: Callable[[], object]) -> None:
        def act() -> None:
            with suppress(ProcessLookupError, RuntimeError):  # it has ended, or was started by another fault
                then()

        timer = threading.Timer(seconds, act)
        timer.start()
        self._later.append(timer)


@pytest.fixture
def site() -> Iterator[Site]:
    with own_site() as found:
        yield found


def test_chaos(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("HPCBATCH_CHAOS_SEED", "0")) or random.SystemRandom().randrange(1 << 31)
    last_s = float(os.environ.get("HPCBATCH_CHAOS_S", "300"))
    with capsys.disabled():
        print(f"\nHPCBATCH_CHAOS_SEED={seed} HPCBATCH_CHAOS_S={last_s:g}")
    choose = random.Random(seed)
    hits: Counter[str] = Counter()
    grace = choose.choice((0, 2))
    with own_cluster("--nodes", str(NODES), "--grace", str(grace), "--no-accounting") as cluster:
        chaos = Chaos(cluster, choose)
        end = time.monotonic() + last_s
        ended: list[Watched] = []
        live = [start(site, cluster, COUNT, run_s=0.4, groups=2, compute=compute) for compute in COMPUTES]
        while time.monotonic() < end:
            hits[chaos.hit(live)] += 1
            time.sleep(choose.uniform(1, 5))
            for number, job in enumerate(live):
                if job.verdict():
                    ended.append(job)
                    with suppress(SchedulerError):  # the controller may be stopped just now
                        live[number] = start(site, cluster, COUNT, run_s=0.4, groups=2, compute=COMPUTES[number])
        chaos.restore()
        jobs = {job.name: job for job in ended + live}
        _to_the_end(list(jobs.values()))
        with capsys.disabled():
            print(f"grace {grace}, {hits.total()} hits: {dict(hits)}")
            for job in jobs.values():
                about = {key: job.verdict().get(key) for key in ("status", "attempts", "duplicates", "reason")}
                print(f"{job.name}: rounds {len(job.job.rounds())}, {about}, {dict(job.tally())}")
        for job in jobs.values():
            job.assert_undisturbed()
            assert job.verdict()["nondeterministic_duplicates"] == 0


def _to_the_end(jobs: list[Watched]) -> None:
    """Until each has a verdict; on the way a person does what `job show` says."""
    for job in jobs:
        try:
            eventually(lambda job=job: job.verdict() or job.do_as_told(), 240, 1.0)
        except AssertionError as error:
            queue = "\n".join(job.queued())
            nodes = job.cluster.run("sinfo", "-N", "-l")
            raise AssertionError(
                f"{job.name}: {error}\n{job.status()}\n{queue}\n{nodes}\n{job.site.log(job.name)}"
            ) from None
