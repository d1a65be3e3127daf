"""Memory and signals where Slurm itself uses cgroups, as most sites do: it kills for memory, and SIGTERM comes to the
worker alone.

Needs root and a kernel whose memory controller slurmd may use, which few containers have: behind the marker.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from hpcbatch.records.ledger import Kind
from tests.site import Site, eventually
from tests.slurm.watched import SCRIPT, own_cluster, own_site, start, take_the_nodes

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.chaos]

CGROUPS = (
    "ProctrackType=proctrack/cgroup", "TaskPlugin=task/cgroup", "JobAcctGatherType=jobacct_gather/none",
    "SelectTypeParameters=CR_Core_Memory", "DefMemPerCPU=500",
)  # fmt: skip
HUNGRY = SCRIPT.replace("    names =", "    need = bytearray((150 << 20) * ('00002' in mini_batch[0]))\n    names =")
HUNGRY_INIT = SCRIPT + "\ndef init():\n    global model\n    model = bytearray(150 << 20)\n"


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with own_cluster("--nodes", "2", "--no-accounting", "--set", *CGROUPS) as found:
        yield found


@pytest.fixture
def site() -> Iterator[Site]:
    with own_site() as found:
        yield found


@pytest.mark.parametrize(
    ("script", "kills", "what"), [(HUNGRY, [2, 2], "mini-batch 2"), (HUNGRY_INIT, [], "init()")], ids=["run", "init"]
)
def test_what_slurm_killed_for_memory_gets_more(
    site: Site, cluster: DevCluster, script: str, kills: list[int], what: str
) -> None:
    """Slurm says OUT_OF_MEMORY of the array task even where the worker went on; no try of `max_retries` is spent."""
    site.add_compute({"name": "small", "type": "slurm", "partition": "normal", "mem": "100M"})
    job = start(site, cluster, 6, groups=1, compute="small", script=script)
    verdict = job.wait()
    assert (verdict["completed"], verdict["items_failed"]) == (True, 0), site.log(job.name)
    assert verdict["story"] == [f"{what} was killed for memory at 100M; round 1 asks for 200M"]
    assert [number for _, number in job.records(Kind.FAIL)] == kills


@pytest.mark.parametrize("compute", ["spot", "dedicated"])
def test_preempted_where_only_the_worker_hears_of_it(site: Site, cluster: DevCluster, compute: str) -> None:
    job = start(site, cluster, 60, groups=2, compute=compute)
    eventually(job.half_done)
    take_the_nodes(cluster, 2)
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=2)
    assert {number for _, number in job.records(Kind.RELEASE)}, "it heard"
