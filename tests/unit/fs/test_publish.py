"""Publishing: whole or not at all, the first writer wins, and what went wrong is said in a sentence."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FilesystemError
from hpcbatch.fs import publish
from hpcbatch.fs.publish import (
    create_exclusive,
    create_once,
    explained,
    filesystem_error,
    fsync_directory,
    is_temp,
    link_once,
    make_directory,
    publish_directory,
    remove_tree,
    says_full,
    staged,
    temp_name,
    write_all,
)

WRITERS = 8


def put(name: str, content: bytes) -> Callable[[Path], None]:
    """A `fill` that leaves one file."""
    return lambda folder: (folder / name).write_bytes(content) and None


def fails_with(number: int) -> Callable[..., Any]:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


def test_the_first_content_stays(tmp_path: Path) -> None:
    """Whatever a second writer brings; the mode is the one that was asked for."""
    path = tmp_path / "x"
    assert create_once(path, b"first", 0o444)
    assert not create_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert os.listdir(tmp_path) == ["x"]
    assert path.stat().st_nlink == 1


@pytest.mark.parametrize("kind", ["folder", "dangling link"])
def test_any_name_that_is_taken_is_taken(tmp_path: Path, kind: str) -> None:
    """A link that leads nowhere is not followed."""
    path = tmp_path / "x"
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    assert not create_once(path, b"content")
    assert os.listdir(tmp_path) == ["x"]


def _race(make: Callable[[int], bool], barrier: Any, wins: Any, number: int) -> None:
    barrier.wait()
    if make(number):
        with wins.get_lock():
            wins.value += 1


def winners(make: Callable[[int], bool]) -> int:
    """How many of eight processes that start at the same moment are told that they were first."""
    context = get_context("fork")
    barrier, wins = context.Barrier(WRITERS), context.Value("i", 0)
    processes = [context.Process(target=_race, args=(make, barrier, wins, number)) for number in range(WRITERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return int(wins.value)


@pytest.mark.parametrize("size", [1, 300_000])
def test_of_many_writers_one_file_is_published_whole(tmp_path: Path, size: int) -> None:
    """One is told that it was first, the others that they were not, and nobody sees a mixture."""
    path = tmp_path / "x"
    assert winners(lambda number: create_once(path, bytes([number]) * size)) == 1
    assert path.read_bytes() in [bytes([number]) * size for number in range(WRITERS)]
    assert os.listdir(tmp_path) == ["x"]


def test_of_many_writers_one_folder_is_published_whole(tmp_path: Path) -> None:
    """As with files."""
    path = tmp_path / "x"

    def make(number: int) -> bool:
        def fill(folder: Path) -> None:
            for name in "abc":
                (folder / name).write_bytes(bytes([number]))

        return publish_directory(path, fill)

    assert winners(make) == 1
    assert len({(path / name).read_bytes() for name in "abc"}) == 1
    assert os.listdir(tmp_path) == ["x"]


def test_of_many_makers_of_one_folder_none_fails(tmp_path: Path) -> None:
    """It is there for each of them."""
    assert winners(lambda number: make_directory(tmp_path / "a" / "b" / "c") is None) == WRITERS


def test_a_folder_that_somebody_makes_at_the_same_moment_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the making; it keeps the mode that its maker gave it."""
    real = os.mkdir

    def beaten(path: Path, mode: int) -> None:
        real(path, 0o711)
        real(path, mode)

    monkeypatch.setattr(os, "mkdir", beaten)
    make_directory(tmp_path / "a" / "b", 0o700)
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o711


def test_a_folder_is_published_once(tmp_path: Path) -> None:
    """With its mode; a second one changes nothing and leaves nothing behind."""
    assert publish_directory(tmp_path / "x", put("a", b"1"), 0o755)
    assert not publish_directory(tmp_path / "x", put("a", b"2"))
    assert (tmp_path / "x" / "a").read_bytes() == b"1"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o755
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("number", [errno.EEXIST, errno.ENOTEMPTY])
def test_a_folder_that_appears_at_the_last_moment_is_respected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Between the look and the rename another writer was first."""
    monkeypatch.setattr(os, "rename", fails_with(number))
    assert not publish_directory(tmp_path / "x", put("a", b"1"))
    assert os.listdir(tmp_path) == []


def test_a_folder_that_could_not_be_filled_is_not_there(tmp_path: Path) -> None:
    """An error of filling is no sign that another writer was first, whatever its number is."""

    def twice(folder: Path) -> None:
        os.close(create_exclusive(folder / "a"))
        create_exclusive(folder / "a")

    with pytest.raises(FileExistsError):
        publish_directory(tmp_path / "x", twice)
    with pytest.raises(ZeroDivisionError):
        publish_directory(tmp_path / "x", lambda folder: 1 // 0 and None)
    assert os.listdir(tmp_path) == []


def test_a_rename_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is named, not the temporary one."""
    monkeypatch.setattr(os, "rename", fails_with(errno.EIO))
    with pytest.raises(FilesystemError, match=r"/x': Input/output error"):
        publish_directory(tmp_path / "x", put("a", b"1"))
    assert os.listdir(tmp_path) == []


def test_a_link_whose_reply_was_lost_succeeded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS repeats the call and is told that the name is taken: by itself."""
    real = os.link

    def lossy(source: Path, target: Path, **options: Any) -> None:
        real(source, target, **options)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lossy)
    assert create_once(tmp_path / "x", b"1")
    assert (tmp_path / "x").read_bytes() == b"1"
    assert os.listdir(tmp_path) == ["x"]


def test_a_link_that_fails_publishes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    (tmp_path / "temp").write_bytes(b"1")
    monkeypatch.setattr(os, "link", fails_with(errno.EMLINK))
    with pytest.raises(OSError, match="Too many links"):
        link_once(tmp_path / "temp", tmp_path / "x")
    with pytest.raises(FilesystemError, match=r"/x'.*\n"):
        create_once(tmp_path / "x", b"1")
    assert os.listdir(tmp_path) == ["temp"]


def test_a_staged_file_is_gone_whatever_happened(tmp_path: Path) -> None:
    """Its name is one that every listing of ours skips."""
    with staged(tmp_path) as (path, file):
        assert is_temp(path.name)
        file.write(b"1")
        assert path.read_bytes() == b"1"
    with pytest.raises(ZeroDivisionError), staged(tmp_path):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []
    assert len({temp_name() for _ in range(100)}) == 100


def test_what_a_killed_process_staged_is_found_by_its_owner_again(tmp_path: Path) -> None:
    """And nothing else is removed; a folder that is gone has nothing left in it."""
    kept = [temp_name(), temp_name("other"), "mine-1"]
    for name in (*kept, temp_name("mine"), temp_name("mine")):
        (tmp_path / name).write_bytes(b"1")
    publish.remove_left_over(tmp_path, "mine")
    assert sorted(os.listdir(tmp_path)) == sorted(kept)
    publish.remove_left_over(tmp_path / "absent", "mine")


def test_a_name_that_is_left_over_may_vanish_under_the_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two merges tidy at once."""
    (tmp_path / temp_name("mine")).write_bytes(b"1")
    monkeypatch.setattr(os, "unlink", fails_with(errno.ENOENT))
    publish.remove_left_over(tmp_path, "mine")


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not a byte is dropped, and none is written twice."""
    real, sizes = os.write, []

    def short(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, bytes(data)[:3])

    fd = create_exclusive(tmp_path / "x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", short)
        write_all(fd, b"0123456789")
    os.close(fd)
    assert (tmp_path / "x").read_bytes() == b"0123456789"
    assert sizes == [10, 7, 4, 1]


def test_an_exclusive_file_is_private_and_new(tmp_path: Path) -> None:
    """Never an existing one, never the target of a link."""
    os.close(create_exclusive(tmp_path / "x"))
    (tmp_path / "link").symlink_to(tmp_path / "y")
    for name in ("x", "link"):
        with pytest.raises(FileExistsError):
            create_exclusive(tmp_path / name)
    assert not (tmp_path / "y").exists()
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_the_mode_of_a_folder_does_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    """For each missing part of the path; those that were there keep theirs."""
    (tmp_path / "a").mkdir(mode=0o711)
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "a" / "b" / "c", 0o750)
        make_directory(tmp_path / "a" / "b" / "c", 0o700)
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / part).stat().st_mode) for part in ("a", "a/b", "a/b/c")]
    assert modes == [0o711, 0o750, 0o750]


@pytest.mark.parametrize("path", ["file", "file/a", "file/a/b"])
def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path, path: str) -> None:
    """It names the file."""
    (tmp_path / "file").touch()
    with pytest.raises(FilesystemError, match=r"/file.*Not a directory.*\n.*a file, not a folder"):
        make_directory(tmp_path / path)


def test_a_tree_is_removed_with_what_is_read_only_in_it(tmp_path: Path) -> None:
    """Links go, what they lead to stays; what is not there is fine."""
    (tmp_path / "keep").mkdir()
    (tmp_path / "keep" / "a").touch()
    (tmp_path / "x" / "deep").mkdir(parents=True)
    (tmp_path / "x" / "deep" / "a").touch(0o400)
    (tmp_path / "x" / "link").symlink_to(tmp_path / "keep")
    (tmp_path / "x" / "deep").chmod(0o500)
    remove_tree(tmp_path / "x")
    remove_tree(tmp_path / "x")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["keep", "keep/a"]


@pytest.mark.parametrize(("number", "raises"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_filesystem_without_directory_fsync_is_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raises: bool
) -> None:
    """Any other error of it is one."""
    monkeypatch.setattr(os, "fsync", fails_with(number))
    if raises:
        with pytest.raises(OSError, match="Input/output"):
            fsync_directory(tmp_path)
    else:
        fsync_directory(tmp_path)


@pytest.mark.parametrize("call", [
    lambda path: create_once(path, bytes(100_000)),
    lambda path: publish_directory(path, put("a", bytes(100_000))),
], ids=["create_once", "publish_directory"])  # fmt: skip
def test_a_full_disk_is_named_with_the_next_step(small_disk: Path, call: Callable[[Path], object]) -> None:
    """Nothing is left behind, and after some space was freed the same call succeeds."""
    with pytest.raises(
        FilesystemError, match=r"/disk/x': No space left(.|\n)*df -h(.|\n)*same command again"
    ) as caught:
        call(small_disk / "x")
    assert caught.value.fields["errno"] == errno.ENOSPC
    assert os.listdir(small_disk) == []
    assert create_once(small_disk / "x", b"small")


def test_running_out_of_inodes_is_named_too(small_disk: Path) -> None:
    """`df -i` shows them."""
    deep = small_disk.joinpath(*["d"] * 100)
    with pytest.raises(FilesystemError, match=r"No space left(.|\n)*df -i") as caught:
        make_directory(deep)
    assert caught.value.fields["errno"] == errno.ENOSPC


def test_a_folder_of_somebody_else_is_named_with_the_next_step(foreign: Path) -> None:
    """For each way of writing there; the path is the one that was asked for."""
    for call in (
        lambda path: create_once(path, b"1"),
        lambda path: publish_directory(path, put("a", b"1")),
        make_directory,
    ):
        with pytest.raises(FilesystemError, match=r"/foreign/x': Permission denied(.|\n)*Ask its owner") as caught:
            call(foreign / "x")
        assert caught.value.fields == {"path": str(foreign / "x"), "errno": errno.EACCES}
    assert os.listdir(foreign) == []


@pytest.mark.parametrize("error", [
    OSError(errno.EDQUOT, "x"), OSError(errno.EXDEV, "x"), OSError("no number"),
    OSError(errno.EIO, "x", "/a/.tmp-1"), OSError(errno.EIO, "x", "/a/.tmp-1/deep/b"), OSError(errno.EIO, "x", b"/a/b"),
], ids=str)  # fmt: skip
def test_every_error_names_a_path_that_the_user_knows(error: OSError) -> None:
    """Never a temporary one; and it ends in what to do."""
    found = filesystem_error(error, "/data/x")
    assert found.fields == {"path": "/data/x", "errno": error.errno}
    assert found.message.startswith("Cannot use '/data/x': ")
    assert found.hint.endswith((".", "."))


def test_an_error_that_names_another_path_is_about_that_one() -> None:
    """A missing input, not the output that was being written."""
    assert filesystem_error(FileNotFoundError(errno.ENOENT, "x", "/data/in"), "/data/out").fields["path"] == "/data/in"


def test_a_rename_whose_reply_was_lost_has_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NFS tries again, and is told that there is nothing to rename (rename(2), BUGS)."""
    real = os.rename

    def lost(source: Path, target: Path) -> None:
        real(source, target)
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), str(source))

    monkeypatch.setattr(os, "rename", lost)
    assert publish_directory(tmp_path / "job", put("a", b"1"))
    assert (tmp_path / "job" / "a").read_bytes() == b"1"
    assert not publish_directory(tmp_path / "job", put("a", b"2"))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_is_told_from_a_broken_one(number: int) -> None:
    """However far up the error has come by then."""
    error = OSError(number, os.strerror(number))
    assert says_full(error) == says_full(filesystem_error(error, "/x")) == (number != errno.EIO)


def test_a_name_that_is_taken_is_no_error_of_the_filesystem() -> None:
    """Callers tell it apart."""
    with pytest.raises(FileExistsError), explained("/x"):
        raise FileExistsError(errno.EEXIST, "File exists", "/x")
    assert publish.is_temp(publish.temp_name())
