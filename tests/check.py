#!/usr/bin/env python3
"""The one test command. `python3 tests/check.py` on a fresh machine installs what it needs and runs everything.

    python3 tests/check.py              everything but `bench`: lint, types, floors, every tier of tests, real Slurm too
    python3 tests/check.py --fast       a minute and a half: no Slurm, nothing slow
    python3 tests/check.py slurm        only the named sections (they are printed as headings), in their usual order

Needs Python >= 3.11 with venv, and for the real Slurm either its Debian packages or root, to install them. Where a part
cannot run, it says so and goes on; with CI=true a part that cannot run, and a test that is skipped, is a failure.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv-test"
DEVCLUSTER = ROOT / "slurm" / "devcluster" / "devcluster"
SLURM_PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd")
OTHER_PROGRAMS = {  # and their Debian packages
    "strace": "strace",
    "linux.uml": "user-mode-linux",
    "rpc.nfsd": "nfs-kernel-server",
    "rpcbind": "rpcbind",
    "modprobe": "kmod",
    "ip": "iproute2",
    "faketime": "faketime",
}
FULLY_COVERED = (
    "hpcbatch/records/ledger.py",
    "hpcbatch/jobdir/*",
    "hpcbatch/merge/*",
    "hpcbatch/registry/*",
    "hpcbatch/planning/*",
)
IN_CI = os.environ.get("CI", "").lower() in {"1", "true", "yes"}
QUICK = "not slurm and not chaos and not slow"


@dataclass
class Outcome:
    """What has happened so far: counts of tests, sections that failed, parts that could not run."""

    scratch: Path
    python: Path = Path(sys.executable)
    measured: bool = False
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """One heading of the run: its name on the command line, what it is, whether --fast has it."""

    name: str
    title: str
    run: Callable[[Outcome], bool]
    fast: bool
    by_default: bool = True


def main() -> int:
    """Run the sections that were asked for; 0 if all of them held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=", ".join(s.name for s in SECTIONS))
    parser.add_argument("--fast", action="store_true", help="no Slurm, nothing slow")
    parser.add_argument("--python", type=Path, help="use this environment's interpreter as it is; install nothing")
    args = parser.parse_args()
    if unknown := set(args.sections) - {s.name for s in SECTIONS}:
        parser.error(f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in SECTIONS)}")
    if sys.version_info < (3, 11):  # noqa: UP036 - runs before anything has checked requires-python
        parser.error(f"Python >= 3.11 is needed and this is {sys.version.split()[0]}; try `python3.11 tests/check.py`")
    chosen = [
        s for s in SECTIONS if (s.name in args.sections if args.sections else s.fast if args.fast else s.by_default)
    ]
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="check-") as scratch:
        outcome = Outcome(Path(scratch), measured=any(s.name == "coverage" for s in chosen))
        if args.python:
            outcome.python = args.python.absolute()
        elif not _section(Section("environment", "Environment", environment, True), outcome):
            return 1
        for section in chosen:
            _section(section, outcome)
    return _verdict(outcome, chosen, time.monotonic() - started)


def _section(section: Section, outcome: Outcome) -> bool:
    print(f"\n==== {section.title} ({section.name}) ".ljust(100, "="), flush=True)
    started = time.monotonic()
    held = section.run(outcome)
    if not held:
        outcome.failures.append(section.name)
    print(f"---- {section.name}: {'ok' if held else 'FAILED'} in {time.monotonic() - started:.1f} s", flush=True)
    return held


def _verdict(outcome: Outcome, chosen: list[Section], elapsed_s: float) -> int:
    print("\n" + "=" * 100)
    for reason in sorted(set(outcome.skipped)):
        print(f"skipped: {reason}")
    for part in outcome.missing:
        print(f"could not run: {part}")
    if IN_CI and (outcome.missing or outcome.skipped):
        outcome.failures.append("parts that CI must not leave out")
    print(f"{', '.join(s.name for s in chosen)}: {elapsed_s:.0f} s")
    print(f"FAILED: {', '.join(outcome.failures)}" if outcome.failures else "All of it holds.")
    print(f"{outcome.passed} passed, {outcome.failed} failed, {len(outcome.skipped)} skipped", flush=True)
    return 1 if outcome.failures or outcome.failed else 0


# ---- what the sections do ------------------------------------------------------------------------------------------


def environment(outcome: Outcome) -> bool:
    """A private virtual environment with hpcbatch and its test tools, made again when pyproject.toml changes."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    outcome.python = VENV / "bin" / "python"
    stamp = VENV / "complete"
    if stamp.is_file() and stamp.read_text() == wanted and _run([outcome.python, "-c", "import hpcbatch"], quiet=True):
        print(f"{VENV.name} is up to date")
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    if not _run([sys.executable, "-m", "venv", VENV]):
        print("Making a virtual environment failed. On Debian: apt-get install python3-venv")
        return False
    (VENV / ".gitignore").write_text("*\n")
    if not _run([outcome.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", ".[test]"]):
        return False
    stamp.write_text(wanted)
    return True


def system(outcome: Outcome) -> bool:
    """Slurm, MariaDB and munge, for a private cluster; strace, to count system calls; a guest kernel with NFS."""
    if not _missing_programs():
        print("Slurm, MariaDB, munge, strace and a guest kernel with NFS are installed")
        return True
    if os.geteuid() == 0:
        if not _run([DEVCLUSTER, "install"]):
            return False
        wanted = [package for name, package in OTHER_PROGRAMS.items() if not _program(name)]
        if wanted and not _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted]):
            return False
    if missing := _missing_programs():
        outcome.missing.append(
            f"real Slurm, NFS and what counts system calls: {', '.join(missing)} not found. "
            f"As root: {DEVCLUSTER.relative_to(ROOT)} install && apt-get install {' '.join(OTHER_PROGRAMS.values())}"
        )
        print(outcome.missing[-1])
    return not (IN_CI and missing)


def lint(outcome: Outcome) -> bool:
    """Style and likely mistakes; formatting."""
    checked = _run([outcome.python, "-m", "ruff", "check", "."])
    return _run([outcome.python, "-m", "ruff", "format", "--check", "."]) and checked


def types(outcome: Outcome) -> bool:
    """mypy, strict."""
    return _run([outcome.python, "-m", "mypy"])


def floors(outcome: Outcome) -> bool:
    """The imports of the package against the floors in pyproject.toml."""
    program = outcome.python.with_name("lint-imports")
    return _run([program, "--no-cache"])


def unit(outcome: Outcome) -> bool:
    """What is quick below tests/unit and tests/architecture."""
    return _pytest(outcome, "tests/unit", "tests/architecture", "-m", QUICK, *IN_PARALLEL)


def integration(outcome: Outcome) -> bool:
    """The rest without Slurm: slow unit tests, contracts on local, faults, examples."""
    slow = _pytest(outcome, "tests/unit", "tests/architecture", "-m", "not slurm and (chaos or slow)", *IN_PARALLEL)
    elsewhere = {"unit", "architecture", "slurm", "bench"}
    folders = sorted(path for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name not in elsewhere)
    folders = [path for path in folders if any(path.rglob("test_*.py"))]
    return _pytest(outcome, *folders, "-m", "not slurm", *IN_PARALLEL) and slow


def slurm(outcome: Outcome) -> bool:
    """The tests marked `slurm`, on private clusters that they bring up themselves."""
    if missing := _missing_programs():
        outcome.missing.append(f"tests marked slurm: {', '.join(missing)} not found")
        print(outcome.missing[-1])
        return not IN_CI
    return _pytest(outcome, "tests", "--ignore=tests/bench", "-m", "slurm and not chaos")


def coverage(outcome: Outcome) -> bool:
    """What the sections before have executed: every branch of what keeps the promises."""
    data = outcome.scratch / "coverage"
    if not data.exists():
        print("Nothing was measured: run it together with the sections unit and integration")
        return True
    command: list[str | Path] = [outcome.python, "-m", "coverage", "report", f"--data-file={data}"]
    _run(command)
    print("\nIn these, every branch:", flush=True)
    return _run([*command, f"--include={','.join(FULLY_COVERED)}", "--fail-under=100"])


def bench(outcome: Outcome) -> bool:
    """Ratios to the floors that docs/explanation/performance.md states; only when asked for, alone on the machine."""
    return _run([outcome.python, ROOT / "tests" / "bench" / "run.py", "parts", "start", "--gib", "1"])


SECTIONS = [
    Section("system", "Slurm and its friends", system, fast=False),
    Section("lint", "Lint and format", lint, fast=True),
    Section("types", "Types", types, fast=True),
    Section("floors", "Floors", floors, fast=True),
    Section("unit", "Unit and architecture tests", unit, fast=True),
    Section("integration", "Contracts, faults, examples, slow tests", integration, fast=False),
    Section("slurm", "Real Slurm", slurm, fast=False),
    Section("coverage", "Coverage", coverage, fast=False),
    Section("bench", "Benchmarks", bench, fast=False, by_default=False),
]
IN_PARALLEL = ("-n", str(os.cpu_count() or 1), "--dist", "worksteal")

# ---- how they do it ------------------------------------------------------------------------------------------------


def _pytest(outcome: Outcome, *arguments: str | Path) -> bool:
    """Run pytest and add its counts to *outcome*. A selection in which no test is found holds."""
    report = outcome.scratch / "report.xml"
    report.unlink(missing_ok=True)
    options = ["-q", "--durations=12", f"--junitxml={report}"]
    command: list[str | Path] = [outcome.python, "-m", "pytest", *options, *arguments]
    if outcome.measured:
        command += ["--cov", "--cov-append", "--cov-report="]
    code = _code(command, {"COVERAGE_FILE": str(outcome.scratch / "coverage")})
    if report.exists():
        _count(outcome, report)
    return code in {0, 5}


def _count(outcome: Outcome, report: Path) -> None:
    for case in ET.parse(report).iter("testcase"):
        skip = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            outcome.failed += 1
        elif skip is None:
            outcome.passed += 1
        elif skip.get("type") != "pytest.xfail":
            outcome.skipped.append(f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}")


def _run(command: list[str | Path], *, quiet: bool = False) -> bool:
    return _code(command, {}, quiet=quiet) == 0


def _code(command: list[str | Path], extra: dict[str, str], *, quiet: bool = False) -> int:
    """The exit code of *command*, run at the root of the tree, outside of any Slurm job and of any workspace."""
    kept = {k: v for k, v in os.environ.items() if not re.match(r"SLURM|SBATCH_|SRUN_|PMI|HPCBATCH_|PYTHONPATH", k)}
    output = subprocess.DEVNULL if quiet else None
    words = [str(word) for word in command]
    return subprocess.run(words, cwd=ROOT, env=kept | extra, check=False, stdout=output, stderr=output).returncode


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _missing_programs() -> list[str]:
    return [name for name in (*SLURM_PROGRAMS, *OTHER_PROGRAMS) if not _program(name)]


if __name__ == "__main__":
    sys.exit(main())
