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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.operations import jobs
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds import submission
from hpcbatch.scheduler import slurm
from tests.processes import kill
from tests.site import Site, eventually
from tests.slurm.watched import Watched, crash, node_of, own_cluster, own_site, speaking_to, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm


Scenario = Callable[[Site, "DevCluster"], None]
SCENARIOS: dict[str, Scenario] = {}


def at_once(scenario: Scenario) -> Scenario:
    """Runs beside all the others of its kind, because it mostly waits."""
    SCENARIOS[scenario.__name__] = scenario
    return scenario


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with own_cluster("--nodes", "9", "--max-array-size", "5", "--no-accounting") as found:
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


# ---- array tasks that end before their work --------------------------------------------------------------------------


@at_once
def the_process_of_a_step_is_killed(site: Site, cluster: DevCluster) -> None:
    """No word in its ledger, so its mini-batch is a suspect: it runs again, alone, and no try is spent."""
    job = start(site, cluster, 30, groups=2)
    eventually(lambda: job.done() >= 10)
    assert kill(job.workers()[0])
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def one_array_task_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
    """The merge makes up for it: what is missing is known from the ledgers alone."""
    job = start(site, cluster, 80, groups=2)
    eventually(lambda: job.done() >= 10)
    cluster.run("scancel", f"{job.array()}_1")
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert job.job.rounds() == [0, 1]


@at_once
def a_whole_array_is_cancelled_by_hand(site: Site, cluster: DevCluster) -> None:
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


@at_once
def a_cancelled_job_stays_cancelled(site: Site, cluster: DevCluster) -> None:
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


def _alone_on_a_node(site: Site, cluster: DevCluster, count: int) -> Watched:
    job = start(site, cluster, count, run_s=0.4, groups=1, compute="steps")
    eventually(lambda: job.done() >= 5, 30)
    return job


@at_once
def a_node_crashes(site: Site, cluster: DevCluster) -> None:
    job = _alone_on_a_node(site, cluster, 30)
    node = node_of(job)
    try:
        crash(cluster, job, node)
        job.wait(90)
    finally:
        cluster.control("start", f"slurmd-{node}")
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def a_node_is_cut_off_and_its_worker_lives_on(site: Site, cluster: DevCluster) -> None:
    """Two attempts of one group, both writing: each mini-batch is in the output once."""
    job = _alone_on_a_node(site, cluster, 110)
    slurmd = int(cluster.control("pid", f"slurmd-{node_of(job)}"))
    os.kill(slurmd, signal.SIGSTOP)
    try:
        eventually(lambda: len(job.workers()) == 2, 60, 0.1)
        time.sleep(3)
    finally:
        os.kill(slurmd, signal.SIGCONT)
    verdict = job.wait(90)
    print(job.tally(), verdict["attempts"], verdict["duplicates"])
    job.assert_undisturbed()
    assert verdict["nondeterministic_duplicates"] == 0
    committed = Counter(mini_batch for _, mini_batch in job.records(Kind.COMMIT))
    assert 1 <= verdict["duplicates"] <= committed.total() - job.count


@at_once
def the_time_is_up_before_the_work(site: Site, cluster: DevCluster) -> None:
    job = _alone_on_a_node(site, cluster, 110)
    cluster.run("scontrol", "update", f"JobId={job.array()}_0", "EndTime=now+3seconds")
    verdict = job.wait(90)
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert verdict["attempts"] == 2


# ---- submission ------------------------------------------------------------------------------------------------------

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


@pytest.mark.parametrize("how", SBATCH)
def test_an_sbatch_that_cannot_be_believed(
    how: str, site: Site, cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the first sbatch did, one array and one merge run."""
    monkeypatch.setattr(slurm, "SUBMIT_DEADLINE_S", 2)
    monkeypatch.setattr(submission, "DOUBT_S", 1.0)
    job = start(site, cluster, 4, groups=2, environment={"PATH": shim(tmp_path, SBATCH[how], until=1)})
    names = Counter(job.queued("%j"))
    job.wait()
    job.assert_undisturbed()
    assert names[f"{job.prefix}.r0.w0"] <= 2, names
    assert names[f"{job.prefix}.r0.m"] <= 1, names
    assert job.tally()["calls"] == 4


def test_an_sbatch_that_always_times_out_and_accepts(
    site: Site, cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "DOUBT_S", 1.0)
    path = shim(tmp_path, SBATCH["accepts, then times out"], until=99)
    job = start(site, cluster, 4, groups=2, environment={"PATH": path})
    job.wait()
    job.assert_undisturbed()
    assert job.tally()["calls"] == 4


def test_an_sbatch_that_never_answers_leaves_a_job_that_resume_submits(
    site: Site, cluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "SUBMIT_DEADLINE_S", 1)
    monkeypatch.setattr(submission, "DOUBT_S", 0.5)
    path = shim(tmp_path, SBATCH["hangs"], until=99)
    with pytest.raises(SchedulerError, match="did not answer") as caught:
        start(site, cluster, 4, groups=2, job_name="mine", environment={"PATH": path})
    assert "hpcbatch job resume --name mine" in caught.value.hint
    job = Watched(site, cluster, "mine", next(iter(site.folder.glob("calls-*")), site.folder / "calls-1"), 4)
    assert job.status()[0] == "NotStarted"
    job.resume()
    job.wait()
    job.assert_undisturbed()


@at_once
def the_controller_is_stopped_while_it_is_asked(site: Site, _: DevCluster) -> None:
    """sbatch gives up, and the controller accepts all the same (measured)."""
    with own_cluster("--nodes", "1", "--no-accounting") as cluster:
        pid = int(cluster.control("pid", "slurmctld"))
        os.kill(pid, signal.SIGSTOP)
        threading.Timer(8, os.kill, (pid, signal.SIGCONT)).start()
        job = start(site, cluster, 4, groups=1)
        names = Counter(job.queued("%j"))
        job.wait()
        job.assert_undisturbed()
        assert names <= Counter({f"{job.prefix}.r0.w0": 1, f"{job.prefix}.r0.m": 1})
        assert job.tally()["calls"] == 4


@at_once
def the_controller_forgets_what_it_acknowledged(site: Site, _: DevCluster) -> None:
    """Killed before it saved its state, it gives the same job ids to others: they are not ours to touch."""
    with own_cluster("--nodes", "1", "--no-accounting") as cluster:
        # Its node is taken: what was begun and then forgotten would haunt Slurm for as long as it takes to notice.
        options = ("--partition=normal", "--exclusive", "--job-name=busy", f"--output={os.devnull}")
        busy = cluster.submit(*options, wrap="sleep 600")
        state = cluster.folder / "state" / "job_state"
        eventually(lambda: state.exists() and b"busy" in state.read_bytes())
        job = start(site, cluster, 12, groups=2)
        os.kill(int(cluster.control("pid", "slurmctld")), signal.SIGKILL)
        cluster.control("restart", "slurmctld")
        foreign = [cluster.submit("--hold", f"--output={os.devnull}", wrap="sleep 1") for _ in range(4)]
        for _ in range(3):  # as often as a person types it
            job.resume()
        cluster.run("scancel", busy)
        eventually(lambda: job.verdict() or job.do_as_told(), 90, 1.0)
        job.assert_undisturbed()
        assert job.tally()["calls"] == 12
        assert cluster.run("squeue", "-h", "-o", "%T", "-j", ",".join(foreign)).split() == ["PENDING"] * 4


@at_once
def more_groups_than_three_arrays_may_have(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 24, run_s=0.1, groups=12)
    assert [job.array(first=first) for first in (0, 5, 10)]
    job.wait()
    job.assert_undisturbed()
    assert job.tally()["calls"] == 24


@at_once
def a_round_is_submitted_twice_at_once(site: Site, cluster: DevCluster) -> None:
    """Also an array that surfaces late, under the same name: its tasks give way."""
    job = start(site, cluster, 12, groups=2)
    script = next(path for path in job.job.paths.slurm.glob("*.sh") if ".w0" in path.read_text())
    late = cluster.run("sbatch", "--parsable", script).strip()
    code = "from hpcbatch.rounds.submission import submit_round as s; from hpcbatch.jobdir.jobdir import open_job as o;"
    code += "import sys, pathlib; print(s(o(pathlib.Path(sys.argv[1])), 0))"
    command = [sys.executable, "-c", code, str(job.job.root)]
    for note in ("array-0.json", "merge.json"):
        (job.job.paths.round(0) / note).unlink()  # as if the first submission had died before it noted anything
    with speaking_to(cluster):
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        said = {process.communicate()[0] for process in both}
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=2)
    assert len(said) == 1, (said, late)


@at_once
def merges_at_once(site: Site, cluster: DevCluster) -> None:
    """All find something missing; one round is planned, one array and one merge submitted, one output published."""
    job = start(site, cluster, 40, groups=2)
    eventually(lambda: job.done() >= 8)
    assert kill(job.workers()[0])
    merge = next(path for path in job.job.paths.slurm.glob("*.sh") if "hpcbatch.merge" in path.read_text())
    for _ in range(3):
        cluster.run("sbatch", "--partition=normal", f"--dependency=afterany:{job.array()}", merge)
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=2)
    assert job.job.rounds() == [0, 1]
    eventually(lambda: not job.queued())


# ---- what waits for somebody -----------------------------------------------------------------------------------------


@at_once
def a_held_job_says_so_and_how_to_let_it_go(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 30, groups=1)
    eventually(lambda: job.done() >= 5)
    cluster.run("scontrol", "requeuehold", f"{job.array()}_0")
    eventually(lambda: job.status()[1].startswith("Held"), 20, 0.3)
    word, detail = job.status()
    assert (word, f"scontrol release {job.array()}" in detail) == ("Queued", True), detail
    cluster.run("scontrol", "release", job.array())
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)


@at_once
def a_held_merge_says_so(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 8, groups=1)
    merge = (job.job.document(job.job.paths.round(0) / "merge.json") or {})["slurm_job_id"]
    cluster.run("scontrol", "hold", merge)
    eventually(lambda: job.done() >= 1)
    for worker in job.workers():
        kill(worker)
    eventually(lambda: len(job.queued()) == 1)
    word, detail = job.status()
    assert "Held" in detail, (word, detail)
    assert f"scontrol release {merge}" in detail
    cluster.run("scontrol", "release", merge)
    job.wait()
    job.assert_undisturbed()


@at_once
def a_task_that_slurm_cannot_launch_is_no_hang(site: Site, cluster: DevCluster) -> None:
    """The folder of its standard output is gone: nothing of the job can run, and it says so."""
    cluster.run("scontrol", "create", "PartitionName=closed", "Nodes=ALL", "State=DOWN")
    job = start(site, cluster, 8, groups=1, compute="late")
    job.job.paths.slurm.rename(job.job.root / "moved")
    cluster.run("scontrol", "update", "PartitionName=closed", "State=UP")
    eventually(lambda: job.status()[0] == "NotResponding" or job.status()[1].startswith("Held"), 40, 0.5)
    word, detail = job.status()
    print(word, detail, job.queued())
    (job.job.root / "moved").rename(job.job.paths.slurm)
    job.resume()
    job.wait()
    job.assert_undisturbed()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_once(scenario: str, running: Mapping[str, Future[None]]) -> None:
    running[scenario].result(150)
