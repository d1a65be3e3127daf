"""From the start of an array task to the first line of run(), beside `srun python -c` of the same imports."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
IMPORTS = "import numpy, pandas"
SCRIPT = f"""
import os, time
{IMPORTS}

def run(mini_batch):
    with open(os.environ["FIRST_RUN"], "x") as file:
        file.write(str(time.time()))
    return mini_batch
"""
ENDPOINT = "$schema: x\nname: bench\n"
DEPLOYMENT = """
name: {name}
endpoint_name: bench
type: model
code_configuration: {{code: code, scoring_script: score.py}}
environment: {{name: own, image: none, python: {python}}}
compute: azureml:{name}
resources: {{instance_count: 1}}
settings: {{mini_batch_size: 1, output_file_name: out.csv, environment_variables: {{FIRST_RUN: {mark}}}}}
"""
COMPUTE = "name: {name}\ntype: slurm\nlow_priority_partition: preempt\ntier: {tier}\nsetup: ['date +%s.%N > {begin}']\n"
RAW = "#!/bin/sh\ndate +%s.%N > {begin}\nsrun {python} -c '{imports}, time; print(time.time())' > {mark}\n"
TIERS = ("dedicated", "low_priority")


def first_run(folder: Path, repeat: int) -> list[tuple[str, str, str, str]]:
    """Rows of the table: each tier beside the floor of the same rounds, medians. Needs the SLURM_CONF of a cluster."""
    folder.mkdir()
    took: dict[str, list[float]] = {kind: [] for kind in ("raw", *TIERS)}
    starters: dict[str, Callable[[int], Path]] = {"raw": lambda number: _raw(folder, number)}
    (folder / "data").mkdir()
    (folder / "data" / "item").write_text("1")
    _write(folder / "endpoint.yml", ENDPOINT)
    _hpcbatch(folder, "batch-endpoint", "create", "--file", str(folder / "endpoint.yml"))
    for tier in TIERS:
        starters[tier] = lambda number, tier=tier: _ours(folder, tier, number)  # type: ignore[misc]
    for number in range(repeat + 1):  # the first round warms caches and does not count
        for kind, start in starters.items():
            mark = start(number)
            while not (mark.exists() and mark.read_text().strip()):
                time.sleep(0.05)
            seconds = float(mark.read_text()) - float(mark.with_suffix(".begin").read_text())
            if number:
                took[kind].append(seconds)
            time.sleep(1)
    floor = statistics.median(took.pop("raw"))
    return [
        (
            f"start of an array task to the first run(), {tier}",
            f"{statistics.median(times):.2f} s",
            f"srun python -c {floor:.2f} s",
            f"{statistics.median(times) / floor:.2f}",
        )
        for tier, times in took.items()
    ]


def _raw(folder: Path, number: int) -> Path:
    mark = folder / f"raw-{number}"
    script = folder / f"raw-{number}.sh"
    begin = mark.with_suffix(".begin")
    _write(script, RAW.format(begin=begin, python=sys.executable, imports=IMPORTS, mark=mark))
    subprocess.run(["sbatch", "--output=/dev/null", "--cpus-per-task=1", script], check=True, stdout=subprocess.DEVNULL)
    return mark


def _ours(folder: Path, tier: str, number: int) -> Path:
    name = f"{tier.replace('_', '-')}-{number}"
    mark, here = folder / name, folder / f"files-{name}"
    compute = COMPUTE.format(name=name, tier=tier, begin=mark.with_suffix(".begin"))
    _write(here / "compute.yml", compute)
    _write(here / "code" / "score.py", SCRIPT)
    _write(here / "deployment.yml", DEPLOYMENT.format(name=name, python=sys.executable, mark=mark))
    _hpcbatch(folder, "compute", "create", "--file", str(here / "compute.yml"))
    _hpcbatch(folder, "batch-deployment", "create", "--file", str(here / "deployment.yml"))
    _hpcbatch(folder, "batch-endpoint", "invoke", "-n", "bench", "-d", name, "--input", str(folder / "data"))
    return mark


def _hpcbatch(folder: Path, *words: str) -> None:
    command = [sys.executable, "-m", "hpcbatch", *words, "-w", str(folder / "ws"), "-o", "none"]
    subprocess.run(command, check=True, cwd=ROOT)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
