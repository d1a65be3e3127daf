"""Jobs that write down every call of run(), on clusters of their own: what a fault cost can be counted afterwards."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbatch.errors import SchedulerError
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles, all_attempts
from hpcbatch.operations import jobs
from hpcbatch.records.ledger import Kind
from tests import conftest
from tests.processes import WORKER, drivers_of, kill, of_job
from tests.site import Site, echoed, eventually

if TYPE_CHECKING:
    from tests.conftest import DevCluster

SCRIPT = """
import os, time

worker, ended = os.getppid(), 0

def note(word, name):
    calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(calls, f"{word} {name}\\n".encode())
    os.close(calls)

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    note("begin", names[0])
    until = time.monotonic() + float(os.environ["RUN_S"])
    while time.monotonic() < until or held():
        time.sleep(0.02)
    note("end", names[0])
    global ended
    ended += 1
    return names

def held():
    if os.getppid() != worker:
        os._exit(1)
    return ended >= int(os.environ["HOLD_AFTER"]) and not os.path.exists(os.environ["CALLS"] + "-go")
"""
COMPUTES: tuple[dict[str, Any], ...] = (
    {"name": "spot", "type": "slurm", "low_priority_partition": "preempt", "tier": "low_priority"},
    {"name": "dedicated", "type": "slurm", "partition": "preempt", "merge": {"partition": "normal"}},
    {"name": "late", "type": "slurm", "partition": "closed", "merge": {"partition": "normal"}},
    {"name": "steps", "type": "slurm", "low_priority_partition": "preempt", "tier": "low_priority", "cpus_per_task": 4},
)


_ENVIRONMENT = threading.RLock()


@contextmanager
def own_cluster(*options: str) -> Iterator[DevCluster]:
    """A cluster for one module."""
    folder = conftest.new_folder()
    try:
        yield conftest.bring_up(folder, options)
    finally:
        if (folder / "cluster.json").exists():
            conftest.control("down", folder, "--purge")
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def own_site() -> Iterator[Site]:
    """A workspace in a short path of its own."""
    with tempfile.TemporaryDirectory(prefix="hpcbatch-site-", ignore_cleanup_errors=True) as folder:
        yield Site(Path(folder), "spot").set_up(*COMPUTES)


@contextmanager
def speaking_to(cluster: DevCluster, **more: str) -> Iterator[None]:
    """Slurm's commands in this process, and in what it starts, speak to *cluster*; one thread at a time."""
    wanted = {"SLURM_CONF": str(cluster.conf), **more}
    with _ENVIRONMENT:
        before = {key: os.environ.get(key) for key in wanted}
        os.environ.update(wanted)
        try:
            yield
        finally:
            for key, value in before.items():
                if value is None:
                    os.environ.pop(key, None)
                else:
                    os.environ[key] = value


@dataclass(frozen=True)
class Watched:
    """One job, its calls and the cluster it was sent to."""

    site: Site
    cluster: DevCluster
    name: str
    calls: Path
    count: int

    @property
    def job(self) -> JobDir:
        return jobs.find_job(self.site.ws, self.name)

    @property
    def prefix(self) -> str:
        """What the names of its Slurm jobs begin with."""
        return self.job.record.slurm_name

    def done(self) -> int:
        return read_coverage(self.job).done

    def let_go(self) -> None:
        """What `start(hold_after=...)` holds back goes on."""
        Path(f"{self.calls}-go").touch()

    def cancel_a_task(self) -> None:
        """`scancel` of one array task, until it is gone: before that it would work on."""
        task = f"{self.array()}_1"
        self.cluster.run("scancel", task)
        eventually(lambda: task not in self.queued("%i"))

    def half_done(self) -> bool:
        """Also, every group is at work: one that has not begun would hear of nothing."""
        begun = {attempt.group for attempt, _ in self.records(Kind.COMMIT)}
        return self.done() >= self.count // 2 and len(begun) == self.job.record.groups

    def verdict(self) -> Mapping[str, Any]:
        return self.job.verdict() or {}

    def array(self, round_number: int = 0, first: int = 0) -> str:
        """The Slurm job id of an array."""
        note = self.job.document(self.job.paths.round(round_number) / f"array-{first}.json") or {}
        return str(note["slurm_job_id"])

    def queued(self, what: str = "%i %j %T %r %N") -> list[str]:
        """Its lines in the queue."""
        text = self.cluster.run("squeue", "-h", "-r", "-o", f"%j|{what}")
        return [line.partition("|")[2] for line in text.splitlines() if line.startswith(self.prefix)]

    def workers(self) -> list[int]:
        return of_job(self.job.root, WORKER)

    def drivers(self) -> list[int]:
        return [pid for worker in self.workers() for pid in drivers_of(worker)]

    def resume(self) -> None:
        with speaking_to(self.cluster):
            jobs.resume_job(self.site.ws, self.name)

    def do_as_told(self) -> None:
        """What a person does who reads `job show` and types what it says."""
        if f"hpcbatch job resume --name {self.name}" in self.status()[1]:
            with suppress(SchedulerError):  # it was let go just now
                self.resume()

    def status(self) -> tuple[str, str]:
        with speaking_to(self.cluster):
            shown = jobs.show_job(self.site.ws, self.name)
        return shown["status"], shown["detail"]

    def wait(self, timeout_s: float = 300) -> Mapping[str, Any]:
        """Until it has a verdict; the files alone are asked."""

        def ended() -> bool:
            return bool(self.verdict())

        try:
            eventually(ended, timeout_s, 0.1)
        except AssertionError as error:
            queue = "\n".join(self.queued())
            raise AssertionError(f"{self.name}: {error}\n{queue}\n{self.site.log(self.name)}") from None
        return self.verdict()

    def tally(self) -> Counter[str]:
        """How many mini-batches were begun more than once, ended more than once, and begun without an end."""
        words = [line.split() for line in self.calls.read_text().splitlines()] if self.calls.exists() else []
        begun = Counter(name for word, name in words if word == "begin")
        ended = Counter(name for word, name in words if word == "end")
        return Counter(
            calls=begun.total(),
            begun_again=sum(n > 1 for n in begun.values()),
            ended_again=sum(n > 1 for n in ended.values()),
            never_ended=begun.total() - ended.total(),
        )

    def records(self, *kinds: Kind) -> list[tuple[AttemptFiles, int]]:
        """(attempt, mini-batch) of every accepted record of these kinds."""
        job = self.job
        return [
            (attempt, record.mini_batch)
            for attempt in all_attempts(job.paths)
            for record in attempt.scan(job.record.uuid_bytes)
            if record.kind in kinds
        ]

    def overlap(self) -> int:
        """How many COMMITs there are beyond one for each mini-batch."""
        numbers = [mini_batch for _, mini_batch in self.records(Kind.COMMIT)]
        return len(numbers) - len(set(numbers))

    def twins_at_work(self, mini_batches: int) -> bool:
        """Whether two attempts have finished the same ones, this many; the first goes on when the second is there."""
        if len(list(all_attempts(self.job.paths))) > 1:
            self.let_go()
        return self.overlap() >= mini_batches

    def assert_undisturbed(self) -> None:
        """The output has the bytes of a quiet run, and no try was spent."""
        verdict = self.verdict()
        assert verdict.get("completed"), (verdict, self.site.log(self.name))
        assert self.site.output(self.name) == echoed(self.count), self.site.log(self.name)
        assert (verdict["mini_batches_done"], verdict["items_failed"]) == (self.count, 0)
        assert self.records(Kind.FAIL, Kind.ABORT) == []

    def assert_nothing_finished_ran_again(self, *, kills: int) -> None:
        """Every mini-batch has one COMMIT. A worker may be killed between a run()'s last line and its COMMIT, an
        instant that at most one of its mini-batches is in.
        """
        committed = Counter(mini_batch for _, mini_batch in self.records(Kind.COMMIT))
        assert set(committed.values()) == {1}, committed
        found = self.tally()
        assert found["ended_again"] <= 1, found
        assert found["begun_again"] <= kills, found

    def assert_each_ran_once(self) -> None:
        """One COMMIT of each mini-batch, and one call."""
        assert set(Counter(mini_batch for _, mini_batch in self.records(Kind.COMMIT)).values()) == {1}
        assert self.tally()["calls"] == self.count


def start(
    site: Site, cluster: DevCluster, count: int = 40, *, run_s: float = 0.2, compute: str = "spot", groups: int = 2,
    environment: Mapping[str, str] | None = None, script: str = SCRIPT, hold_after: int = 1_000_000, **more: Any,
) -> Watched:  # fmt: skip
    """A job of *count* mini-batches that forgives no failed try.

    A driver that has done *hold_after* of them stands still in the next one until `let_go`: what the test does
    meanwhile comes before the end of the job, however slow the machine is.
    """
    calls = site.folder / site.fresh("calls")
    variables = {"CALLS": str(calls), "RUN_S": str(run_s), "HOLD_AFTER": str(hold_after)}
    deployment = site.deploy(
        script, compute=compute, instances=groups, mini_batch_size=1, environment_variables=variables,
        retry_settings={"max_retries": 0, "timeout": 600}, error_threshold=-1,
    )  # fmt: skip
    data = site.data(count)
    with speaking_to(cluster, **(environment or {})):
        name = site.start(deployment, data, groups=groups, **more)
    return Watched(site, cluster, name, calls, count)


def take_the_nodes(cluster: DevCluster, nodes: int) -> str:
    """A short job in `normal` that needs *nodes* whole nodes; its id."""
    return cluster.submit("--partition=normal", f"--nodes={nodes}", "--exclusive", "--output=/dev/null", wrap="sleep 1")


def node_of(job: Watched) -> str:
    [line] = [line for line in job.queued("%T %N") if line.startswith("RUNNING")]
    return line.split()[1]


def crash(cluster: DevCluster, job: Watched, node: str) -> None:
    """End slurmd, every slurmstepd and every process of the job, as a power cut does."""
    slurmd = int(cluster.control("pid", f"slurmd-{node}"))
    os.kill(slurmd, signal.SIGKILL)
    for pid in sorted({one for worker in job.workers() for one in _family(worker)}):
        kill(pid)


def _family(worker: int) -> Iterator[int]:
    """A worker, its drivers, and the slurmstepd above it; of the batch script that waits for it, the same."""
    conf = next(word for word in _environ(worker) if word.startswith(b"SLURM_CONF="))
    slurm_job = next(word for word in _environ(worker) if word.startswith(b"SLURM_JOB_ID="))
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if {conf, slurm_job} <= set(_environ(pid)):
            while pid > 1 and pid != os.getpid():
                try:
                    name = Path(f"/proc/{pid}/comm").read_text().strip()
                    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    break
                if name in ("slurmd", "slurmctld"):
                    break
                yield pid
                pid = parent


def _environ(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []
