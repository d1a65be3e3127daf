"""What a job costs the filesystem: counted, for the job as a whole and for each mini-batch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from hpcbatch.operations import invoke as invoking
from hpcbatch.operations import jobs
from hpcbatch.operations.invoke import invoke
from tests import processes
from tests.site import Site, echoed, eventually

METADATA = (
    "open,openat,openat2,creat,stat,lstat,newfstatat,statx,access,faccessat,faccessat2,readlink,rename,renameat,"
    "renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,symlink,chmod,fchmodat,truncate,ftruncate,getdents64"
)
GROUPS = 4


def test_a_finished_job_has_few_files_however_many_mini_batches(site: Site) -> None:
    deployment, data = site.deploy(mini_batch_size=1), site.data(300)
    ended = site.run(deployment, data, groups=GROUPS, instance_count=2)
    assert ended.output == echoed(300)
    root = site.root(ended.job["name"])
    eventually(lambda: not processes.of_job(root))  # what ends a job may still tidy up
    entries = [str(path.relative_to(root)) for path in root.rglob("*")]
    attempts = GROUPS
    assert ended.job["progress"]["attempts"] == attempts
    assert len(entries) <= 40 + GROUPS + 2 * attempts + 4 * GROUPS, entries
    assert not [name for name in entries if ".tmp-" in name]


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_no_file_is_opened_looked_up_or_renamed_for_a_mini_batch(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same worker and driver with ten times the mini-batches make the same calls, but for a few of the clock's."""
    if not shutil.which("strace"):
        pytest.skip("strace is not installed: apt-get install strace")
    monkeypatch.setattr(invoking, "submit", lambda job, round_number: None)
    few, many = (_metadata_calls(site, tmp_path, count) for count in (200, 2000))
    assert sum(few.values()) > 100, "nothing was counted"
    assert sum(many.values()) - sum(few.values()) <= 20, many - few  # some names are made of chance


def _metadata_calls(site: Site, tmp_path: Path, mini_batches: int) -> Counter[str]:
    """The calls of one worker with its driver, by name and the path's last part."""
    shown = invoke(site.ws, site.request(site.deploy(mini_batch_size=1), site.data(mini_batches)))
    job, trace = jobs.find_job(site.ws, shown["name"]), tmp_path / f"trace-{mini_batches}"
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", str(job.root), job.sha256, "0", "0"]
    tracer = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={METADATA}", "-e", "signal=none"]
    done = subprocess.run([*tracer, *command], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{mini_batches} mini-batches in this attempt" in done.stdout
    calls: Counter[str] = Counter()
    for line in trace.read_text("utf-8", "replace").splitlines():
        if match := re.match(r"\d+ +(\w+)\(", line):
            path = re.search(r'"([^"]*)"', line)
            calls[f"{match[1]} {os.path.basename(path[1]) if path else ''}"] += 1
    return calls
