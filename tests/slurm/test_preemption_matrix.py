"""Preempted at half, on every kind of site: the bytes are those of a quiet run, and nothing finished runs again.

Sites differ in five ways; six clusters hold every pair of them. They run at once, because their jobs sleep.
"""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import lives
from tests.site import Site, eventually
from tests.slurm.watched import Watched, own_cluster, own_site, start, take_the_nodes

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm

NODES, COUNT = 2, 56
# Debian 13 has Slurm 24.11, and a slurmdbd that does not get along with its MariaDB.
DEBIAN_12 = "24." not in subprocess.run(["/usr/sbin/slurmd", "-V"], capture_output=True, text=True, check=False).stdout
USER_SIGNAL = "SlurmctldParameters=preempt_send_user_signal" if DEBIAN_12 else "PreemptParameters=send_user_signal"


@dataclass(frozen=True)
class Kind:
    """One kind of site."""

    mode: str
    grace_s: int
    user_signal: bool
    job_requeue: int
    accounting: bool

    def __str__(self) -> str:
        words = [self.mode, f"grace{self.grace_s}", f"requeue{self.job_requeue}"]
        words += ["signal"] * self.user_signal + ["accounting"] * self.accounting
        return "-".join(words)

    def options(self) -> list[str]:
        """For `devcluster up`."""
        words = ["--nodes", str(NODES), "--preempt-mode", self.mode, "--grace", str(self.grace_s)]
        words += ["--job-requeue", str(self.job_requeue)]
        words += [] if self.accounting and DEBIAN_12 else ["--no-accounting"]
        return words + (["--set", USER_SIGNAL] if self.user_signal else [])


KINDS = (
    Kind("REQUEUE", 0, user_signal=False, job_requeue=0, accounting=False),
    Kind("CANCEL", 2, user_signal=True, job_requeue=0, accounting=False),
    Kind("CANCEL", 2, user_signal=False, job_requeue=1, accounting=False),
    Kind("CANCEL", 0, user_signal=True, job_requeue=0, accounting=True),
    Kind("REQUEUE", 2, user_signal=False, job_requeue=1, accounting=True),
    Kind("REQUEUE", 0, user_signal=True, job_requeue=1, accounting=True),
)


@dataclass
class Seen:
    """What became of one kind of site."""

    stepped: Watched  # low_priority: under srun where a GraceTime is given
    plain: Watched  # dedicated: the batch script itself
    took_s: float = 0.0


@pytest.fixture(scope="module")
def seen() -> Iterator[dict[Kind, Seen]]:
    """Every kind of site, with two jobs each that were preempted at about half and ended."""
    with ExitStack() as stack:
        sites = {kind: stack.enter_context(own_site()) for kind in KINDS}
        lock = threading.Lock()

        def up(kind: Kind) -> DevCluster:
            time.sleep(0.5 * KINDS.index(kind))
            manager = own_cluster(*kind.options())
            cluster = manager.__enter__()
            with lock:
                stack.push(manager)
            return cluster

        with ThreadPoolExecutor(3) as pool:
            clusters = dict(zip(KINDS, pool.map(up, KINDS), strict=True))
        found = {kind: _started(sites[kind], kind, clusters[kind]) for kind in KINDS}
        began = time.monotonic()
        waiting = set(KINDS)
        first: list[tuple[Watched, list[int]]] = []
        while waiting:
            for kind in [one for one in waiting if found[one].stepped.half_done() and found[one].plain.half_done()]:
                first += [(job, job.workers()) for job in (found[kind].stepped, found[kind].plain)]
                take_the_nodes(clusters[kind], NODES)
                waiting.remove(kind)
            assert time.monotonic() < began + 300, {kind: found[kind].stepped.queued() for kind in waiting}
            time.sleep(0.1)
        running = set(KINDS)
        while running and time.monotonic() < began + 600:
            for job, workers in first:
                if not any(map(lives, workers)):
                    job.let_go()
            for kind in [one for one in running if found[one].stepped.verdict() and found[one].plain.verdict()]:
                found[kind].took_s = time.monotonic() - began
                running.remove(kind)
            time.sleep(0.1)
        yield found


def _started(site: Site, kind: Kind, cluster: DevCluster) -> Seen:
    # The last quarter waits until all workers were preempted and are gone, which takes 11 s where there is a grace.
    return Seen(
        *(start(site, cluster, COUNT, run_s=0.4, groups=2, compute=one, hold_after=21) for one in ("spot", "dedicated"))
    )


def test_every_pair_of_differences_is_on_some_site() -> None:
    for one, other in itertools.combinations(range(5), 2):
        pairs = {(astuple(kind)[one], astuple(kind)[other]) for kind in KINDS}
        assert len(pairs) == 4, (one, other, pairs)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_preempted_at_half(kind: Kind, seen: dict[Kind, Seen]) -> None:
    for how, watched in (("srun", seen[kind].stepped), ("exec", seen[kind].plain)):
        verdict: Any = watched.wait()
        tally = watched.tally()
        about = {key: verdict[key] for key in ("attempts", "preemptions_noticed", "duplicates")}
        print(f"{kind} {how}: {seen[kind].took_s:.0f} s, rounds {watched.job.rounds()}, {about}, {dict(tally)}")
        watched.assert_undisturbed()
        watched.assert_nothing_finished_ran_again(kills=2)
        assert verdict["preemptions_noticed"] >= 2, "each of the two workers heard of it, and maybe its successor"
        assert verdict["duplicates"] == 0
        eventually(lambda one=watched: not one.queued())
