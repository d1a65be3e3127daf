"""Time limits, memory and bad nodes on a real Slurm, each beside the others."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbatch.records.ledger import Kind
from tests.site import Site, eventually
from tests.slurm.at_once import at_once
from tests.slurm.watched import SCRIPT, Watched, own_cluster, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster

# Both nodes have their two array tasks before one fails: else the others could come to n1, too.
INIT_ON_N1 = """
def init():
    note("at", os.environ["SLURMD_NODENAME"])
    while open(os.environ["CALLS"]).read().count("at n") < 4:
        time.sleep(0.02)
    if os.environ["SLURMD_NODENAME"] == "n1":
        raise OSError("no GPU")
"""
MEMORY = Path("/sys/fs/cgroup/memory")
NOT_ENOUGH = """if '00002' in mini_batch[0] and int(os.environ['SLURM_MEM_PER_NODE']) < 200:
        raise MemoryError"""


def _story(job: Watched) -> list[str]:
    found: list[str] = job.verdict()["story"]
    return found


def _accounting(job: Watched) -> dict[str, Any]:
    found: dict[str, Any] = job.verdict()["accounting"]
    return found


@at_once
def the_time_limit_is_shorter_than_the_work(site: Site, cluster: DevCluster) -> None:
    """One minute for five times twelve seconds: the fifth is not begun, and the next attempt does it. The signal before
    the limit comes at the very start, to a batch script that is not a worker yet.
    """
    site.set_up({"name": "minute", "type": "slurm", "partition": "normal", "time": 1})
    job = start(site, cluster, 5, run_s=12, groups=1, compute="minute")
    job.wait(400)
    job.assert_undisturbed()
    assert job.job.rounds() == [0]
    assert job.tally() == {"calls": 5, "begun_again": 0, "ended_again": 0, "never_ended": 0}
    found = _accounting(job)
    assert (found["time_limits"], found["preemptions"], found["deaths"]) == (1, 0, 0), (found, site.log(job.name))
    assert found["lost_s"] == 0
    assert found["useful_s"] >= 60


@at_once
def a_mini_batch_needs_more_memory(site: Site, cluster: DevCluster) -> None:
    """The kernel kills its process twice, the second time alone; the next round asks for twice as much.

    Where there are no cgroups of version 1 to limit memory with, Python itself says that there is not enough.
    """
    kernel = os.access(MEMORY / "cgroup.procs", os.W_OK)
    need = "need = bytearray((120 << 20) * ('00002' in mini_batch[0]))" if kernel else NOT_ENOUGH
    script = SCRIPT.replace("    names =", f"    {need}\n    names =")
    own = MEMORY / f"hpcbatch-{os.getpid()}"
    limited = [f"D={own}-$SLURM_JOB_ID-$SLURM_RESTART_COUNT", "mkdir $D", "echo $$ > $D/cgroup.procs",
               "echo ${SLURM_MEM_PER_NODE}M > $D/memory.limit_in_bytes"]  # fmt: skip
    compute = {"name": "small", "type": "slurm", "partition": "normal", "mem": "100M", "setup": limited * kernel}
    site.set_up(compute)
    try:
        job = start(site, cluster, 6, groups=1, compute="small", script=script)
        job.wait()
        assert job.verdict()["completed"], site.log(job.name)
        assert job.job.rounds() == [0, 1]
        assert [number for _, number in job.records(Kind.FAIL)] == [2, 2], "no try of max_retries, which is 0"
        assert _story(job) == ["mini-batch 2 was killed for memory at 100M; round 1 asks for 200M"]
        assert _accounting(job)["memory_kills"] == 2
        asked = [p.read_text() for p in sorted(job.job.paths.slurm.glob("*.sh")) if ".w0-1" in p.read_text()]
        assert sum("--mem=200M" in text for text in asked) == 1
        eventually(lambda: not job.queued())
    finally:
        for folder in MEMORY.glob(f"{own.name}-*"):
            folder.rmdir()


@at_once
def nothing_starts_on_one_node(site: Site, _: DevCluster) -> None:
    """It takes two array tasks and fails them at their start, so the next round does without it."""
    begun = site.folder / "begun"
    begun.mkdir()
    broken = [  # the merge may run there; all four have begun before one fails, else the others could come there, too
        'if [ -n "$SLURM_ARRAY_TASK_ID" ]; then',
        f'touch {begun}/$SLURM_JOB_ID; until [ "$(ls {begun} | wc -l)" -ge 4 ]; do sleep 0.1; done',
        '[ "$SLURMD_NODENAME" != n1 ] || exit 1; fi',
    ]
    site.set_up({"name": "half", "type": "slurm", "partition": "normal", "cpus_per_task": 2, "setup": broken})
    with own_cluster("--nodes", "2", "--no-accounting") as cluster:
        job = start(site, cluster, 8, groups=4, compute="half")
        job.wait()
        job.assert_undisturbed()
        assert job.job.rounds() == [0, 1]
        assert _story(job) == ["node n1 failed 2 array tasks at their start; later rounds do without it"]
        assert any("#SBATCH --exclude=n1" in p.read_text() for p in job.job.paths.slurm.glob("*.sh"))
        eventually(lambda: not job.queued())


@at_once
def init_fails_on_one_node(site: Site, _: DevCluster) -> None:
    """A driver is missing there. Elsewhere init() returned: that is no reason to fail the job."""
    script = SCRIPT + INIT_ON_N1
    site.set_up({"name": "half", "type": "slurm", "partition": "normal", "cpus_per_task": 2})
    with own_cluster("--nodes", "2", "--no-accounting") as cluster:
        job = start(site, cluster, 8, groups=4, compute="half", script=script)
        verdict = job.wait()
        assert verdict["completed"], site.log(job.name)
        assert job.job.rounds() == [0, 1]
        assert "node n1 failed 2 array tasks at their start; later rounds do without it" in _story(job)
        assert any("#SBATCH --exclude=n1" in p.read_text() for p in job.job.paths.slurm.glob("*.sh"))
        eventually(lambda: not job.queued())
