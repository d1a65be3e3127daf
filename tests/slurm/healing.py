"""Scenarios: jobs that heal, and what they say meanwhile: twins, poison, nodes that may not submit, other shells."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbatch.operations import jobs
from hpcbatch.rounds.standing import recorded_ids
from tests.site import Site, eventually
from tests.slurm.at_once import at_once
from tests.slurm.watched import SCRIPT, Watched, node_of, own_cluster, speaking_to, start, take_the_nodes

if TYPE_CHECKING:
    from tests.conftest import DevCluster

# ---- preempted, and done before it is killed -------------------------------------------------------------------------


@at_once
def the_work_is_done_within_the_grace(site: Site, _: DevCluster) -> None:
    """The worker asks for its requeue, works on and finishes: whoever comes back finds nothing to do."""
    with own_cluster("--nodes", "1", "--grace", "30", "--set", "KillWait=30", "--no-accounting") as cluster:
        job = start(site, cluster, 20, groups=1, compute="spot", hold_after=8)
        eventually(lambda: job.done() >= 8)
        take_the_nodes(cluster, 1)
        eventually(lambda: "told to make room" in site.log(job.name))
        job.let_go()
        job.wait()
        job.assert_undisturbed()
        job.assert_each_ran_once()
        assert job.verdict()["attempts"] == 1
        eventually(lambda: not job.queued())


# ---- two live attempts -----------------------------------------------------------------------------------------------

DICE = SCRIPT.replace("    return names\n", '    return [f"{name} {os.urandom(8).hex()}" for name in names]\n')


def _cut_off(job: Watched, cluster: DevCluster, until: Callable[[], object]) -> None:
    """The slurmd of the job's only node stands still until *until*."""
    slurmd = int(cluster.control("pid", f"slurmd-{node_of(job)}"))
    os.kill(slurmd, signal.SIGSTOP)
    try:
        eventually(until, 400, 0.1)
    finally:
        os.kill(slurmd, signal.SIGCONT)


@at_once
def results_that_differ_are_counted(site: Site, cluster: DevCluster) -> None:
    """Two attempts of one group at work, of a script that throws dice: one result each, and the summary says that the
    others were different. In as many jobs as it takes: the first gives way up to 30 s after the second has begun.
    """
    verdict: Mapping[str, Any] = {"duplicates": 0}
    while verdict["duplicates"] < 2:
        job = start(site, cluster, 150, groups=1, compute="steps", script=DICE, hold_after=10)
        eventually(lambda job=job: job.done() >= 5)
        _cut_off(job, cluster, lambda job=job: job.twins_at_work(2) or job.verdict())
        verdict = job.wait()
        assert verdict["completed"], verdict
    assert verdict["duplicates"] == verdict["nondeterministic_duplicates"] >= 2, verdict
    rows = (site.output(job.name) or b"").decode().splitlines()
    assert [row.split()[0] for row in rows] == [f"{number:05d}.txt" for number in range(150)]


@at_once
def a_zombie_on_the_node_that_the_task_comes_back_to(site: Site, _: DevCluster) -> None:
    """The only node is given up, its worker lives on, and the node returns: the task runs there again."""
    with own_cluster("--nodes", "1", "--no-accounting") as cluster:
        job = start(site, cluster, 110, run_s=0.4, groups=1, compute="steps")
        eventually(lambda: job.done() >= 5)
        _cut_off(job, cluster, lambda: not any("RUNNING" in line for line in job.queued("%T")))
        # Slurm may fail to launch it beside its own remains. Then it holds the task, for which `job show` says what to
        # type, and drains the node, which an administrator returns.
        eventually(lambda: job.verdict() or job.do_as_told() or _return_the_node(cluster), 400, 0.5)
        job.assert_undisturbed()
        assert job.verdict()["nondeterministic_duplicates"] == 0


def _return_the_node(cluster: DevCluster) -> None:
    if cluster.run("sinfo", "-h", "-N", "-p", "normal", "-o", "%t").startswith("drain"):
        with suppress(AssertionError):  # it came back by itself
            cluster.run("scontrol", "update", "NodeName=n1", "State=RESUME")


# ---- what kills, what is cancelled -----------------------------------------------------------------------------------

POISON = """
import os, signal, time

def run(mini_batch):
    if mini_batch[0].endswith("00003.txt"):
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return [os.path.basename(path) for path in mini_batch]
"""


@at_once
def a_mini_batch_that_kills_every_worker_is_given_up(site: Site, cluster: DevCluster) -> None:
    """After three deaths, in as many rounds as it takes; the others are all there."""
    job = start(site, cluster, 8, groups=1, compute="dedicated", script=POISON)
    verdict = job.wait()
    assert (verdict["completed"], verdict["items_failed"], verdict["mini_batches_failed"]) == (True, 1, 1), verdict
    assert verdict["failures"][0]["kind"] == "poison"
    assert (site.output(job.name) or b"").split() == [b"%05d.txt" % n for n in range(8) if n != 3]


@at_once
def cancel_ends_every_window_the_merge_and_what_surfaces_late(site: Site, cluster: DevCluster) -> None:
    """And nothing else: an id that a note names may be another's by now."""
    job = start(site, cluster, 1000, groups=9, compute="dedicated", hold_after=10)
    eventually(lambda: job.done() >= 3)
    note = job.job.paths.round(0) / "array-5.json"
    foreign = cluster.submit("--hold", "--job-name=hb-foreign", f"--output={os.devnull}", wrap="true")
    script = next(p for p in job.job.paths.slurm.glob("*.sh") if ".w0-5" in p.read_text())
    cluster.run("sbatch", "--hold", script)
    told = json.loads(note.read_text())
    note.unlink()
    note.write_text(json.dumps(told | {"slurm_job_id": foreign}))  # as if Slurm had given the id away
    with speaking_to(cluster):
        jobs.cancel_job(site.ws, job.name)
    eventually(lambda: not job.queued())
    eventually(lambda: not job.workers())
    assert job.status()[0] == "Canceled"
    late = cluster.run("sbatch", "--parsable", "--dependency=", script).strip()
    begun = job.tally()["calls"]
    cluster.wait(late)
    assert (job.tally()["calls"], job.status()[0], site.output(job.name)) == (begun, "Canceled", None)
    assert cluster.run("squeue", "-h", "-o", "%T", "-j", foreign).split() == ["PENDING"]


# ---- the merge -------------------------------------------------------------------------------------------------------


@at_once
def a_compute_node_that_may_not_submit_says_so_and_resume_does_it(site: Site, cluster: DevCluster) -> None:
    program = site.folder / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "sbatch: error: Access/permission denied" >&2\nexit 1\n')
    program.chmod(0o755)
    setup = [f"export PATH={program.parent}:$PATH"]
    site.add_compute({"name": "mute", "type": "slurm", "partition": "preempt", "setup": setup})
    job = start(site, cluster, 200, groups=2, compute="mute", hold_after=8)
    eventually(lambda: job.done() >= 10)
    job.cancel_a_task()
    job.let_go()
    eventually(lambda: not job.queued())
    word, detail = job.status()
    assert word == "NotResponding"
    assert "could not submit round 1" in detail
    assert "Access/permission denied" in detail
    assert f"hpcbatch job resume --name {job.name}" in detail
    job.resume()
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=1)
    assert job.job.rounds() == [0, 1], "the round that was planned is the one that was submitted"


@at_once
def a_merge_that_comes_too_early_waits_for_what_is_alive(site: Site, cluster: DevCluster) -> None:
    job = start(site, cluster, 60, groups=2, hold_after=8)
    eventually(lambda: job.done() >= 10)
    merge = str((job.job.document(job.job.paths.round(0) / "merge.json") or {})["slurm_job_id"])
    cluster.run("scontrol", "update", f"JobId={merge}", "Dependency=")
    eventually(lambda: "r0/merge-1.json" in recorded_ids(job.job))
    job.let_go()
    job.wait()
    job.assert_undisturbed()
    job.assert_each_ran_once()
    assert job.job.rounds() == [0]


@at_once
def a_merge_that_was_cancelled_alone_has_a_successor_after_resume(site: Site, cluster: DevCluster) -> None:
    """While the array runs; without it a task that is lost would leave the job standing."""
    job = start(site, cluster, 200, groups=2, hold_after=8)
    eventually(lambda: job.done() >= 4)
    cluster.run("scancel", recorded_ids(job.job)["r0/merge.json"])
    eventually(lambda: "has left the queue" in job.status()[1], pause_s=0.3)
    assert f"hpcbatch job resume --name {job.name}" in job.status()[1]
    job.resume()
    job.resume()  # one is enough
    assert sorted(recorded_ids(job.job)) == ["r0/array-0.json", "r0/merge-1.json", "r0/merge.json"]
    job.cancel_a_task()
    job.let_go()
    job.wait()
    job.assert_undisturbed()
    assert job.job.rounds() == [0, 1]


@at_once
def one_round_too_many_stops_with_what_is_missing(site: Site, cluster: DevCluster) -> None:
    """Workers that end at once and leave nothing behind: after four rounds in vain the job says what is missing."""
    setup = ['case "$SLURM_JOB_NAME" in *.w*) exit 3;; esac']
    site.add_compute({"name": "barren", "type": "slurm", "setup": setup})
    job = start(site, cluster, 4, groups=1, compute="barren")
    verdict = job.wait()
    assert not verdict["completed"]
    assert "4 mini-batches have no result after" in verdict["reason"]
    assert "0-3" in verdict["reason"]


# ---- other shells ----------------------------------------------------------------------------------------------------


@at_once
def a_job_is_found_by_another_shell_from_its_files_alone(site: Site, cluster: DevCluster) -> None:
    """There is no accounting; the other shell knows the workspace and the cluster, and later only the workspace."""
    job = start(site, cluster, 300, groups=2, run_s=0.1, hold_after=8)
    eventually(lambda: job.done() >= 4)
    assert _shell(site, cluster.conf, "show", "-n", job.name)["status"] == "Running"
    listed = _shell(site, cluster.conf, "list", "--query", f"[?name=='{job.name}']")
    assert [one["status"] for one in listed] == ["Running"]
    job.let_go()
    job.wait()
    shown = _shell(site, None, "show", "-n", job.name)
    assert (shown["status"], shown["progress"]["items_succeeded"]) == ("Completed", 300)


def _shell(site: Site, conf: Path | None, *words: str) -> Any:
    """The answer of `hpcbatch job ...` in a shell that has nothing in its environment."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(site.folder), "HPCBATCH_WORKSPACE": str(site.ws.root)}
    command = [sys.executable, "-m", "hpcbatch", "job", *words, "-o", "json"]
    environment |= {"SLURM_CONF": str(conf)} if conf else {"SLURM_CONF": "/nowhere"}
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@at_once
def held_tasks_are_let_go_by_resume(site: Site, cluster: DevCluster) -> None:
    """Held at once by whoever; a whole array of them, and the merge."""
    cluster.run("scontrol", "create", "PartitionName=shut", "Nodes=ALL", "State=DOWN")
    site.add_compute({"name": "shut", "type": "slurm", "partition": "shut", "merge": {"partition": "normal"}})
    job = start(site, cluster, 12, groups=3, compute="shut")
    merge = str((job.job.document(job.job.paths.round(0) / "merge.json") or {})["slurm_job_id"])
    cluster.run("scontrol", "hold", job.array(), merge)
    eventually(lambda: job.status()[1].startswith("Held"))
    assert job.status()[0] == "Queued"
    cluster.run("scontrol", "update", "PartitionName=shut", "State=UP")
    job.resume()
    job.wait()
    job.assert_undisturbed()


@at_once
def a_controller_that_does_not_know_that_tasks_have_ended(site: Site, _: DevCluster) -> None:
    """Killed, it comes back with what it had saved: tasks run that are gone. `job show` says so, nobody has to wait."""
    with own_cluster("--nodes", "1", "--no-accounting") as cluster:
        job = start(site, cluster, 40, groups=2, compute="dedicated", hold_after=8)
        state = cluster.folder / "state" / "job_state"
        eventually(lambda: job.done() >= 4 and job.prefix.encode() in state.read_bytes())
        os.kill(int(cluster.control("pid", "slurmctld")), signal.SIGKILL)
        job.let_go()
        eventually(lambda: not job.workers())
        cluster.control("restart", "slurmctld")
        eventually(lambda: job.verdict() or job.do_as_told(), 400, 0.5)
        job.assert_undisturbed()
