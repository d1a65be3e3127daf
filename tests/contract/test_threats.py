"""What a hostile folder, script or neighbour could do to a job, and does not. Named after the threat list."""

from __future__ import annotations

import os
import pickle
import shutil
import stat
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, HpcBatchError
from hpcbatch.operations import deployments, jobs
from tests.processes import of_job
from tests.site import ECHO, ENDPOINT, Ended, Site, echoed, eventually

HIJACKED = ("numpy", "json", "submitit", "pandas", "hpcbatch", "pickle", "score_helpers", "sitecustomize", "yaml")
IMPORTED = """
import os, sys

with open({place!r}, "a") as canary:
    canary.write(f"{{os.path.basename(sys.argv[0])}} {{'--logging_level' in sys.argv}}\\n")
"""


class Boom:
    """Unpickled, it leaves a trace."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.place),))


@pytest.fixture(scope="module")
def hostile(site: Site, tmp_path_factory: pytest.TempPathFactory) -> tuple[Ended, Path]:
    """A job that was started from a folder full of traps, with an umask that forbids nothing: (it, the traps)."""
    traps = tmp_path_factory.mktemp("traps")
    for name in HIJACKED:
        (traps / f"{name}.py").write_text(f"open({str(traps / 'HIJACKED')!r}, 'a').write({name!r})\n")
    script = IMPORTED.format(place=str(traps / "imports")) + ECHO
    before, umask = os.getcwd(), os.umask(0)
    os.chdir(traps)
    try:
        deployment = site.deploy(script, mini_batch_size=1, instances=2)
        deployments.update_deployment(site.ws, deployment, ENDPOINT, sets=["settings.mini_batch_size=2"])
        deployments.show_deployment(site.ws, deployment, ENDPOINT)
        (traps / "before").write_text(str((traps / "imports").exists()))
        name = site.start(deployment, site.data(4), groups=2)
        for planted in ("1_0_result.pkl", "1_0_submitted.pkl", "0_0_result.pkl.save_tmp"):
            (site.root(name) / "slurm" / planted).write_bytes(pickle.dumps(Boom(traps / "UNPICKLED")))
        ended = site.wait(name)
        eventually(lambda: not of_job(site.root(name)))  # what ends a job may still tidy up
        jobs.show_job(site.ws, name)
        jobs.list_jobs(site.ws)
        jobs.resume_job(site.ws, name)
        jobs.job_log(site.ws, name)
        jobs.download_job(site.ws, name, download_path=str(traps / "download"), all=True)
    finally:
        os.chdir(before)
        os.umask(umask)
    return ended, traps


def test_t4_the_scoring_script_runs_in_drivers_only(hostile: tuple[Ended, Path]) -> None:
    """Not when it is deployed, updated, shown, merged, followed or downloaded."""
    ended, traps = hostile
    assert (ended.status, ended.output) == ("Completed", echoed(4))
    assert (traps / "before").read_text() == "False"
    imports = (traps / "imports").read_text().splitlines()
    assert 1 <= len(imports) <= 2
    assert {line.split()[1] for line in imports} == {"True"}


def test_t5_modules_of_the_current_folder_are_not_imported_by_a_job(hostile: tuple[Ended, Path]) -> None:
    _, traps = hostile
    assert not (traps / "HIJACKED").exists()


def test_t6_pickles_that_somebody_put_into_the_job_are_never_loaded(hostile: tuple[Ended, Path]) -> None:
    _, traps = hostile
    assert not (traps / "UNPICKLED").exists()


def test_t17_nobody_else_may_read_a_job_whatever_the_umask(hostile: tuple[Ended, Path], site: Site) -> None:
    """Results, logs, manifest, segments: nothing below the job's folder, and the folder itself."""
    ended, _ = hostile
    root = site.root(ended.job["name"])
    ours = [path for path in (root, *root.rglob("*")) if not path.name.endswith((".pkl", ".save_tmp"))]
    open_to_others = {path.relative_to(root) for path in ours if stat.S_IMODE(path.lstat().st_mode) & 0o077}
    # slurmd makes a log with the umask of the shell that submitted; the folder around it is closed
    assert {path for path in open_to_others if path.parent != Path("slurm")} == set()
    assert stat.S_IMODE((root / "slurm").stat().st_mode) == 0o700


def test_t20_a_job_of_somebody_else_that_is_a_trap_neither_hangs_nor_runs_anything(site: Site, tmp_path: Path) -> None:
    """A fifo, a link, a huge file, a folder and a pickle in the place of job.json."""
    stranger = site.ws.jobs / "stranger"
    makers = {
        "fifo": os.mkfifo,
        "link": lambda place: place.symlink_to("/etc/passwd"),
        "huge": lambda place: os.truncate(place, 1 << 40) if place.write_bytes(b"{") else None,
        "folder": lambda place: place.mkdir(),
        "pickle": lambda place: place.write_bytes(pickle.dumps(Boom(tmp_path / "UNPICKLED"))),
        "nonsense": lambda place: place.write_bytes(b'{"schema": "hpcbatch.job/1"}'),
    }
    try:
        for name, make in makers.items():
            (stranger / name).mkdir(parents=True)
            make(stranger / name / "job.json")
        for name in makers:
            with pytest.raises(HpcBatchError):
                jobs.show_job(site.ws, name)
        listed = {one["name"] for one in jobs.list_jobs(site.ws, all_results=True)}
    finally:
        for name in makers:
            place = stranger / name / "job.json"
            place.rmdir() if place.is_dir() else place.unlink(missing_ok=True)
            (stranger / name).rmdir()
        stranger.rmdir()
    assert not listed & set(makers)
    assert not (tmp_path / "UNPICKLED").exists()


def test_t20_ones_own_job_is_found_before_a_strangers_of_that_name(site: Site) -> None:
    """And nobody continues, or ends, a job of somebody else: that would run files of theirs."""
    name = site.start(site.deploy(), site.data(2))
    assert site.wait(name).status == "Completed"
    stranger = site.ws.jobs / "0-stranger"  # sorts before every name of a user
    shutil.copytree(site.root(name), stranger / name)
    shutil.copytree(site.root(name), stranger / "theirs")
    try:
        assert site.root(name).parent != stranger
        with pytest.MonkeyPatch.context() as patch:
            owner = os.geteuid()
            patch.setattr(os, "geteuid", lambda: owner + 1)
            for verb in (jobs.resume_job, jobs.cancel_job):
                with pytest.raises(Conflict, match="is not yours"):
                    verb(site.ws, "theirs")
    finally:
        shutil.rmtree(stranger)
