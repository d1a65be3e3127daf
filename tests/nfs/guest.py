"""What holds on NFS between two clients that share no cache. Runs in the guest that test_over_nfs.py starts.

A client's processes see the workspace under the same path, /mnt/site, in a mount namespace of their own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SITE = Path("/mnt/site")
COUNT, GROUPS = 40, 2


class Client:
    """One NFS client; `here` is the site as this process, which is neither of them, sees it through that client."""

    def __init__(self, mount: Path) -> None:
        self.mount = mount

    def start(self, *command: str | Path, **variables: str) -> subprocess.Popen[str]:
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-euc"]
        words += [f'mount --bind {self.mount} {SITE}; exec "$@"', "sh", *map(str, command)]
        return subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **variables}
        )

    def python(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        return self.start(sys.executable, *arguments, **variables)

    def do(self, verb: str, *arguments: str) -> Any:
        """What a function of steps.py returns, called on this client."""
        return json.loads(said(self.python("-m", "tests.nfs.steps", verb, *arguments)).splitlines()[-1])

    def sealed(self, name: str, *settings: str, groups: int = 1) -> dict[str, str]:
        """A job that nobody has started."""
        self.do("deploy", name, str(COUNT), *settings)
        return dict(self.do("seal", name, str(groups)))

    def worker(self, job: dict[str, str], group: int) -> subprocess.Popen[str]:
        return self.python("-I", "-m", "hpcbatch.worker", job["root"], job["sha256"], "0", str(group))

    def merge(self, job: dict[str, str]) -> subprocess.Popen[str]:
        return self.python("-I", "-m", "hpcbatch.merge", job["root"], job["sha256"], "0")


def said(process: subprocess.Popen[str], *codes: int) -> str:
    text, _ = process.communicate(timeout=900)
    assert process.returncode in (codes or (0,)), text
    return text


Both = tuple[Client, Client]


@pytest.fixture(params=["v3", "v4"])
def clients(request: pytest.FixtureRequest) -> Both:
    return Client(Path(f"/mnt/{request.param}-A")), Client(Path(f"/mnt/{request.param}-B"))


@pytest.fixture
def newer() -> Both:
    return Client(Path("/mnt/v4-A")), Client(Path("/mnt/v4-B"))


def test_a_merge_at_once_after_the_last_worker_on_the_other_client_misses_nothing(clients: Both) -> None:
    one, other = clients
    job = one.sealed(f"last-{one.mount.name[:2]}", groups=GROUPS)
    # The other client has looked everywhere before anything was there: whatever it remembers is out of date.
    assert other.do("covered", job["name"]) == 0
    workers = [one.worker(job, group) for group in range(GROUPS)]
    watching = other.python("-m", "tests.nfs.steps", "watch", job["name"], str(COUNT))
    for worker in workers:
        said(worker)
    said(other.merge(job))
    said(watching)
    assert other.do("output", job["name"]) == one.do("output", job["name"]) == [f"{n:05d}.txt" for n in range(COUNT)]
    assert one.do("verdict", job["name"])["attempts"] == GROUPS, "no repair round was needed"


def test_twins_on_two_clients_and_two_merges_give_one_output(newer: Both) -> None:
    one, other = newer
    job = one.sealed("twins", "0.02")
    other.do("covered", job["name"])
    twins = [client.worker(job, 0) for client in (one, other, one)]
    for twin in twins:
        said(twin)
    merges = [client.merge(job) for client in (one, other, other, one)]
    for merge in merges:
        said(merge)
    assert one.do("output", job["name"]) == other.do("output", job["name"]) == [f"{n:05d}.txt" for n in range(COUNT)]


def test_writers_of_both_clients_lose_no_revision_and_tear_none(clients: Both) -> None:
    writers = [
        client.python("-m", "tests.nfs.steps", "revise", str(who), "10")
        for who, client in enumerate((clients[0], clients[1]) * 3)
    ]
    landed = [number for writer in writers for number in json.loads(said(writer).splitlines()[-1])]
    assert sorted(landed) == list(range(min(landed), min(landed) + 6 * 10)), "dense, and nobody's is lost"
    assert [client.do("revisions") for client in clients] == [max(landed)] * 2


def test_a_name_is_one_job_whoever_asks_first(newer: Both) -> None:
    one, other = newer
    name = one.do("deploy", "same", "4")
    assert one.do("found", name) == other.do("found", name) == []
    asked = [client.python("-m", "tests.nfs.steps", "seal", name, "1") for client in (one, other) * 2]
    found = [json.loads(said(process).splitlines()[-1]) for process in asked]
    assert len({each["sha256"] for each in found}) == 1
    assert other.do("found", name) == one.do("found", name) == [found[0]["root"]]


def test_a_full_filesystem_ends_a_worker_honestly_and_the_next_one_goes_on(newer: Both) -> None:
    one, other = newer
    job = one.sealed("full", "0", "200000")
    ballast = one.mount / "ballast"
    space = os.statvfs(one.mount)
    with open(ballast, "wb") as file:
        file.write(bytes(space.f_bavail * space.f_bsize - 3_000_000))
    text = said(one.worker(job, 0), 74, 75)
    assert "No space left" in text or "full" in text, text
    ballast.unlink()
    said(other.worker(job, 0))
    said(one.merge(job))
    assert one.do("output", job["name"]) == [f"{n:05d}.txt" + "x" * 200000 for n in range(COUNT)]
