"""Listing an input: every file once, in one order, whatever their names and folders are."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcbatch.dataio.inputs import list_items
from hpcbatch.errors import FilesystemError, SpecError
from hpcbatch.records.plan import pack_manifest, parse_manifest
from tests.unit.fs.nobody import NOBODY, as_nobody, reachable_folder

part = st.binary(min_size=1, max_size=6).filter(lambda p: not set(p) & {0, 47} and p not in (b".", b".."))
paths = st.lists(st.lists(part, min_size=1, max_size=3).map(b"/".join), min_size=1, max_size=25)


def grow(root: Path, names: list[bytes]) -> list[bytes]:
    """Make files of these names, except where a folder is in the way; the names that there are."""
    made = set()
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
            made.add(name)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    return list(made)


def listed(folder: Path) -> list[bytes]:
    return list_items(str(folder), "uri_folder").names


@given(names=paths)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_file_comes_once_in_the_byte_order_of_its_parts(tmp_path: Path, names: list[bytes]) -> None:
    """However the files came into the folder and whatever bytes their names are made of."""
    root = Path(tempfile.mkdtemp(dir=tmp_path))
    made = grow(root, names)
    assert listed(root) == sorted(made, key=lambda name: name.split(b"/"))


def test_the_order_is_that_of_parts_and_not_of_whole_paths(tmp_path: Path) -> None:
    """`a` comes before `a.b` although `/` sorts after `.`; capitals before small letters, digits as text."""
    wanted = [b"10", b"9", b"B", b"a/x", b"a/y/z", b"a.b", b"a.b.c", b"b", b"\xc3\xa9", b"\xff"]
    grow(tmp_path, random.sample(wanted, len(wanted)))
    assert listed(tmp_path) == wanted


def test_names_that_are_not_utf_8_reach_the_worker_as_they_are(tmp_path: Path) -> None:
    """From the listing through the manifest to a path that can be opened."""
    root = tmp_path / os.fsdecode(b"caf\xe9")
    root.mkdir()
    grow(root, [b"\xff\xfe.csv", b"new\nline", b"blank and 'quote'"])
    items = list_items(str(root), "uri_folder")
    manifest = parse_manifest(pack_manifest(items.names, root=items.root, mini_batch_size=2))
    found = [path for number in range(manifest.mini_batches) for path in manifest.paths(number)]
    assert len(found) == 3
    assert all(os.path.isfile(path) for path in found)


def test_links_are_followed_to_files_and_folders(tmp_path: Path) -> None:
    """An input folder may be made of links into a data store."""
    store, root = tmp_path / "store", tmp_path / "in"
    grow(store, [b"one", b"more/two"])
    root.mkdir()
    (root / "a").symlink_to(store / "one")
    (root / "b").symlink_to(store / "more")
    (root / "c").symlink_to("b")
    assert listed(root) == [b"a", b"b/two", b"c/two"]


@pytest.mark.parametrize("target", [".", "..", "../../in", "../../in/deep", "../other/.."])
def test_a_folder_that_contains_itself_is_entered_once(tmp_path: Path, target: str) -> None:
    """A link back to a folder above is left out, however it is spelled."""
    root = tmp_path / "in"
    grow(root, [b"x", b"deep/y"])
    (root / "other").mkdir()
    (root / "deep" / "loop").symlink_to(target)
    assert listed(root) == [b"deep/y", b"x"]


def test_two_folders_that_contain_each_other_end(tmp_path: Path) -> None:
    """Each is entered once on each way."""
    grow(tmp_path / "in", [b"a/x", b"b/y"])
    (tmp_path / "in" / "a" / "to_b").symlink_to("../b")
    (tmp_path / "in" / "b" / "to_a").symlink_to("../a")
    assert listed(tmp_path / "in") == [b"a/to_b/y", b"a/x", b"b/to_a/x", b"b/y"]


def test_a_link_to_itself_is_named_as_an_error(tmp_path: Path) -> None:
    """Leaving it out would lose an item without a word."""
    grow(tmp_path / "in", [b"a"])
    (tmp_path / "in" / "self").symlink_to("self")
    with pytest.raises(FilesystemError, match=r"/in': Too many levels of symbolic links"):
        listed(tmp_path / "in")


def test_what_is_no_file_is_no_item(tmp_path: Path) -> None:
    """Pipes, links that lead nowhere, and what NFS keeps for files that somebody still has open."""
    grow(tmp_path, [b"a", b".hidden", b".nfs000000000a2f11b200000001", b"deep/.nfs000000000a2f11b3"])
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "nowhere").symlink_to("absent")
    assert listed(tmp_path) == [b".hidden", b"a"]


def test_links_that_lead_nowhere_are_told(tmp_path: Path) -> None:
    """A folder of links into a scratch filesystem that was cleaned: no item may be lost without a word."""
    grow(tmp_path, [b"a.csv", b"deep/b.csv"])
    for name in ("gone.csv", "deep/gone.csv", "deep/gone.txt"):
        (tmp_path / name).symlink_to("absent")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "to_fifo").symlink_to("fifo")
    found = list_items(str(tmp_path), "uri_folder")
    assert (found.names, set(found.broken)) == (
        [b"a.csv", b"deep/b.csv"],
        {b"gone.csv", b"deep/gone.csv", b"deep/gone.txt"},
    )
    assert set(list_items(f"{tmp_path}/**/*.csv", "uri_folder").broken) == {b"gone.csv", b"deep/gone.csv"}


def test_a_name_that_only_begins_as_those_of_nfs_is_an_item(tmp_path: Path) -> None:
    """A client of NFS names what is left of a removed file `.nfs` and 16 to 24 hexadecimal digits, nothing else."""
    names = [b".nfs", b".nfs0001", b".nfs-notes.csv", b".nfs000000000a2f11b200000001.csv", b".nfs" + b"0" * 25]
    grow(tmp_path, names)
    assert listed(tmp_path) == sorted(names)


def test_the_root_ends_in_one_separator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However the input was spelled; relative paths and the home folder are made absolute."""
    grow(tmp_path / "in", [b"a"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for spelling in (f"{tmp_path}/in", f"{tmp_path}/in/", f"{tmp_path}/./in//", "in", "~/in"):
        items = list_items(spelling, "uri_folder")
        assert (items.root, items.names) == (f"{tmp_path}/in/", [b"a"])


@pytest.mark.parametrize("name", ["one.csv", os.fsdecode(b"\xff.csv")])
def test_a_single_file_is_one_item(tmp_path: Path, name: str) -> None:
    """Its folder is the root; a link keeps its own name."""
    (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(name)
    for given_name in (name, "link"):
        items = list_items(str(tmp_path / given_name), "uri_file")
        assert (items.root, items.names) == (f"{tmp_path}/", [os.fsencode(given_name)])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("absent", "uri_folder", r"'absent' does not exist \(looked at '/.*/absent'\)"),
        ("absent", "uri_file", "does not exist"),
        ("empty", "uri_folder", "holds no file(.|\n)*ls -R"),
        ("only/folders", "uri_folder", "holds no file"),
        ("file", "uri_folder", "is a file(.|\n)*--input-type uri_file"),
        ("empty", "uri_file", "is a folder(.|\n)*--input-type uri_folder"),
    ],
)
def test_an_input_that_cannot_be_scored_is_refused_with_the_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, message: str
) -> None:
    """Before anything is written or submitted."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "only" / "folders" / "here").mkdir(parents=True)
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=message) as caught:
        list_items(name, kind)
    assert (caught.value.fields["field"], caught.value.fields["found"]) == ("input", name)


def test_a_path_through_a_file_is_named(tmp_path: Path) -> None:
    """It is an error of the path, said in our words."""
    (tmp_path / "file").touch()
    with pytest.raises(FilesystemError, match="a file, not a folder"):
        list_items(str(tmp_path / "file" / "x"), "uri_folder")


@pytest.mark.parametrize("mode", [0o000, 0o600])
def test_a_folder_that_may_not_be_read_is_named(mode: int) -> None:
    """One closed folder in the middle must not silently make the job smaller."""
    with reachable_folder() as folder:
        grow(folder / "in", [b"a", b"closed/deep/b"])
        closed = folder / "in" / "closed"
        os.chown(closed, NOBODY if os.geteuid() == 0 else -1, -1)
        closed.chmod(mode)
        with as_nobody(), pytest.raises(FilesystemError, match=r"/in/closed.*Permission denied"):
            listed(folder / "in")
        closed.chmod(0o755)


def test_a_wide_and_deep_tree_is_listed_without_recursion(tmp_path: Path) -> None:
    """Seven hundred folders deep and two thousand files wide."""
    at = tmp_path / "in"
    at.mkdir()
    for number in range(2000):
        (at / f"{number:05d}").touch()
    here = os.getcwd()
    os.chdir(at)
    try:
        for _ in range(700):
            os.mkdir("d")
            os.chdir("d")
        Path("end").touch()
    finally:
        os.chdir(here)
    found = listed(at)
    assert len(found) == 2001
    assert found[-1] == b"d/" * 700 + b"end"
