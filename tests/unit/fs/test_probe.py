"""What a mount can be relied on for, from the kernel's table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.fs.probe import free_bytes, visibility_timeout_s


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    """A table as of a cluster's login node, with blanks and other letters in names of mount points."""
    lines = [
        "/dev/sda1 / ext4 rw,relatime 0 0",
        "server:/a /net/home nfs4 rw,vers=4.2,hard 0 0",
        "server:/b /net/slow nfs rw,acdirmax=90 0 0",
        "server:/c /net/fast nfs4 rw,actimeo=1 0 0",
        "server:/d /net/still nfs4 rw,acdirmin=3600,acdirmax=3600 0 0",
        "auto /net/late autofs rw 0 0",
        "server:/e /net/late nfs4 rw 0 0",
        "lustre@tcp:/x /lustre lustre rw,flock 0 0",
        r"server:/f /net/two\040words nfs4 rw 0 0",
        "server:/g /net/été nfs4 rw 0 0",
        r"server:/h /net/back\134slash nfs4 rw 0 0",
        "tmpfs /net/home/tmp tmpfs rw 0 0",
    ]
    path = tmp_path / "mounts"
    path.write_bytes("\n".join(lines).encode() + b"\nserver:/i /net/caf\xe9 nfs4 rw 0 0\n")
    return path


@pytest.mark.parametrize(
    ("path", "timeout_s"),
    [
        ("/home/a", 0),
        ("/net/home/a", 120),
        ("/net/homes/a", 0),
        ("/net/home", 120),
        ("/net/slow/a", 180),
        ("/net/fast/a", 60),
        ("/net/still/a", 180),
        ("/net/late/a", 120),
        ("/lustre/a", 60),
        ("/net/two words/a", 120),
        ("/net/été/a", 120),
        ("/net/back\\slash/a", 120),
        ("/net/caf\udce9/a", 120),
        ("/net/home/tmp/a", 0),
    ],
)
def test_how_long_to_wait_depends_on_the_mount(mounts: Path, path: str, timeout_s: float) -> None:
    """The longest mount point that holds the path, and the last one mounted there, decide."""
    assert visibility_timeout_s(Path(path), mounts) == timeout_s


def test_without_a_table_nothing_is_assumed(tmp_path: Path) -> None:
    """A minute is waited."""
    assert visibility_timeout_s(tmp_path, tmp_path / "absent") == 60


def test_the_table_of_this_machine_can_be_read(tmp_path: Path) -> None:
    """Temporary folders are on a filesystem that the kernel has a name for."""
    assert visibility_timeout_s(tmp_path) >= 0


def test_free_space_is_what_this_user_may_write(small_disk: Path) -> None:
    """In bytes, and less after something was written."""
    before = free_bytes(small_disk)
    assert 0 < before <= 65_536
    (small_disk / "x").write_bytes(bytes(8192))
    assert free_bytes(small_disk) == before - 8192
