"""No space and no permission: an honest state, a sentence that says what to do, nothing lost."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from hpcbatch.errors import FilesystemError, HpcBatchError
from hpcbatch.operations import jobs
from hpcbatch.operations.invoke import invoke
from tests.site import Site

BIG_ROWS = """
import os

def run(mini_batch):
    return [os.path.basename(path) * 1000 for path in mini_batch]
"""


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A filesystem of 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small filesystem needs root")
    folder = Path(mkdtemp(prefix="hpcbatch-small-"))
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m,mode=0755", "none", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        folder.rmdir()


def test_a_full_disk_stops_the_job_and_space_lets_it_finish(site: Site, small_disk: Path) -> None:
    computes = [{"name": "slurm", "type": "slurm"}] if site.compute != "local" else []
    here = Site(small_disk, site.compute).set_up(*computes)
    deployment = here.deploy(BIG_ROWS, mini_batch_size=1)
    data = site.data(300)
    name = here.start(deployment, data, groups=2, instance_count=2)
    stopped = here.wait(name)
    assert (stopped.status, stopped.exit_code, stopped.output) == ("NotResponding", 8, None), stopped
    assert "full" in stopped.detail, stopped
    assert f"hpcbatch job resume --name {name}" in stopped.detail
    finished = stopped.job["progress"]["mini_batches_done"]
    assert 0 < finished < 300

    subprocess.run(["mount", "-o", "remount,size=50m", small_disk], check=True)
    jobs.resume_job(here.ws, name)
    ended = here.wait(name)
    assert ended.status == "Completed", ended
    assert ended.output == b"".join(b"%05d.txt" % number * 1000 + b"\n" for number in range(300))
    verdict = jobs.find_job(here.ws, name).verdict() or {}
    assert verdict["duplicates"] == 0


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_disk_too_full_to_start_refuses_at_once(site: Site, small_disk: Path) -> None:
    here = Site(small_disk, "local").set_up()
    deployment, data = here.deploy(), site.data(3)
    with suppress(OSError), open(small_disk / "ballast", "wb", buffering=0) as ballast:
        while ballast.write(bytes(4096)):
            pass
    with pytest.raises(FilesystemError, match="No space left") as caught:
        here.start(deployment, data)
    assert caught.value.exit_code == 7
    assert "df -h" in caught.value.hint
    assert not list(here.ws.jobs.glob("*/*"))


def as_nobody(call: Callable[[], Any]) -> str:
    """What *call* raises, as `exit code: words`, when an ordinary user makes it."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            call()
            words = "0: done"
        except HpcBatchError as error:
            words = f"{error.exit_code}: {error}"
        except BaseException as error:  # noqa: BLE001 - told to the parent
            words = f"unexpected: {error!r}"
        os.write(write, words.encode())
        os._exit(0)
    os.close(write)
    with open(read, "rb") as answer:
        words = answer.read().decode()
    os.waitpid(child, 0)
    return words


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_what_may_not_be_read_or_written_is_named(site: Site) -> None:
    deployment, data = site.deploy(python="/bin/sh"), site.data(2)
    home = Path(mkdtemp(prefix="hpcbatch-nobody-"))
    try:
        home.chmod(0o755)
        shutil.copytree(data, home / "secret")
        (home / "secret").chmod(0)
        shutil.copytree(data, home / "data")
        (home / "closed").mkdir(mode=0o555)
        venv = home / "venv"
        (venv / "bin").mkdir(parents=True)
        (venv / "bin" / "python").symlink_to("/bin/sh")
        of_an_interpreter = site.deploy(python=venv)
        shutil.copytree(site.ws.root / "registry", home / "ws" / "registry")
        (home / "ws").chmod(0o755)
        theirs = Site(home, "local")
        venv.chmod(0)
        requests = {
            "venv": theirs.request(of_an_interpreter, home / "data"),
            "secret": theirs.request(deployment, home / "secret"),
            "closed": theirs.request(deployment, home / "data", output_path=str(home / "closed" / "out")),
            "ws": theirs.request(deployment, home / "data"),
        }
        for name, request in requests.items():
            words = as_nobody(lambda request=request: invoke(theirs.ws, request))
            assert words.startswith("7: "), words
            assert str(home / name) in words
            assert "Permission denied" in words
    finally:
        for closed in ("secret", "venv"):
            (home / closed).chmod(0o700)
        shutil.rmtree(home)
