"""Jobs on a real Slurm: requeue, preemption, cancelled tasks, refusals, and how often Slurm is asked."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.operations import jobs
from hpcbatch.operations.invoke import invoke
from hpcbatch.records.ledger import Kind
from hpcbatch.rounds.standing import recorded_ids
from tests.processes import WORKER, lives, of_job, only_below
from tests.site import Site, echoed, eventually

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm

COMPUTES: tuple[dict[str, Any], ...] = (
    {"name": "slurm", "type": "slurm"},
    {"name": "spot", "type": "slurm", "low_priority_partition": "preempt", "tier": "low_priority"},
    {"name": "narrow", "type": "slurm", "max_array_tasks": 4},
    {"name": "nowhere", "type": "slurm", "partition": "no-such-partition"},
)
COUNTED = """
import os, time

worker, ended = os.getppid(), 0

def run(mini_batch):
    global ended
    names = [os.path.basename(path) for path in mini_batch]
    with open(os.environ["CALLS"], "a") as calls:
        calls.write(names[0] + "\\n")
    time.sleep(0.05)
    while ended >= 20 and not os.path.exists(os.environ["CALLS"] + "-go"):
        if os.getppid() != worker:
            os._exit(1)
        time.sleep(0.02)
    ended += 1
    return names
"""


@pytest.fixture
def cluster(devcluster: DevCluster, monkeypatch: pytest.MonkeyPatch) -> DevCluster:
    monkeypatch.setenv("SLURM_CONF", str(devcluster.conf))
    return devcluster


@pytest.fixture
def site(cluster: DevCluster, tmp_path: Path) -> Site:
    return Site(tmp_path, "slurm").set_up(*COMPUTES)


def counted(site: Site, **more: Any) -> tuple[str, Path]:
    """A deployment of COUNTED, and the file with its calls. After 20 mini-batches a driver waits for `let_go`: what the
    test does meanwhile comes before the end of the job, however slow the machine is.
    """
    calls = site.folder / site.fresh("calls")
    deployment = site.deploy(
        COUNTED, mini_batch_size=1, environment_variables={"CALLS": str(calls)}, retry_settings={"timeout": 600}, **more
    )  # fmt: skip
    return deployment, calls


def let_go(calls: Path) -> None:
    Path(f"{calls}-go").touch()


def killed(cluster: DevCluster, site: Site, name: str, workers: list[int]) -> None:
    """Wait until these workers of the job are gone: until SIGKILL they work on."""
    assert workers, (cluster.run("squeue"), site.log(name))
    eventually(lambda: not any(map(lives, workers)))


def assert_only_unfinished_ones_ran_again(site: Site, name: str, calls: Path, *, kills: int) -> None:
    """No mini-batch ran again after its COMMIT, and of each killed worker at most the two that were in its driver."""
    job = jobs.find_job(site.ws, name)
    again = {call for call, count in Counter(calls.read_text().split()).items() if count > 1}
    assert len(again) <= 2 * kills, again
    committed = Counter(
        record.mini_batch
        for attempt in all_attempts(job.paths)
        for record in attempt.scan(job.record.uuid_bytes)
        if record.kind == Kind.COMMIT
    )
    assert set(committed.values()) == {1}


def array_of(site: Site, name: str) -> str:
    job = jobs.find_job(site.ws, name)
    return str((job.document(job.paths.round(0) / "array-0.json") or {})["slurm_job_id"])


def at_work(site: Site, name: str, each: int) -> bool:
    """Whether every group has finished this many mini-batches: one that has not begun would hear of nothing."""
    job = jobs.find_job(site.ws, name)
    finished = Counter(
        attempt.group
        for attempt in all_attempts(job.paths)
        for record in attempt.scan(job.record.uuid_bytes)
        if record.kind == Kind.COMMIT
    )
    return len(finished) == job.record.groups and min(finished.values()) >= each


def test_a_requeued_task_runs_no_finished_mini_batch_again(site: Site, cluster: DevCluster) -> None:
    """It works on for the seconds until SIGKILL (KillWait), and then goes on where it stopped."""
    deployment, calls = counted(site)
    name = site.start(deployment, site.data(60), groups=1)
    eventually(lambda: at_work(site, name, 10))
    workers = of_job(site.root(name), WORKER)
    cluster.run("scontrol", "requeue", f"{array_of(site, name)}_0")
    killed(cluster, site, name, workers)
    let_go(calls)
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(60)), ended
    assert_only_unfinished_ones_ran_again(site, name, calls, kills=1)
    verdict = jobs.find_job(site.ws, name).verdict() or {}
    assert (verdict["attempts"], verdict["duplicates"], verdict["preemptions_noticed"]) == (2, 0, 1)


@pytest.mark.parametrize("grace", [0, 2])
def test_preempted_tasks_go_on_where_they_stopped(
    grace: int,
    site: Site,
    cluster: DevCluster,
    more_devclusters: Callable[..., DevCluster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = more_devclusters("--grace", str(grace), "--no-accounting", "--nodes", "2") if grace else cluster
    monkeypatch.setenv("SLURM_CONF", str(where.conf))
    deployment, calls = counted(site, compute="spot", instances=2)
    name = site.start(deployment, site.data(120), groups=2)
    eventually(lambda: at_work(site, name, 10))
    array = array_of(site, name)
    assert set(where.run("squeue", "-h", "-j", array, "-o", "%P").split()) == {"preempt"}
    workers = of_job(site.root(name), WORKER)
    nodes = len(where.run("sinfo", "-h", "-N", "-p", "normal").splitlines())
    where.submit("--partition=normal", f"--nodes={nodes}", "--exclusive", "--output=/dev/null", wrap="sleep 1")
    killed(where, site, name, workers)
    let_go(calls)
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(120)), ended
    verdict = jobs.find_job(site.ws, name).verdict() or {}
    assert verdict["attempts"] >= 4, ended  # tests beside this one may want the nodes, too
    assert verdict["preemptions_noticed"] >= 2
    assert ended.log.count("told to make room") >= 2
    assert_only_unfinished_ones_ran_again(site, name, calls, kills=verdict["attempts"] - 2)


def test_a_task_cancelled_by_hand_is_made_up_for_in_the_next_round(site: Site, cluster: DevCluster) -> None:
    deployment, calls = counted(site)
    name = site.start(deployment, site.data(60), groups=2, instance_count=2)
    eventually(lambda: at_work(site, name, 7))
    task = f"{array_of(site, name)}_1"
    cluster.run("scancel", task)
    eventually(lambda: task not in cluster.run("squeue", "-h", "-r", "-o", "%i").split())
    let_go(calls)
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(60)), ended
    assert_only_unfinished_ones_ran_again(site, name, calls, kills=1)


def test_a_job_that_vanished_from_the_queue_is_stalled_and_goes_on(site: Site, cluster: DevCluster) -> None:
    """The workers use the seconds until SIGKILL (KillWait); what is left after them waits for `job resume`."""
    deployment, calls = counted(site)
    name = site.start(deployment, site.data(120), groups=2, instance_count=2)
    eventually(lambda: at_work(site, name, 7))
    workers = of_job(site.root(name), WORKER)
    cluster.run("scancel", *set(recorded_ids(jobs.find_job(site.ws, name)).values()))
    killed(cluster, site, name, workers)
    let_go(calls)
    stalled = site.wait(name)
    assert (stalled.status, stalled.exit_code, stalled.output) == ("NotResponding", 8, None), stalled
    assert f"hpcbatch job resume --name {name}" in stalled.detail
    jobs.resume_job(site.ws, name)
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(120)), ended
    assert_only_unfinished_ones_ran_again(site, name, calls, kills=2)


def test_more_groups_than_one_array_may_have(site: Site) -> None:
    ended = site.run(site.deploy(mini_batch_size=1, compute="narrow", instances=8), site.data(9), groups=6)
    assert (ended.status, ended.output) == ("Completed", echoed(9)), ended
    root = site.root(ended.job["name"])
    assert sorted(path.name for path in (root / "rounds" / "r0").glob("array-*")) == ["array-0.json", "array-4.json"]


def test_slurm_refuses_and_nothing_is_left_behind(site: Site, cluster: DevCluster) -> None:
    deployment, data = site.deploy(compute="nowhere"), site.data(2)
    with pytest.raises(SchedulerError, match="invalid partition") as caught:
        site.start(deployment, data)
    assert caught.value.exit_code == 4
    assert "hpcbatch compute show" in caught.value.hint
    assert not list(site.ws.jobs.glob("*/*"))


def test_slurm_is_asked_a_handful_of_times(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a PATH in which every client command is written down."""
    log, shims = tmp_path / "asked", tmp_path / "shims"
    shims.mkdir()
    for command in ("sbatch", "squeue", "sacct", "scontrol", "scancel", "sinfo", "sacctmgr", "srun"):
        real = shutil.which(command)
        noted = only_below(os.getpid(), f'echo "{command} $*" >>{log}')
        (shims / command).write_text(f'#!/bin/sh\n{noted}exec {real} "$@"\n')
        (shims / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{shims}{os.pathsep}{os.environ['PATH']}")
    deployment, data = site.deploy(mini_batch_size=1), site.data(50)

    def asked() -> list[str]:
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    name = invoke(site.ws, site.request(deployment, data, groups=5, instance_count=2))["name"]
    assert 3 <= len(by_invoke := asked()) <= 6, by_invoke
    jobs.show_job(site.ws, name)
    assert 1 <= len(by_show := asked()) <= 2, by_show
    assert site.wait(name).output == echoed(50)
    asked()
    jobs.show_job(site.ws, name)
    assert asked() == [], "a finished job needs no Slurm"


def test_no_secret_of_the_shell_reaches_the_job_or_the_controllers_disk(
    site: Site, cluster: DevCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell-anybody")
    go = site.folder / "looked"
    dump = (
        f"import os, time\n\ndef run(m):\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.05)\n"
        "    return [f'{k}={v}' for k, v in os.environ.items()]\n"
    )
    name = site.start(site.deploy(dump, retry_settings={"timeout": 600}), site.data(1))
    environment = f"hash.*/job.{array_of(site, name)}/environment"
    queued = cluster.run("scontrol", "show", "job", "--details", array_of(site, name))
    kept = [path.read_bytes() for path in (cluster.folder / "state").glob(environment)]
    go.touch()
    output = site.wait(name).output or b""
    eventually(lambda: not of_job(site.root(name)))  # what ends a job may still tidy up
    everything = [path.read_bytes() for path in site.root(name).rglob("*") if path.is_file()]
    assert kept
    assert b"AZUREML_BI_OUTPUT_PATH=" in output
    assert not [text for text in (queued.encode(), output, *kept, *everything) if b"do-not-tell" in text]
