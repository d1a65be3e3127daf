"""A real Slurm for the tests: one private cluster for each process of them, and more for those who ask.

Where it cannot start, the tests fail on CI and for root, because there it can; an ordinary user's are skipped.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.environments import environments  # noqa: F401  # a fixture for all
from tests.servers import s3, s3_server, web  # noqa: F401  # fixtures for all

pytest.register_assert_rewrite(
    *(f"tests.slurm.{name}" for name in ("budgets", "healing", "losses", "submissions", "watched")), "tests.site"
)
TESTS = Path(__file__).parent
SCRIPT = Path(__file__).parents[1] / "slurm" / "devcluster" / "devcluster"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """With `--dist loadgroup`, what shares jobs on Slurm stays in one process: the contracts, and each other file."""
    for item in items:
        if item.get_closest_marker("slurm"):
            name = item.path.relative_to(TESTS).with_suffix("").as_posix()
            item.add_marker(pytest.mark.xdist_group("contract" if name.startswith("contract/") else name))


@dataclass(frozen=True)
class DevCluster:
    """A running cluster. `env` is an environment in which every Slurm command speaks to it, and only to it."""

    folder: Path
    env: dict[str, str]

    @property
    def conf(self) -> Path:
        """Its slurm.conf."""
        return self.folder / "slurm.conf"

    def control(self, verb: str, *arguments: str) -> str:
        """The answer of `devcluster VERB --dir FOLDER ...`; raises when it fails."""
        return control(verb, self.folder, *arguments)

    def run(self, *command: str | Path, user: str | None = None) -> str:
        """What a Slurm command prints; an assertion with its stderr when it fails."""
        words = [*map(str, command)]
        done = subprocess.run(words, env=self.env, user=user, cwd="/", text=True, capture_output=True, check=False)
        assert done.returncode == 0, f"{words}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, *options: str | Path, wrap: str) -> str:
        """The job id of a script given in one line."""
        return self.run("sbatch", "--parsable", *options, f"--wrap={wrap}").strip()

    def wait(self, job_id: str, timeout_s: float = 180) -> None:
        """Until no task of the job is pending or running."""
        eventually(lambda: not self.run("squeue", "-h", "-j", job_id, "-o", "%T"), timeout_s)

    def down(self) -> None:
        """End it and remove its folder."""
        self.control("down", "--purge")


def control(verb: str, folder: Path, *arguments: str) -> str:
    """The answer of `devcluster VERB --dir FOLDER ...`; raises when it fails."""
    command = [sys.executable, "-B", str(SCRIPT), verb, "--dir", str(folder), *arguments]
    done = subprocess.run(command, text=True, capture_output=True, check=False)
    if done.returncode:
        raise RuntimeError(f"devcluster {verb}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def eventually(condition: Callable[[], object], timeout_s: float = 180) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_s} s"
        time.sleep(0.05)


def new_folder() -> Path:
    """A short path that other users may enter, which pytest's folders are not; an ordinary user's test is skipped."""
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip('a private Slurm cluster needs root: sudo env PATH="$PATH" python -m pytest tests/slurm')
    return Path(tempfile.mkdtemp(prefix="hpcbatch-test-"))


def bring_up(folder: Path, options: Sequence[str] = ()) -> DevCluster:
    """A cluster in this folder, started if it does not run; the test fails where it cannot."""
    try:
        control("up", folder, *options)
    except RuntimeError as error:
        pytest.fail(f"no Slurm cluster for the tests\n{error}", pytrace=False)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "SBATCH_", "SQUEUE_", "SACCT_"))}
    return DevCluster(folder, kept | {"SLURM_CONF": str(folder / "slurm.conf")})


@pytest.fixture(name="control", scope="session")
def control_fixture() -> Callable[..., str]:
    """`control("up", folder, ...)`: any call of the script `devcluster`."""
    return control


@pytest.fixture(name="eventually", scope="session")
def eventually_fixture() -> Callable[..., None]:
    """`eventually(condition, timeout_s=180)`: poll until the condition holds."""
    return eventually


@pytest.fixture(scope="session")
def devcluster() -> Iterator[DevCluster]:
    """The cluster of this process: its tests, which come one after the other, share it."""
    cluster = bring_up(new_folder())
    yield cluster
    cluster.down()


@pytest.fixture
def more_devclusters() -> Iterator[Callable[..., DevCluster]]:
    """`more_devclusters("--grace", "2", ...)`: another cluster for this test alone, with options of `devcluster up`."""
    folders: list[Path] = []

    def one_more(*options: str, inside: str = "") -> DevCluster:
        folders.append(new_folder())
        return bring_up(folders[-1] / inside, options)

    yield one_more
    for folder in folders:
        for conf in list(folder.rglob("cluster.json")) if folder.exists() else ():
            control("down", conf.parent, "--purge")
        shutil.rmtree(folder, ignore_errors=True)
