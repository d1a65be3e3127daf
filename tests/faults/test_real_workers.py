"""Real worker processes: killed 300 times, with clocks that are years apart, and on disks that are too small."""

from __future__ import annotations

import glob
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs import probe
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir, open_job
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.merge.entry import merge_job
from hpcbatch.operations import invoke as invoking
from hpcbatch.operations import jobs
from tests.faults.finishing import attempt, check, finish
from tests.site import Site, echoed
from tests.unit.jobdir.sealed import Size, seal

pytestmark = pytest.mark.slow
KILLS, GROUPS, COUNT = 300, 2, 1200
QUICK = """
import os, time

def run(mini_batch):
    time.sleep(0.003)
    return [os.path.basename(path) for path in mini_batch]
"""
FAKETIME = glob.glob("/usr/lib/*/faketime/libfaketime.so.1")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Its jobs are sealed and not started: the tests are what starts the workers."""
    monkeypatch.setattr(invoking, "submit", lambda job, number: None)
    monkeypatch.setattr(probe, "visibility_timeout_s", lambda _: 0.0)
    return Site(tmp_path, "local").set_up()


def worker(job: JobDir, group: int, **variables: str) -> subprocess.Popen[bytes]:
    what = [str(job.root), job.sha256, str(job.rounds()[-1]), str(group)]
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", *what]
    environment = {**os.environ, **variables}
    with open(job.paths.slurm / f"{group}.out", "ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def merged(job: JobDir) -> int:
    command = [sys.executable, "-I", "-m", "hpcbatch.merge", str(job.root), job.sha256]
    return subprocess.run(command, check=False).returncode


def test_workers_that_are_killed_300_times_give_the_bytes_of_a_quiet_run(site: Site) -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    deployment = site.deploy(QUICK, mini_batch_size=1)
    data = site.data(COUNT)
    kills = rounds = 0
    while kills < KILLS:
        job = jobs.find_job(site.ws, site.start(deployment, data, groups=GROUPS))
        rounds += 1
        while kills < KILLS and read_coverage(job).done < COUNT * 0.8:
            running = [worker(job, group) for group in range(GROUPS)]
            _wait_a_little(job, chance)
            for process in running:
                process.kill()
                assert process.wait() in (-9, 0), (seed, site.log(job.record.name))
                kills += process.returncode == -9
        for process in [worker(job, group) for group in range(GROUPS)]:
            assert process.wait(600) == 0, (seed, site.log(job.record.name))
        merge_job(job)
        assert site.output(job.record.name) == echoed(COUNT), seed
        assert (job.verdict() or {})["duplicates"] == 0, seed
    print(f"seed {seed}: {kills} kills in {rounds} jobs")


def _wait_a_little(job: JobDir, chance: random.Random) -> None:
    """Into the start of the workers, or until they have finished some mini-batches more."""
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0, 0.3))
        return
    enough, deadline = read_coverage(job).done + chance.randint(1, 40), time.monotonic() + 5
    while read_coverage(job).done < enough and time.monotonic() < deadline:
        time.sleep(chance.uniform(0.001, 0.02))


def test_clocks_that_are_800_days_apart_change_nothing(site: Site) -> None:
    assert FAKETIME, "apt-get install faketime"
    job = jobs.find_job(site.ws, site.start(site.deploy(QUICK, mini_batch_size=1), site.data(200), groups=3))
    past, future = ({"LD_PRELOAD": FAKETIME[0], "FAKETIME": shift} for shift in ("-400d", "+400d"))
    first = worker(job, 0, **future)
    while read_coverage(job).done < 5:
        assert first.poll() is None
        time.sleep(0.01)
    first.kill()
    first.wait()
    for process in (worker(job, 0, **past), worker(job, 1, **past), worker(job, 2, **future)):
        assert process.wait(600) == 0, site.log(job.record.name)
    assert merged(job) == 0
    assert site.output(job.record.name) == echoed(200)
    shown = jobs.show_job(site.ws, job.record.name)
    assert shown["status"] == "Completed"
    stamps = [record.wall_ms for one in all_attempts(job.paths) for record in one.scan(job.record.uuid_bytes)]
    assert max(stamps) - min(stamps) > 799 * 86_400_000, "the clocks were apart"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Any]:
    """`mounted(bytes)`: a filesystem of that size; called again, the same one with another size."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def sized(size_bytes: int) -> Path:
        options = f"size={size_bytes},nr_inodes=500"
        if os.path.ismount(folder):
            options = f"remount,{options}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        return folder

    yield sized
    if os.path.ismount(folder):
        subprocess.run(["umount", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="mounting needs root")
def test_on_a_disk_of_any_size_up_to_4_mb_nothing_half_is_published_and_space_finishes_it(
    mounted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probe, "visibility_timeout_s", lambda _: 0.0)
    filler = bytes(range(256)) * 100
    monkeypatch.setattr("tests.faults.finishing.rows", lambda n: b"%d," % n + filler)
    monkeypatch.setattr("tests.faults.finishing.expected", lambda _: b"".join(b"%d," % n + filler for n in range(60)))
    reached = set()
    for size_bytes in range(4096, 4 << 20, 96 << 10):
        disk = mounted(size_bytes)
        how_far, words = "sealed", ""
        try:
            job = seal(disk / "job", Size(items=60, mini_batch_size=1, groups=1))
            how_far = "scored"
            for _ in attempt(job, 0, 0):
                pass
            how_far = "merged"
            merge_job(job)
            how_far = "all"
        except (OSError, HpcBatchError) as error:
            words = str(error)
        assert how_far == "all" or "No space left" in words
        reached.add(how_far)
        mounted(16 << 20)
        if not (disk / "job").exists():
            seal(disk / "job", Size(items=60, mini_batch_size=1, groups=1))
        job = open_job(disk / "job")
        check(job)
        finish(job)
        subprocess.run(["umount", disk], check=True)
    assert reached == {"sealed", "scored", "merged", "all"}
