"""Whether the kernel killed for memory: read from the counters of cgroups 1 and 2."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.worker.memory import MemoryKills

V2 = (
    "0::/slurm/job_1/step_0/task_0\n",
    "slurm/job_1/step_0/task_0/memory.events",
    "low 0\nmax 7\noom 3\noom_kill {}\n",
)
V1 = (
    "5:devices:/x\n4:cpu,memory:/slurm/uid_0/job_1\n0::/\n",
    "memory/slurm/uid_0/job_1/memory.oom_control",
    "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n",
)


@pytest.mark.parametrize("version", [V1, V2])
def test_each_kill_is_told_once(tmp_path: Path, version: tuple[str, str, str]) -> None:
    """Those before this process began are not told at all."""
    own, name, text = version
    (tmp_path / "own").write_text(own)
    counter = tmp_path / "root" / name
    counter.parent.mkdir(parents=True)
    counter.write_text(text.format(4))
    kills = MemoryKills(tmp_path / "own", tmp_path / "root")
    assert not kills.one_more()
    counter.write_text(text.format(6))
    assert [kills.one_more() for _ in range(3)] == [True, True, False]


def test_a_system_that_does_not_count_tells_nothing(tmp_path: Path) -> None:
    """No cgroups, no such controller, no such line."""
    assert not MemoryKills(tmp_path / "absent", tmp_path).one_more()
    (tmp_path / "own").write_text("3:cpu:/\nrubbish\n0::/\n")
    kills = MemoryKills(tmp_path / "own", tmp_path)
    (tmp_path / "memory.events").write_text("oom 1\n")
    assert not kills.one_more()


def test_this_system_can_be_asked() -> None:
    """Whatever it is, there is an answer, and nothing was killed just now."""
    assert not MemoryKills().one_more()
