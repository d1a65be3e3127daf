"""What a client does: `python -m tests.nfs.steps VERB ARGUMENT...` prints JSON."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from hpcbatch.errors import NotFound
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.operations import invoke, jobs
from hpcbatch.operations.workspace import Workspace
from tests.site import Site

SITE = Path("/mnt/site")
SCRIPT = """
import os, time

def run(mini_batch):
    time.sleep(float(os.environ["RUN_S"]))
    return [os.path.basename(path) + "x" * int(os.environ["FILL"]) for path in mini_batch]
"""


def deploy(name: str, count: str, run_s: str = "0", fill: str = "0") -> str:
    """A deployment and its data."""
    site = Site(SITE / "work", "local")
    site.folder.mkdir(exist_ok=True)
    data = SITE / f"data-{name}"
    data.mkdir()
    for number in range(int(count)):
        (data / f"{number:05d}.txt").write_text(str(number))
    settings = {"mini_batch_size": 1, "environment_variables": {"RUN_S": run_s, "FILL": fill}}
    return site.set_up().deploy(SCRIPT, name=name, extra={"settings": settings})


def seal(name: str, groups: str) -> dict[str, str]:
    """A job of the deployment of that name, and under that name, that nobody has started."""
    invoke.submit = lambda job, number: None
    site = Site(SITE / "work", "local")
    request = site.request(name, SITE / f"data-{name}", job_name=name, groups=int(groups))
    job = jobs.find_job(site.ws, invoke.invoke(site.ws, request)["name"])
    return {"name": job.record.name, "root": str(job.root), "sha256": job.sha256}


def covered(name: str) -> int:
    """How many mini-batches this client sees finished."""
    return read_coverage(jobs.find_job(_ws(), name)).done


def watch(name: str, count: str) -> int:
    """Look at the job again and again until all is finished; never more is seen than less was before."""
    seen = looks = 0
    until = time.monotonic() + 600
    while seen < int(count):
        now = covered(name)
        assert now >= seen, (now, seen)
        seen, looks = now, looks + 1
        assert time.monotonic() < until, seen
        time.sleep(0.1)
    return looks


def output(name: str) -> list[str]:
    """The lines of the published output."""
    verdict: Any = jobs.find_job(_ws(), name).verdict()
    return Path(verdict["output"]["path"]).read_text().splitlines()


def verdict(name: str) -> Any:
    """How the job ended."""
    return dict(jobs.find_job(_ws(), name).verdict() or {})


def found(name: str) -> list[str]:
    """The job directory of a name, if there is one."""
    try:
        return [str(jobs.find_job(_ws(), name).root)]
    except NotFound:
        return []


def revise(who: str, times: str) -> list[int]:
    """Append revisions to one stream, each based on the latest; their numbers."""
    stream = _ws().registry.stream("endpoint", "contended")
    return [
        stream.update(lambda old, n=number: {**(old or {}), f"{who}-{n}": n}, "update").number
        for number in range(int(times))
    ]


def revisions() -> int:
    """The number of the newest revision; every one before it is whole, and nobody's words are lost."""
    found = list(_ws().registry.stream("endpoint", "contended").revisions())
    assert [each.number for each in found] == list(range(len(found), 0, -1))
    assert len(found[0].document or {}) == 60
    return found[0].number


def _ws() -> Workspace:
    return Site(SITE / "work", "local").ws


VERBS = (deploy, seal, covered, watch, output, verdict, found, revise, revisions)

if __name__ == "__main__":
    chosen: Any = {verb.__name__: verb for verb in VERBS}[sys.argv[1]]
    print(json.dumps(chosen(*sys.argv[2:])))
