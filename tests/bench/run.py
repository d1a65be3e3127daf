#!/usr/bin/env python3
"""Measure hpcbatch beside the floors of the peer benchmark, and its own parts, in one run on one machine.

    tests/bench/run.py --peers DIR [W1 W2 W3]   hpcbatch, raw Slurm and the bare loop; DIR has the peers' bench.py
    tests/bench/run.py parts                    merge, planning, listing, ledger, start times
    tests/bench/run.py start                    from the start of an array task to the first run()

The machine should be idle: times are ratios to floors of the same round, but two processes on two processors leave no
room for a third. A private cluster is started for W1 to W3 and ended afterwards.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from first_run import first_run

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FLOORS = ("__init__.py", "__main__.py", "bare.py")


def main() -> int:
    """Run what was asked for and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=["parts"], help="W1, W2, W3, parts, start")
    parser.add_argument("--peers", type=Path, help="the folder of the peers' bench.py")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the merge")
    args = parser.parse_args()
    workloads = [what for what in args.what if what.startswith("W")]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if workloads:
            peers(Path(folder), args.peers, workloads, args.repeat)
        if "parts" in args.what:
            parts(Path(folder), args.gib, args.repeat)
        if "start" in args.what:
            start_of_a_task(Path(folder), args.repeat)
    return 0


def peers(folder: Path, origin: Path, workloads: list[str], repeat: int) -> None:
    """W1 to W3 with the floors `bare` and `raw` in every round."""
    home = folder / "peers"
    (home / "adapters").mkdir(parents=True)
    shutil.copy(origin / "bench.py", home)
    for name in FLOORS:
        shutil.copy(origin / "adapters" / name, home / "adapters")
    bench = [sys.executable, str(home / "bench.py"), "--shared", str(folder)]
    results = ["--results", str(folder / "results.jsonl")]
    (folder / "items").mkdir()
    with devcluster(folder / "cluster") as conf:
        environment = os.environ | {
            "SLURM_CONF": conf,
            "BENCH_ADAPTERS": str(HERE / "adapters"),
            "HPCBATCH_BENCH_ITEMS": str(folder / "items"),
        }
        make = (
            "import bench, adapters.hpcbatch as h, sys\n"
            "h.items(bench.Job(w := sys.argv[1], '', sys.argv[2], bench.WORKLOADS[w].n))"
        )
        for workload in workloads:
            if workload != "W2":
                command = [sys.executable, "-c", make, workload, str(folder)]
                subprocess.run(command, check=True, cwd=home, env=environment | {"PYTHONPATH": str(home)})
        chosen = ["--adapters", "bare,raw,hpcbatch", "--workloads", ",".join(workloads), "--repeat", str(repeat)]
        subprocess.run([*bench, "run", *chosen, *results], check=True, env=environment, stdout=sys.stderr)
        subprocess.run([*bench, "report", *results], check=True, env=environment)


@contextmanager
def devcluster(folder: Path) -> Iterator[str]:
    """A private cluster that schedules as often as it can; its slurm.conf."""
    script = ROOT / "slurm" / "devcluster" / "devcluster"
    scheduler = "sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=10000"
    settings = [f"SchedulerParameters={scheduler}", "KillWait=2"]
    command = [script, "up", "--dir", str(folder), "--set", *settings]
    up = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    try:
        yield up.strip().partition("SLURM_CONF=")[2].strip("'\"")
    finally:
        subprocess.run([script, "down", "--dir", str(folder), "--purge"], check=True, stdout=sys.stderr)


def start_of_a_task(folder: Path, repeat: int) -> None:
    """What an array task costs before the first line of run(), on a real Slurm."""
    with devcluster(folder / "cluster") as conf:
        os.environ["SLURM_CONF"] = conf
        table(first_run(folder / "start", repeat))


def parts(folder: Path, gib: float, repeat: int) -> None:
    """The pieces whose cost a job's size multiplies."""
    rows = [
        *merge(folder, gib, repeat),
        *parquet(folder, gib / 4, repeat),
        *planning(folder),
        *listing(folder, repeat),
        *ledger(repeat),
        *restart(folder, repeat),
        *starts(repeat),
    ]
    table(rows)


def table(rows: list[tuple[str, str, str, str]]) -> None:
    """Print *rows* as Markdown."""
    print("\n| what | measured | floor of the same run | ratio |\n|---|---|---|---|")
    for row in rows:
        print("| " + " | ".join(row) + " |")


def merge(folder: Path, gib: float, repeat: int) -> list[tuple[str, str, str, str]]:
    """The merge of large segments against `cat`, each until the result is durable."""
    job, digest, segments = big_job(folder / "merge", int(gib * 2**30))
    label = f"merge of {gib:g} GiB, every checksum checked in the copy, to fsync"
    return compared(label, (folder, job, digest), segments, gib, repeat)


def parquet(folder: Path, gib: float, repeat: int) -> list[tuple[str, str, str, str]]:
    """The merge of typed rows into one Parquet file against `cat` of the same segments."""
    payload = typed_rows()
    job, digest, segments = big_job(folder / "merge", int(gib * 2**30), payload, "rows.parquet")
    label = f"merge of {gib:g} GiB of typed rows into Parquet, to fsync"
    return compared(label, (folder, job, digest), segments, gib, repeat)


def typed_rows() -> bytes:
    """What the driver makes of a DataFrame of 16,384 rows: a name, a label of a few, three numbers."""
    import pandas as pd

    from hpcbatch.scoring.row_formats import RowFormat

    count = 16384
    dice = random.Random(1)
    frame = pd.DataFrame(
        {
            "file": [f"2024/part-{n // 100:04d}/item-{n:08d}.csv" for n in range(count)],
            "label": [("cat", "dog", "bird")[n % 3] for n in range(count)],
            **{name: [dice.random() for _ in range(count)] for name in ("cat", "dog", "bird")},
        }
    )
    return RowFormat("parquet", "", "").payload(frame, count, [], str)


def compared(
    label: str, where: tuple[Path, Path, str], segments: list[str], gib: float, repeat: int
) -> list[tuple[str, str, str, str]]:
    """The merge of a job against `cat` of its *segments*, each until the result is durable; the job is removed."""
    folder, job, digest = where
    out = folder / "cat.out"
    walls: dict[str, list[float]] = {"cat": [], "merge": []}
    for number in range(repeat + 1):  # the first round warms the cache up and does not count; then they take turns
        for name, times in list(walls.items())[:: 1 - 2 * (number % 2)]:
            os.sync()
            begin = time.perf_counter()
            if name == "cat":
                with open(out, "wb") as file:
                    subprocess.run(["cat", *segments], stdout=file, check=True)
                    os.fsync(file.fileno())
            else:
                command = [sys.executable, "-I", "-m", "hpcbatch.merge", str(job), digest]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            times += [time.perf_counter() - begin] if number else []
            for path in (out, *(job / "out").iterdir(), *(job / "merge").iterdir()):
                path.unlink(missing_ok=True)
    mib = gib * 1024
    rates = {name: mib / statistics.median(times) for name, times in walls.items()}
    shutil.rmtree(folder / "merge")
    ratio = statistics.median(cat / ours for cat, ours in zip(walls["cat"], walls["merge"], strict=True))
    return [(label, f"{rates['merge']:.0f} MiB/s", f"cat {rates['cat']:.0f} MiB/s", f"{ratio:.2f} of cat's speed")]


def big_job(folder: Path, size_bytes: int, payload: bytes = b"", name: str = "rows.csv") -> tuple[Path, str, list[str]]:
    """A job whose groups are all scored: 16 groups, payloads of 1 MiB or *payload*."""
    from hpcbatch.ids import sha256
    from hpcbatch.jobdir import jobdir
    from hpcbatch.jobdir.attempt import AttemptWriter
    from hpcbatch.planning.plan import cut
    from hpcbatch.records.job import ComputePart, JobRecord, ScoringPart
    from hpcbatch.records.ledger import Kind
    from hpcbatch.records.plan import pack_manifest, pack_plan

    block = payload or os.urandom(1 << 19) * 2
    count, groups = size_bytes // len(block), 16
    manifest = pack_manifest([b"%08d" % i for i in range(count)], root="/", mini_batch_size=1)
    scoring = ScoringPart("", "", "", 1, 1, -1, 3, 30.0, 60.0, "append_row", name, "info", {})
    record = JobRecord(
        "bench", "0" * 32, "e", "d", 1, "", "", "", sha256(manifest), count, count, groups, "/", "uri_folder",
        str(folder / "job" / "out"), "", scoring, ComputePart("local", "local", "dedicated", 1, {}),
    )  # fmt: skip
    jobdir.create(folder / "job", jobdir.Draft(record, manifest, pack_plan(0, cut([(0, count)], groups)), None))
    job = jobdir.open_job(folder / "job")
    segments = []
    for group in range(groups):
        at = job.paths.group(0, group)
        at.mkdir(parents=True)
        writer = AttemptWriter(at, job=record.uuid_bytes, group=group, epoch=1, about={})
        for number in job.plan(0).mini_batches(group):
            writer.commit(number, block, rows=1, failed_items=0, run_ms=0)
        writer.note(Kind.END)
        writer.sync()
        writer.close()
        segments.append(str(next(at.glob("*.seg"))))
    return job.root, job.sha256, segments


def planning(folder: Path) -> list[tuple[str, str, str, str]]:
    """Cutting a million items into mini-batches and groups, in a process of its own."""
    code = (
        "import time; from hpcbatch.planning.plan import *; from hpcbatch.records.plan import *\n"
        "names = [b'part-%07d/file-%09d.csv' % (i // 1000, i) for i in range(1_000_000)]; t = time.perf_counter()\n"
        "m = pack_manifest(names, root='/data/', mini_batch_size=10); n = mini_batch_count(len(names), 10)\n"
        "p = pack_plan(0, cut([(0, n)], 400)); print(time.perf_counter() - t)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder).stdout
    peak_mib = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    return [("planning 1,000,000 items", f"{float(out):.2f} s, peak {peak_mib:.0f} MiB", "-", "-")]


def listing(folder: Path, repeat: int) -> list[tuple[str, str, str, str]]:
    """Listing 200,000 files in folders of 1,000 against a recursive os.scandir."""
    from hpcbatch.dataio.inputs import list_items

    base = folder / "files"
    for first in range(0, 200_000, 1000):
        sub = base / f"{first:07d}"
        sub.mkdir(parents=True)
        for i in range(first, first + 1000):
            os.close(os.open(sub / f"{i:07d}.csv", os.O_CREAT | os.O_WRONLY))

    def scan(path: Path | str) -> int:
        with os.scandir(path) as entries:
            return sum(scan(e.path) if e.is_dir(follow_symlinks=False) else 1 for e in entries)

    assert scan(base) == len(list_items(str(base), "uri_folder").names) == 200_000
    floor = timed(lambda: scan(base), repeat)
    ours = timed(lambda: list_items(str(base), "uri_folder"), repeat)
    shutil.rmtree(base)
    return [("listing 200,000 files, sorted", f"{ours:.3f} s", f"os.scandir {floor:.3f} s", f"{ours / floor:.2f}")]


def ledger(repeat: int) -> list[tuple[str, str, str, str]]:
    """Reading records back, checksums checked."""
    from hpcbatch.records.ledger import Chain, Kind, Scan

    chain = Chain(b"j" * 16, 0, 1, b"n" * 16)
    data = b"".join(chain.record(Kind.COMMIT, mini_batch=i, payload=b"x" * 100) for i in range(200_000))
    took = timed(lambda: sum(1 for _ in Scan(data, b"j" * 16, b"n" * 16)), repeat)
    return [("ledger scan", f"{200_000 / took:,.0f} records/s", "-", "-")]


def restart(folder: Path, repeat: int) -> list[tuple[str, str, str, str]]:
    """An array task whose group is complete, as one that Slurm queues again after it has ended: start to exit."""
    job, digest, _ = big_job(folder / "restart", 16 * 20_000 * 100, b"x" * 100)
    command = [sys.executable, "-I", "-m", "hpcbatch.worker", str(job), digest, "0", "0"]
    took = timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL), repeat)
    floor = timed(lambda: subprocess.run([sys.executable, "-I", "-c", "pass"], check=True), repeat)
    shutil.rmtree(folder / "restart")
    label = "restart of a complete group of 20,000 mini-batches, no driver started (bar: 2 s)"
    return [(label, f"{took:.3f} s", f"python -c pass {floor:.3f} s", f"{took / floor:.1f}")]


def starts(repeat: int) -> list[tuple[str, str, str, str]]:
    """Start of the command and of what a thousand array tasks import at once."""

    def start(*arguments: str) -> float:
        return timed(lambda: subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL), 2 * repeat + 1)

    floor = start(sys.executable, "-I", "-c", "pass")
    program = str(Path(sys.executable).with_name("hpcbatch"))
    rows = []
    for label, command in (
        ("hpcbatch --help", [program, "--help"]),
        ("import of the worker", [sys.executable, "-I", "-c", "import hpcbatch.worker.entry"]),
        ("import of the merge", [sys.executable, "-I", "-c", "import hpcbatch.merge.entry"]),
    ):
        took = start(*command)
        rows.append((label, f"{took:.3f} s", f"python -c pass {floor:.3f} s", f"{took / floor:.1f}"))
    return rows


def timed(call: Callable[[], object], repeat: int) -> float:
    """Median seconds of *call*."""
    times = []
    for _ in range(repeat):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


if __name__ == "__main__":
    raise SystemExit(main())
