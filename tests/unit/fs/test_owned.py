"""What somebody else put in the place of a folder of ours is not used."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs.owned import pinned, refuse_links_of_others, require_own_folder, user_name
from hpcbatch.registry.store import Stream
from tests.unit.fs.nobody import NOBODY, as_nobody, reachable_folder


@pytest.fixture
def stranger(monkeypatch: pytest.MonkeyPatch) -> int:
    """The user id of somebody who made what `as_nobody` makes; who is not root becomes another user for the check."""
    if os.geteuid() == 0:
        return NOBODY
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    return owner


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder in which everybody may write, as a workspace that a team shares."""
    with reachable_folder() as folder:
        folder.chmod(0o1777)
        yield folder


def test_a_folder_of_ones_own_is_fine(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir(0o700)
    require_own_folder(tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    require_own_folder(tmp_path / "link")
    refuse_links_of_others(tmp_path / "link", levels=1)
    refuse_links_of_others(tmp_path / "nothing" / "there", levels=2)


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777])
def test_a_folder_in_which_others_may_write_is_not(tmp_path: Path, mode: int) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine").chmod(mode)
    with pytest.raises(FilesystemError, match="Others may write") as caught:
        require_own_folder(tmp_path / "mine")
    assert caught.value.hint.startswith("Take that right away: chmod go-w ")


def test_what_somebody_else_made_under_our_name_is_refused(shared: Path, stranger: int) -> None:
    (shared / "ours").mkdir(0o700)
    with as_nobody():
        (shared / "folder").mkdir(0o700)
        (shared / "link").symlink_to(shared / "ours")
    with pytest.raises(FilesystemError, match=f"belongs to user {stranger}"):
        require_own_folder(shared / "folder")
    with pytest.raises(FilesystemError, match=f"symbolic link that user {stranger} made"):
        require_own_folder(shared / "link")


@pytest.mark.parametrize("trap", ["models", "models/heart"])
def test_a_registry_writes_nothing_through_a_link_of_somebody_else(shared: Path, stranger: int, trap: str) -> None:
    """Neither as the folder of a name nor as that of a kind."""
    victim = shared / "victim"
    victim.mkdir(0o700)
    (shared / trap).parent.mkdir(exist_ok=True)
    (shared / trap).parent.chmod(0o1777)
    with as_nobody():
        (shared / trap).symlink_to(victim)
    with pytest.raises(FilesystemError, match="symbolic link"):
        Stream(shared / "models" / "heart", "model heart").append({}, op="create", expected=0)
    assert list(victim.iterdir()) == []


def test_a_pinned_folder_stays_that_folder_whatever_its_name_becomes(tmp_path: Path) -> None:
    """Links of one's own, relative, absolute and in a row, lead there."""
    (tmp_path / "real" / "deep").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("./real/../real")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative")
    for name in ("real", "relative", "absolute"):
        with pinned(tmp_path / name / "deep") as folder:
            (tmp_path / "real").rename(tmp_path / "moved")
            (tmp_path / "real" / "deep").mkdir(parents=True)
            (folder / name).touch()
            assert (tmp_path / "moved" / "deep" / name).exists()
            assert os.listdir(tmp_path / "real" / "deep") == []
        shutil.rmtree(tmp_path / "real")
        (tmp_path / "moved").rename(tmp_path / "real")


def test_what_cannot_be_pinned_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "dangling").symlink_to("nothing")
    before = len(os.listdir("/proc/self/fd"))
    for name, kind, words in (
        ("file", NotADirectoryError, "file"),
        ("file/below", NotADirectoryError, "file"),
        ("dangling", FileNotFoundError, "nothing"),
        ("absent/below", FileNotFoundError, "absent"),
        ("circle", OSError, "circle"),
    ):
        with pytest.raises(kind) as caught, pinned(tmp_path / name):
            pass
        assert caught.value.filename == str(tmp_path / words)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_link_of_the_owner_of_its_folder_is_followed_and_one_of_a_stranger_is_not(shared: Path) -> None:
    """The kernel's rule for /tmp, whose link count and mode do not matter here."""
    if os.geteuid() != 0:
        pytest.skip("making links of two users needs root")
    (shared / "ours").mkdir()
    (shared / "link").symlink_to("ours")
    os.lchown(shared / "link", NOBODY, NOBODY)
    with pytest.raises(FilesystemError, match=f"symbolic link that user {NOBODY} made"), pinned(shared / "link"):
        pass
    os.chown(shared, NOBODY, NOBODY)
    with pinned(shared / "link") as folder:
        assert folder.samefile(shared / "ours")


def test_a_user_without_a_name_is_called_by_his_number() -> None:
    """As in a container, where /etc/passwd does not have everybody."""
    assert user_name() == pwd.getpwuid(os.getuid()).pw_name
    assert user_name(4_000_000_019) == "4000000019"
