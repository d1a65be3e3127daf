"""Whatever is killed, and whenever: the same bytes, each mini-batch once, in the order of the files."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.operations import jobs
from hpcbatch.operations.invoke import invoke
from tests import processes
from tests.site import ENDPOINT, Site, echoed, eventually

SLOW_ECHO = """
import os, time

def run(mini_batch):
    time.sleep(0.02)
    return [os.path.basename(path) for path in mini_batch]
"""


def done(site: Site, name: str) -> int:
    return read_coverage(jobs.find_job(site.ws, name)).done


def test_workers_and_drivers_are_killed_at_random_moments(site: Site) -> None:
    """In as many jobs as it takes: on a busy machine one may be over before it was hit."""
    chance = random.Random(seed := random.randrange(1000))
    deployment = site.deploy(
        SLOW_ECHO, mini_batch_size=1, max_concurrency_per_instance=2, retry_settings={"max_retries": 10}
    )
    data = site.data(400)
    workers = drivers = 0
    while workers < 3 or drivers < 3:
        name = site.start(deployment, data, groups=4, instance_count=4)
        hits = hit_at_random(site, name, chance, until=330)
        workers, drivers = workers + hits[0], drivers + hits[1]
        ended = site.wait(name)
        assert ended.status == "Completed", ended
        assert ended.output == echoed(400), f"seed {seed}"


def hit_at_random(site: Site, name: str, chance: random.Random, until: int) -> tuple[int, int]:
    """Kill two workers and eight drivers of a job, or until it has finished *until* mini-batches; how many were killed.

    Not three workers: they may die of the same mini-batch, which is then given up.
    """
    root, workers, drivers = site.root(name), 0, 0
    while workers + drivers < 10 and not jobs.find_job(site.ws, name).verdict() and done(site, name) < until:
        if found := processes.of_job(root, processes.WORKER):
            worker = chance.choice(found)
            if chance.random() < 0.4:
                workers += workers < 2 and processes.kill(worker)
            elif below := processes.drivers_of(worker):
                drivers += drivers < 8 and processes.kill(chance.choice(below))
        time.sleep(chance.uniform(0.05, 0.3))
    return workers, drivers


def test_the_merge_is_killed_again_and_again(site: Site) -> None:
    """In as many jobs as it takes: a merge that is quick is over before it is hit."""
    deployment, data = site.deploy(mini_batch_size=10), site.data(2000)
    chance, kills = random.Random(3), 0
    while kills < 2:
        name = site.start(deployment, data, groups=2, instance_count=2)
        kills += _merge_killed(site, name, chance)
        ended = site.wait(name)
        assert ended.status == "Completed", ended
        assert ended.output == echoed(2000)
        published = {path.name for path in (site.root(name) / "out").iterdir() if not path.name.startswith(".tmp-")}
        assert published == {"predictions.csv", "_SUCCESS.json"}


def _merge_killed(site: Site, name: str, chance: random.Random) -> int:
    """Kill the merges of a job, four at most, and resume it where it stands still; how many were killed."""
    root, kills = site.root(name), 0
    deadline = time.monotonic() + 300
    while not jobs.find_job(site.ws, name).verdict():
        assert time.monotonic() < deadline, site.log(name)
        merges = processes.of_job(root, processes.MERGE)
        if kills < 4 and merges:
            time.sleep(chance.uniform(0, 0.07))
            kills += sum(processes.kill(pid) for pid in merges)
        elif not merges and jobs.show_job(site.ws, name)["status"] == "NotResponding":
            jobs.resume_job(site.ws, name)
        time.sleep(0.02)
    return kills


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_the_supervisor_is_killed_and_the_job_resumed(site: Site) -> None:
    go = site.folder / site.fresh("go")
    held = SLOW_ECHO.replace(
        "time.sleep(0.02)",
        f"""time.sleep(0.02)
    while mini_batch[0][-6:] >= "20.txt" and not os.path.exists({str(go)!r}):
        time.sleep(0.02)""",
    )
    deployment = site.deploy(held, mini_batch_size=1, retry_settings={"timeout": 600})
    name = site.start(deployment, site.data(60), groups=2, instance_count=2)
    root = site.root(name)
    eventually(lambda: done(site, name) > 5)
    (supervisor,) = processes.of_job(root, processes.SUPERVISOR)
    processes.kill(supervisor)
    eventually(lambda: not processes.of_job(root))
    go.touch()
    stalled = site.wait(name)
    assert (stalled.status, stalled.exit_code, stalled.output) == ("NotResponding", 8, None)
    assert "Stalled" in stalled.detail
    assert f"hpcbatch job resume --name {name}" in stalled.detail
    finished = done(site, name)
    jobs.resume_job(site.ws, name)
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(60))
    assert finished < 60


def test_invoke_is_killed_at_many_moments_and_run_again(site: Site) -> None:
    """One job each: no second array, no second supervisor, nothing left in the queue."""
    deployment = site.deploy(mini_batch_size=2)
    data = site.data(10)

    def killed_then_again(number: int) -> str:
        name = site.fresh("killed")
        command = [
            *(sys.executable, "-m", "hpcbatch", "batch-endpoint", "invoke", "-w", str(site.ws.root), "-n", ENDPOINT),
            *("-d", deployment, "--input", str(data), "--job-name", name, "-o", "none"),
        ]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
            time.sleep(0.05 * number)
            first.kill()
        again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert again.returncode == 0, again.stderr
        return name

    with ThreadPoolExecutor(2) as pool:
        names = list(pool.map(killed_then_again, range(15)))
    for name in names:
        ended = site.wait(name)
        assert (ended.status, ended.output) == ("Completed", echoed(10)), ended
        verdict = jobs.find_job(site.ws, name).verdict() or {}
        assert (verdict["attempts"], verdict["duplicates"]) == (1, 0), ended
        eventually(lambda name=name: not processes.of_job(site.root(name)))
    if site.compute != "local":
        slurm_names = {jobs.find_job(site.ws, name).record.slurm_name for name in names}
        eventually(lambda: not slurm_names & set(_queued()))


def _queued() -> list[str]:
    lines = subprocess.run(["squeue", "-h", "-o", "%j"], capture_output=True, text=True, check=True).stdout.split()
    return [line.partition(".")[0] for line in lines]


def test_the_same_invocation_many_times_at_once_is_one_job(site: Site) -> None:
    deployment, data = site.deploy(mini_batch_size=1), site.data(4)
    request = site.request(deployment, data, job_name=site.fresh("twice"))
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: invoke(site.ws, request), range(4)))
    assert len({answer["id"] for answer in answers}) == 1
    ended = site.wait(answers[0]["name"])
    assert (ended.status, ended.output) == ("Completed", echoed(4))
    verdict = jobs.find_job(site.ws, ended.job["name"]).verdict() or {}
    assert (verdict["attempts"], verdict["duplicates"]) == (1, 0), ended


def test_cancel_ends_everything(site: Site, tmp_path: Path) -> None:
    note = f"open({str(tmp_path)!r} + '/' + str(os.getpid()), 'w')"
    script = f"import os, time\ndef run(m):\n    {note}\n    time.sleep(600)\n"
    name = site.start(site.deploy(script, mini_batch_size=1), site.data(8), groups=4, instance_count=2)
    eventually(lambda: list(tmp_path.iterdir()))
    jobs.cancel_job(site.ws, name)
    ended = site.wait(name)
    assert (ended.status, ended.exit_code, ended.output) == ("Canceled", 5, None), ended
    eventually(lambda: not processes.of_job(site.root(name)))
    eventually(lambda: not any(processes.lives(int(pid.name)) for pid in tmp_path.iterdir()))
    assert jobs.cancel_job(site.ws, name)["status"] == "Canceled"
