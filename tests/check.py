#!/usr/bin/env python3
"""The one test command. `python3 tests/check.py` on a fresh machine installs what it needs and runs everything.

    python3 tests/check.py              everything but `bench`: lint, types, floors, every tier of tests, real Slurm too
    python3 tests/check.py --fast       one minute: no Slurm, nothing slow
    python3 tests/check.py slurm        only the named sections (they are printed as headings), in their usual order

Needs Python >= 3.11 with venv, and for the real Slurm either its Debian packages or root, to install them. Where a part
cannot run, it says so and goes on; with CI=true a part that cannot run, and a test that is skipped, is a failure.

Sections of different lanes run beside each other, because the tests on Slurm mostly wait; each is printed as a whole,
in the usual order. What tests write goes to memory where there is plenty of it: on a disk they wait for every fsync.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

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
ENOUGH_MEMORY_BYTES = 6 << 30


@dataclass
class Outcome:
    """What has happened so far: counts of tests, sections that failed, parts that could not run."""

    scratch: Path
    chosen: frozenset[str]
    python: Path = Path(sys.executable)
    variables: dict[str, str] = field(default_factory=dict)  # for every command
    passed: int = 0
    failed: int = 0
    skipped: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Section:
    """One heading of the run: its name on the command line, what it is, whether --fast has it.

    Those of one lane run one after the other, those without one alone. With `patient`, the tests on Slurm come first.
    """

    name: str
    title: str
    run: Callable[[Task], bool]
    fast: bool
    by_default: bool = True
    lane: str = ""
    patient: bool = False


@dataclass(frozen=True)
class Task:
    """A section that runs. All that it and its commands say goes to `out`."""

    section: Section
    outcome: Outcome
    out: IO[str]

    def say(self, *lines: str) -> None:
        print(*lines, sep="\n", file=self.out, flush=True)

    def ok(self, *command: str | Path, **variables: str) -> bool:
        """Whether the command ended well."""
        return self.code(*command, **variables) == 0

    def code(self, *command: str | Path, **variables: str) -> int:
        """The exit code of *command*, run at the root of the tree, outside of any Slurm job and of any workspace."""
        kept = {k: v for k, v in os.environ.items() if not re.match(r"SLURM|SBATCH_|SRUN_|PMI|HPCBATCH_|PYTHONPATH", k)}
        words = ["nice", "-n", "5"] if self.section.patient and "slurm" in self.outcome.chosen else []
        words += [str(word) for word in command]
        environment = kept | self.outcome.variables | variables
        done = subprocess.run(words, cwd=ROOT, env=environment, check=False, stdout=self.out, stderr=self.out)
        return done.returncode

    def pytest(self, *arguments: str | Path) -> bool:
        """Run pytest and add its counts to the outcome. A selection in which no test is found holds."""
        scratch = self.outcome.scratch
        report = scratch / f"{self.section.name}.xml"
        report.unlink(missing_ok=True)
        options = ["-q", "--durations=12", f"--junitxml={report}", "-n", str(os.cpu_count() or 1), *arguments]
        # Of its own: pytest numbers the folders of runs beside each other, and one that ends may unlock another's.
        options += [f"--basetemp={scratch / f'pytest-{self.section.name}'}"]
        code = self.code(self.outcome.python, "-m", "pytest", *options, COVERAGE_FILE=str(scratch / "coverage"))
        if report.exists():
            self._count(report)
        return code in {0, 5}

    def _count(self, report: Path) -> None:
        with self.outcome.lock:
            for case in ET.parse(report).iter("testcase"):
                skip = case.find("skipped")
                if case.find("failure") is not None or case.find("error") is not None:
                    self.outcome.failed += 1
                elif skip is None:
                    self.outcome.passed += 1
                elif skip.get("type") != "pytest.xfail":
                    self.outcome.skipped.append(f"{case.get('classname')}.{case.get('name')}: {skip.get('message')}")


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
    with tempfile.TemporaryDirectory(prefix="check-", dir=_memory()) as scratch:
        os.chmod(scratch, 0o1777)  # as /tmp: some tests are another user's
        outcome = Outcome(Path(scratch), frozenset(s.name for s in chosen), variables={"TMPDIR": scratch})
        outcome.variables["HPCBATCH_TEST_ENVIRONMENTS"] = str(VENV / "others")
        if args.python:
            outcome.python = args.python.absolute()
            outcome.variables["HPCBATCH_TEST_ENVIRONMENTS"] = f"{scratch}/others"
        elif not _run([Section("environment", "Environment", environment, True)], outcome):
            return 1
        _run(chosen, outcome)
        return _verdict(outcome, chosen, time.monotonic() - started)


def _run(chosen: list[Section], outcome: Outcome) -> bool:
    """Run these sections, and print what each has said, in their order: of the one that is next as it says it."""
    lanes: dict[str, ThreadPoolExecutor] = {s.lane: ThreadPoolExecutor(1) for s in chosen if s.lane}
    running: list[tuple[Section, Path, Future[bool]]] = []
    for section in chosen:
        said = outcome.scratch / f"said-{section.name}.txt"
        said.touch()
        if section.lane:
            running.append((section, said, lanes[section.lane].submit(_section, section, outcome, said)))
            continue
        _print(running)
        running = []
        with ThreadPoolExecutor(1) as alone:
            _print([(section, said, alone.submit(_section, section, outcome, said))])
    _print(running)
    for lane in lanes.values():
        lane.shutdown()
    return not outcome.failures


def _section(section: Section, outcome: Outcome, said: Path) -> bool:
    started = time.monotonic()
    with open(said, "w", encoding="utf-8") as out:
        held = section.run(Task(section, outcome, out))
        print(f"---- {section.name}: {'ok' if held else 'FAILED'} in {time.monotonic() - started:.1f} s", file=out)
    if not held:
        outcome.failures.append(section.name)
    return held


def _print(running: Iterable[tuple[Section, Path, Future[bool]]]) -> None:
    for section, said, future in running:
        print(f"\n==== {section.title} ({section.name}) ".ljust(100, "="), flush=True)
        with open(said, encoding="utf-8", errors="replace") as text:
            while not future.done():
                sys.stdout.write(text.read())
                sys.stdout.flush()
                time.sleep(0.2)
            sys.stdout.write(text.read())
            sys.stdout.flush()
        future.result()


def _memory() -> str | None:
    """/dev/shm, where it has room for what the tests write and runs programs."""
    try:
        about = os.statvfs("/dev/shm")
        free = re.search(r"^MemAvailable: *(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    room = min(about.f_bavail * about.f_frsize, int(free[1]) << 10 if free else 0)
    return "/dev/shm" if room >= ENOUGH_MEMORY_BYTES and not about.f_flag & os.ST_NOEXEC else None


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


def environment(task: Task) -> bool:
    """A private virtual environment with hpcbatch and its test tools, made again when pyproject.toml changes."""
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + sys.version.encode()).hexdigest()
    task.outcome.python = python = VENV / "bin" / "python"
    stamp = VENV / "complete"
    if stamp.is_file() and stamp.read_text() == wanted and task.ok(python, "-c", "import hpcbatch"):
        task.say(f"{VENV.name} is up to date")
        return True
    shutil.rmtree(VENV, ignore_errors=True)
    if not task.ok(sys.executable, "-m", "venv", VENV):
        task.say("Making a virtual environment failed. On Debian: apt-get install python3-venv")
        return False
    (VENV / ".gitignore").write_text("*\n")
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    uv: list[str | Path] = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python]
    task.outcome.variables |= _indexes(python)
    if not (task.ok(*pip, "uv") and task.ok(*uv, "-e", ".[test]")):
        task.say("uv could not; pip takes a minute or two")
        if not task.ok(*pip, "-e", ".[test]"):
            return False
    stamp.write_text(wanted)
    return True


def _indexes(python: Path) -> dict[str, str]:
    """Where pip is told to look for packages, in the words of uv, which reads none of pip's settings."""
    told = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False).stdout
    found = dict(re.findall(r"^(?:global|install|user|site|:env:)\.([\w-]+)='(.*)'$", told, re.MULTILINE))
    names = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
    words = {name: shlex.split(found[option].replace("\\n", " ")) for option, name in names.items() if option in found}
    variables = {name: (" " if name == "UV_INDEX" else ",").join(each) for name, each in words.items()}
    return {"UV_INDEX_STRATEGY": "unsafe-best-match"} | variables


def system(task: Task) -> bool:
    """Slurm, MariaDB and munge, for a private cluster; strace, to count system calls; a guest kernel with NFS."""
    if not _missing_programs():
        task.say("Slurm, MariaDB, munge, strace and a guest kernel with NFS are installed")
        return True
    if os.geteuid() == 0:
        if not task.ok(DEVCLUSTER, "install"):
            return False
        wanted = [package for name, package in OTHER_PROGRAMS.items() if not _program(name)]
        if wanted and not task.ok("apt-get", "install", "-y", "-qq", "--no-install-recommends", *wanted):
            return False
    if missing := _missing_programs():
        task.outcome.missing.append(
            f"real Slurm, NFS and what counts system calls: {', '.join(missing)} not found. "
            f"As root: {DEVCLUSTER.relative_to(ROOT)} install && apt-get install {' '.join(OTHER_PROGRAMS.values())}"
        )
        task.say(task.outcome.missing[-1])
    return not (IN_CI and missing)


def lint(task: Task) -> bool:
    """Style and likely mistakes; formatting."""
    checked = task.ok(task.outcome.python, "-m", "ruff", "check", ".")
    return task.ok(task.outcome.python, "-m", "ruff", "format", "--check", ".") and checked


def types(task: Task) -> bool:
    """mypy, strict."""
    return task.ok(task.outcome.python, "-m", "mypy")


def floors(task: Task) -> bool:
    """The imports of the package against the floors in pyproject.toml."""
    return task.ok(task.outcome.python.with_name("lint-imports"), "--no-cache")


def unit(task: Task) -> bool:
    """What is quick below tests/unit and tests/architecture."""
    measured = ("--cov", "--cov-report=") if "coverage" in task.outcome.chosen else ()
    return task.pytest("tests/unit", "tests/architecture", "-m", QUICK, *ANY_ORDER, *measured)


def integration(task: Task) -> bool:
    """The rest without Slurm: slow unit tests, contracts on local, faults, examples."""
    elsewhere = {"unit", "architecture", "slurm", "bench"}
    folders = sorted(path for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name not in elsewhere)
    folders = [path for path in folders if any(path.rglob("test_*.py"))]
    slow = task.pytest("tests/unit", "tests/architecture", "-m", "not slurm and (chaos or slow)", *ANY_ORDER)
    return task.pytest(*folders, "-m", "not slurm", *ANY_ORDER) and slow


def slurm(task: Task) -> bool:
    """The tests marked `slurm`, on private clusters that they bring up themselves."""
    if missing := _missing_programs():
        task.outcome.missing.append(f"tests marked slurm: {', '.join(missing)} not found")
        task.say(task.outcome.missing[-1])
        return not IN_CI
    return task.pytest("tests", "--ignore=tests/bench", "-m", "slurm and not chaos", "--dist", "loadgroup")


def coverage(task: Task) -> bool:
    """Every branch of what keeps the promises, by the section unit alone: in process, and quickly."""
    data = task.outcome.scratch / "coverage"
    if not data.exists():
        task.say("Nothing was measured: run it together with the section unit")
        return True
    command: list[str | Path] = [task.outcome.python, "-m", "coverage", "report", f"--data-file={data}"]
    return task.ok(*command, f"--include={','.join(FULLY_COVERED)}", "--fail-under=100")


def bench(task: Task) -> bool:
    """Ratios to the floors that docs/explanation/performance.md states; only when asked for, alone on the machine."""
    return task.ok(task.outcome.python, ROOT / "tests" / "bench" / "run.py", "parts", "start", "--gib", "1")


SECTIONS = [
    Section("system", "Slurm and its friends", system, fast=False),
    Section("lint", "Lint and format", lint, fast=True, lane="reading"),
    Section("types", "Types", types, fast=True, lane="reading"),
    Section("floors", "Floors", floors, fast=True, lane="reading"),
    Section("unit", "Unit and architecture tests", unit, fast=True, lane="working", patient=True),
    Section(
        "integration", "Contracts, faults, examples, slow tests", integration, fast=False, lane="working", patient=True
    ),
    Section("slurm", "Real Slurm", slurm, fast=False, lane="waiting"),
    Section("coverage", "Coverage", coverage, fast=False),
    Section("bench", "Benchmarks", bench, fast=False, by_default=False),
]
ANY_ORDER = ("--dist", "worksteal")

# ---- how they do it ------------------------------------------------------------------------------------------------


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _missing_programs() -> list[str]:
    return [name for name in (*SLURM_PROGRAMS, *OTHER_PROGRAMS) if not _program(name)]


if __name__ == "__main__":
    sys.exit(main())
