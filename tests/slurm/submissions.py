"""Scenarios: submissions that nobody can be sure of, and rounds and merges that are submitted more than once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from hpcbatch.operations import invoke as invocation
from tests.processes import kill
from tests.site import Site, eventually
from tests.slurm.at_once import at_once
from tests.slurm.watched import Watched, own_cluster, speaking_to, start

if TYPE_CHECKING:
    from tests.conftest import DevCluster


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
        assert names <= Counter({f"{job.prefix}.r0.w0-1": 1, f"{job.prefix}.r0.m": 1})
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
        eventually(lambda: job.verdict() or job.do_as_told(), 400, 1.0)
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
    """By three who know nothing of each other, with an array that surfaces late under the same name: one array works,
    whichever of them starts first, and of the others not one task.
    """
    job = _not_submitted(site, cluster)
    code = "from hpcbatch.rounds.submission import submit_round as s; from hpcbatch.jobdir.jobdir import open_job as o;"
    code += "import sys, pathlib; print(s(o(pathlib.Path(sys.argv[1])), 0))"
    command = [sys.executable, "-c", code, str(job.job.root)]
    with speaking_to(cluster):
        both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        script = site.folder / "late.sh"
        script.write_text(eventually(lambda: _script_of_the_array(job)))
        late = cluster.run("sbatch", "--parsable", script).strip()
        said = {process.communicate(timeout=300)[0] for process in both}
    job.wait()
    job.assert_undisturbed()
    job.assert_each_ran_once()
    assert len(said) == 1, (said, late)


def _script_of_the_array(job: Watched) -> str:
    """What is given to sbatch, as soon as it is there; each file of it gets another name when sbatch has answered."""
    for path in job.job.paths.slurm.glob("*.sh"):
        with suppress(FileNotFoundError):
            if ".w0-2" in (found := path.read_text()):
                return found
    return ""


@at_once
def an_array_task_starts_before_its_submitter_has_noted_it(site: Site, cluster: DevCluster) -> None:
    """Of two arrays the one that works notes itself, and who submitted the other goes by that."""
    job = _not_submitted(site, cluster)
    with speaking_to(cluster):
        command = [sys.executable, "-c", SLOW_SUBMITTER, str(job.job.root)]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout.split()
    noted = (job.job.document(job.job.paths.round(0) / "array-0.json") or {})["slurm_job_id"]
    assert said == ["held:", said[1], "kept:", noted]
    assert noted != said[1]
    job.wait()
    job.assert_undisturbed()
    job.assert_each_ran_once()


# It stands still between sbatch and its note until an array of the same name, submitted by somebody else, is at work.
SLOW_SUBMITTER = """
import dataclasses, pathlib, subprocess, sys, time
from hpcbatch.jobdir import jobdir
from hpcbatch.rounds.submission import submit_round
from hpcbatch.scheduler.slurm import SlurmScheduler

job = jobdir.open_job(pathlib.Path(sys.argv[1]))
real = jobdir.publish_document

def sleeping(path, document):
    if path.name == "array-0.json":
        script = next(p for p in job.paths.slurm.glob("*.sh") if ".w0-2" in p.read_text())
        script.with_suffix(".late").write_text(script.read_text().replace("#SBATCH --hold", "#"))
        subprocess.run(["sbatch", script.with_suffix(".late")], check=True, stdout=subprocess.DEVNULL)
        print("held:", document["slurm_job_id"])
        while not path.exists():
            time.sleep(0.05)
    return real(path, document)

def held(self, request, submit=SlurmScheduler.submit):
    return submit(self, dataclasses.replace(request, hold=request.count is not None))

jobdir.publish_document = sleeping
SlurmScheduler.submit = held
print("kept:", *submit_round(job, 0).arrays)
"""


def _not_submitted(site: Site, cluster: DevCluster) -> Watched:
    """A job whose invocation was killed just before it spoke to Slurm."""
    with speaking_to(cluster), pytest.MonkeyPatch.context() as patch:  # the lock that this takes keeps others out
        patch.setattr(invocation, "submit", lambda job, round_number: None)
        return start(site, cluster, 12, groups=2)


@at_once
def merges_at_once(site: Site, cluster: DevCluster) -> None:
    """All find something missing; one round is planned, one array and one merge submitted, one output published."""
    job = start(site, cluster, 40, groups=2, hold_after=6)
    eventually(lambda: job.done() >= 8)
    assert kill(job.workers()[0])
    merge = next(path for path in job.job.paths.slurm.glob("*.sh") if "hpcbatch.merge" in path.read_text())
    for _ in range(3):
        cluster.run("sbatch", "--partition=normal", f"--dependency=afterany:{job.array()}", merge)
    job.let_go()
    job.wait()
    job.assert_undisturbed()
    job.assert_nothing_finished_ran_again(kills=2)
    assert job.job.rounds() == [0, 1]
    eventually(lambda: not job.queued())
