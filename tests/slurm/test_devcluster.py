"""The development cluster itself: it is real, private, quick, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.conftest import DevCluster

    More = Callable[..., DevCluster]
    Eventually = Callable[..., None]

pytestmark = pytest.mark.slurm

WHOLE_NODE = "--cpus-per-task=4"


def mentions(text: str) -> list[str]:
    """The command lines of all processes that have a text in their arguments or environment, except ours."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            everything = command + (entry / "environ").read_bytes().decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if text in everything and int(entry.name) not in (os.getpid(), os.getppid()):
            found.append(command)
    return found


def stamps(path: Path, word: str) -> list[float]:
    """The times that a job wrote behind a word; a line without its end is still being written.

    The shell's own clock, never `$(date)`: a kill that hits `date` before the shell leaves a word without a time.
    """
    lines = path.read_text().rpartition("\n")[0].splitlines() if path.exists() else []
    return [float(line.split()[1]) for line in lines if line.startswith(word + " ")]


def test_an_array_runs_on_all_four_nodes_and_sacct_tells(
    devcluster: DevCluster, tmp_path: Path, eventually: Eventually
) -> None:
    """No task ends before all have begun: else two of them could run on one node."""
    begun = f"touch {tmp_path}/begun-$SLURM_ARRAY_TASK_ID; "
    begun += f"until [ $(ls {tmp_path}/begun-* | wc -l) = 4 ]; do sleep 0.1; done"
    job = devcluster.submit(
        "--array=0-3", WHOLE_NODE, f"--output={tmp_path}/%a", wrap=f"srun printenv SLURMD_NODENAME; {begun}"
    )
    devcluster.wait(job)
    assert sorted((tmp_path / str(i)).read_text() for i in range(4)) == [f"n{i}\n" for i in range(1, 5)]

    def accounted() -> bool:
        return devcluster.run("sacct", "-X", "-n", "-P", "-j", job, "-o", "State").split() == ["COMPLETED"] * 4

    eventually(accounted)


LOW = """
say() { echo "$1 $EPOCHREALTIME" >>LOG; }
say start
trap 'say term; [ GRACE = 0 ] || scontrol requeue incomplete "$SLURM_JOB_ID"' TERM
while :; do sleep 0.1; say alive; done
"""


@pytest.mark.parametrize("grace", [0, 2])
def test_a_preempted_job_hears_of_it_and_runs_again(
    grace: int, devcluster: DevCluster, more_devclusters: More, tmp_path: Path, eventually: Eventually
) -> None:
    """With a grace time the job asks for the requeue itself, as Slurm before 24.05 wants it, and works on meanwhile."""
    cluster = more_devclusters("--grace", "2", "--no-accounting") if grace else devcluster
    log, script = tmp_path / "log", tmp_path / "low.sh"
    script.write_text(LOW.replace("LOG", str(log)).replace("GRACE", str(grace)))
    node = ("--nodelist=n2", WHOLE_NODE, f"--output={tmp_path}/%j")
    low = cluster.submit("--partition=preempt", *node, wrap=f"srun bash {script}")
    eventually(lambda: stamps(log, "alive"))
    asked = time.time()
    high = cluster.submit("--partition=normal", *node, wrap="true")
    eventually(lambda: len(stamps(log, "start")) >= 2)
    assert int(cluster.run("squeue", "-h", "-j", low, "-O", "RestartCnt")) >= 1
    again = stamps(log, "start")[1]
    heard = min(stamps(log, "term"))
    lived = max(stamp for stamp in stamps(log, "alive") if stamp < again)
    print(
        f"grace {grace}: heard after {heard - asked:.1f} s, lived {lived - heard:.1f} s, again at {again - asked:.1f} s"
    )
    assert heard - asked < 90, "not only at the end of a time limit"
    assert lived - heard >= grace
    cluster.run("scancel", low, high)


def test_up_again_changes_nothing_and_refuses_other_options(devcluster: DevCluster) -> None:
    before = devcluster.control("status")
    answer = devcluster.control("up")
    assert answer == f"export SLURM_CONF={devcluster.conf}\n"
    assert devcluster.control("status") == before
    with pytest.raises(RuntimeError, match=r"other options \(grace\).*devcluster down --dir"):
        devcluster.control("up", "--grace", "7")


def test_slurmctld_killed_and_restarted_keeps_its_jobs(
    more_devclusters: More, tmp_path: Path, eventually: Eventually
) -> None:
    cluster = more_devclusters("--nodes", "1", "--no-accounting")
    job = cluster.submit("--hold", "--job-name=survivor", f"--output={tmp_path}/out", wrap="echo survived")
    saved = cluster.folder / "state" / "job_state"
    eventually(lambda: saved.exists() and b"survivor" in saved.read_bytes())
    pid = int(cluster.control("pid", "slurmctld"))
    os.kill(pid, 9)
    cluster.control("restart", "slurmctld")
    assert int(cluster.control("pid", "slurmctld")) != pid
    cluster.run("scontrol", "release", job)
    cluster.wait(job)
    assert (tmp_path / "out").read_text() == "survived\n"


def test_another_user_submits_too(devcluster: DevCluster) -> None:
    with TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        job = devcluster.run("sbatch", "--parsable", f"--output={folder}/out", "--wrap=srun id -u", user="nobody")
        devcluster.wait(job.strip())
        assert Path(folder, "out").read_text() == "65534\n"


SLEEPS = f"{os.getpid()}8700"  # seconds; nobody else on this machine sleeps for as long


def test_two_start_at_once_and_end_without_a_trace(
    more_devclusters: More, tmp_path: Path, eventually: Eventually
) -> None:
    """Also jobs that left their session and dropped their environment are gone, and the other cluster lives on."""
    with ThreadPoolExecutor() as pool:
        one, two = pool.map(lambda _: more_devclusters("--nodes", "2"), range(2))
    for cluster, name in ((one, "one"), (two, "two")):
        ready = tmp_path / name
        forks = f"setsid sleep {SLEEPS}1 & env -i setsid sleep {SLEEPS}2 & touch {ready}; wait"
        cluster.submit(f"--output={os.devnull}", f"--comment={name}", wrap=f"srun bash -c '{forks}'")
        eventually(ready.exists)
    one.down()
    assert not one.folder.exists()
    assert mentions(str(one.folder)) == []
    assert [one for one in mentions(f"sleep {SLEEPS}2") if one.startswith("sleep")] == [f"sleep {SLEEPS}2 "]
    assert two.run("squeue", "-h", "-t", "R", "-o", "%N").split() == ["n1"]
    two.down()
    assert mentions(str(two.folder)) == []
    assert mentions(f"sleep {SLEEPS}") == []


def test_down_leaves_a_process_alone_that_inherited_a_pid(more_devclusters: More) -> None:
    cluster = more_devclusters("--nodes", "1", "--no-accounting")
    cluster.control("stop", "slurmctld")
    with subprocess.Popen(["sleep", "60"]) as bystander:
        record = cluster.folder / "pids" / "slurmctld"
        record.write_text(f'{{"pid": {bystander.pid}, "started": "1", "program": "sleep"}}')
        cluster.down()
        assert bystander.poll() is None
        bystander.kill()


def test_a_folder_too_long_for_sockets_and_options_of_slurm_conf(more_devclusters: More) -> None:
    options = (
        "--nodes",
        "1",
        "--no-accounting",
        "--max-array-size",
        "11",
        "--preempt-mode",
        "CANCEL",
        "--set",
        "KillWait=6",
    )
    cluster = more_devclusters(*options, inside="x" * 120)
    settings = dict(re.findall(r"^(\w+) *= (.*)$", cluster.run("scontrol", "show", "config"), re.MULTILINE))
    assert (settings["MaxArraySize"], settings["PreemptMode"], settings["KillWait"]) == ("11", "CANCEL", "6 sec")
    cluster.run("srun", "true")


def test_a_daemon_that_cannot_start_is_explained_and_takes_the_others_along(more_devclusters: More) -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"slurmctld (ended while it started|is not ready)(.|\n)*no-such-plugin"
    ):
        more_devclusters(
            "--nodes", "1", "--no-accounting", "--set", "SelectType=select/no-such-plugin", inside=f"marked-{SLEEPS}"
        )
    assert mentions(f"marked-{SLEEPS}") == []


def test_a_folder_with_other_files_is_refused(control: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RuntimeError, match="holds other files; name a new or empty folder"):
        control("up", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]
