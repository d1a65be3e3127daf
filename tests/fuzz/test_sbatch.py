"""Text on its way to sbatch: refused, or sbatch reads exactly the option that was meant."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcbatch.errors import SchedulerError, SpecError
from hpcbatch.scheduler import slurm as slurm_module
from hpcbatch.scheduler.base import Request
from hpcbatch.scheduler.slurm import SlurmScheduler
from hpcbatch.spec.base import parse
from hpcbatch.spec.compute import Compute, SlurmSettings
from tests.fuzz.documents import hostile_text

if TYPE_CHECKING:
    from tests.conftest import DevCluster

# Found by experiment with submitit's own quoting: the first ran a command on the node, the second added an option.
FOUND = ("\\'\"\ntouch CANARY #", "\\'\" --nice=77 #")
FIELDS = ("partition", "account", "qos", "constraint", "gres", "mem", "mem_per_cpu", "time", "nodelist", "exclude",
          "reservation", "low_priority_partition")  # fmt: skip
OPTIONS = {"partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "gres": "gres",
           "mem": "mem", "mem_per_cpu": "mem-per-cpu", "time": "time", "nodelist": "nodelist", "exclude": "exclude",
           "reservation": "reservation"}  # fmt: skip
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
SEEDS = st.integers(0, 2**48)


def options_of(script: str) -> list[str]:
    """The options in the `#SBATCH` lines as sbatch splits them: quotes of both kinds, backslashes, comments."""
    found = []
    for line in script.splitlines():
        if not line.startswith("#SBATCH"):
            continue
        word, quote, escaped, begun = "", "", False, False
        for c in line.removeprefix("#SBATCH"):
            if escaped:
                word, escaped = word + c, False
            elif c == "\\":
                escaped = begun = True
            elif quote:
                word, quote = (word, "") if c == quote else (word + c, quote)
            elif c in "'\"":
                quote, begun = c, True
            elif c == "#":
                break
            elif c.isspace():
                if begun:
                    found.append(word)
                word, begun = "", False
            else:
                word, begun = word + c, True
        assert not quote
        if begun:
            found.append(word)
    return found


def script_of(slurm: dict[str, Any], folder: Path) -> str:
    """The batch script as it would be given to sbatch."""
    request = Request("hb-0123456789ab.r0", ["/usr/bin/true"], folder, slurm, count=3, throttle=2)
    executor = slurm_module._Executor(folder)
    executor.update_parameters(**slurm_module._parameters(request))
    executor.parameters["map_count"] = 3
    return str(executor._make_submission_file_text("exec /usr/bin/true", "0" * 32))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A folder, and the options of a submission that asks for nothing."""
    folder = tmp_path_factory.mktemp("f")
    return folder, options_of(script_of({}, folder))


def through_every_field(text: str, plain: tuple[Path, list[str]]) -> int:
    """How many fields take *text*; in each of those it is one option with that value, and no option more."""
    folder, without = plain
    taken = 0
    for field in FIELDS:
        try:
            compute = parse(Compute, {"name": "c", "type": "slurm", field: text})
        except SpecError:
            continue
        taken += 1
        if field in OPTIONS:
            slurm = compute.model_dump(include=set(SlurmSettings.model_fields), exclude_none=True)
            script = script_of(slurm, folder)
            assert sorted(options_of(script)) == sorted([*without, f"--{OPTIONS[field]}={text}"]), (field, text)
    return taken


@pytest.mark.parametrize("text", FOUND)
def test_what_once_ran_a_command_is_refused_by_every_field(text: str, plain: tuple[Path, list[str]]) -> None:
    assert through_every_field(text, plain) == 0


@settings(max_examples=100, **QUIET)
@given(SEEDS)
def test_a_string_is_refused_or_is_one_option(plain: tuple[Path, list[str]], seed: int) -> None:
    through_every_field(hostile_text(seed), plain)


@pytest.mark.slow
def test_two_thousand_strings_in_every_field(plain: tuple[Path, list[str]]) -> None:
    taken = []

    @settings(max_examples=2000, **QUIET)
    @given(SEEDS)
    def each(seed: int) -> None:
        taken.append(through_every_field(hostile_text(seed), plain))

    each()
    assert any(taken)


@pytest.mark.slurm
def test_fifty_strings_through_the_real_sbatch(
    devcluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever our own check thinks of them: those that it takes are submitted, held, and looked at; then ended."""
    monkeypatch.setenv("SLURM_CONF", str(devcluster.conf))
    monkeypatch.chdir(tmp_path)
    scheduler, submitted, refused = SlurmScheduler(), [], 0
    chosen = [text for text in (hostile_text(seed) for seed in range(4000)) if _taken("constraint", text)][:25]
    chosen += ["a,b", "n[1-2]", "gpu:1", "1-0", "10:00", "4G", "a@b", "x=y", "a/b", "a+b", "a*b", "a..b", "a:b:c"]
    chosen += ["normal", "n1", "1", "0", "99999999", "a-", "A", "b_c", "c.d", "d,", "e]", "f["]
    try:
        for number, text in enumerate(chosen[:50]):
            field = FIELDS[number % 11]
            if not _taken(field, text):
                field = "constraint"
            request = Request(f"hb-{number:012d}.r0", ["touch", "CANARY"], tmp_path, {field: text}, count=1, hold=True)
            try:
                submitted.append(scheduler.submit(request))
            except SchedulerError:
                refused += 1
        shown = [devcluster.run("scontrol", "show", "job", job) for job in submitted]
    finally:
        subprocess.run(["scancel", "--quiet", *submitted], env=devcluster.env, check=False)
    assert len(chosen) >= 50
    assert submitted
    assert refused
    assert all("JobState=PENDING" in one and "Nice=0" in one for one in shown)
    assert not list(tmp_path.rglob("*CANARY*"))


def _taken(field: str, text: str) -> bool:
    try:
        parse(Compute, {"name": "c", "type": "slurm", field: text})
    except SpecError:
        return False
    return True
