"""T10 and T11 of the threat list: names that are swapped while we use them. The swapper only has to win once."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from hpcbatch.errors import FileDamaged, FilesystemError, SpecError
from hpcbatch.fs.scan import read_document
from hpcbatch.merge.write import write_output
from hpcbatch.operations.outputs import output_place
from hpcbatch.registry import snapshots
from hpcbatch.registry.snapshots import put_code, put_model
from hpcbatch.spec.yamlfile import load
from tests.unit.fs.nobody import NOBODY, reachable_folder

SWAPS = 10_000
SECRET = b"password: of the victim\n"


def _swap(name: Path, others: list[Path], times: int) -> None:
    """Give *name* to each of *others* in turn, and the name of that one to what had it."""
    spare = name.with_name("spare")
    for number in range(times):
        other = others[number % len(others)]
        for one, two in ((name, spare), (other, name), (name, other), (spare, name)):
            os.rename(one, two)


@contextmanager
def swapped(name: Path, *others: Path) -> Iterator[list[bool]]:
    """While another process swaps *name*, 10,000 times; the list holds True until it has ended."""
    process = get_context("fork").Process(target=_swap, args=(name, list(others), SWAPS))
    process.start()

    class Busy(list[bool]):
        def __bool__(self) -> bool:
            return process.is_alive()

    yield Busy([True])
    process.join()
    assert process.exitcode == 0


@pytest.fixture
def trap(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A folder in which others may write, a file of it, and a link to the victim's secret beside that folder."""
    folder, aside = tmp_path / "code", tmp_path / "aside"
    folder.mkdir()
    aside.mkdir()
    (tmp_path / "secret").write_bytes(SECRET)
    (folder / "score.py").write_bytes(b"name: theirs\n")
    (aside / "link").symlink_to(tmp_path / "secret")
    return folder, folder / "score.py", aside / "link"


def test_t11_a_file_that_becomes_a_link_after_it_was_checked_is_not_read(trap: tuple[Path, Path, Path]) -> None:
    """What was open counts, not what was looked up; so for a folder on the way, and for code as for models."""
    folder, file, link = trap
    (folder / "deep").mkdir()
    (folder / "deep" / "secret").write_bytes(b"theirs")
    found = snapshots._files(folder, prefix="", skip=lambda name: False)
    file.unlink()
    link.rename(file)
    (folder / "deep" / "secret").unlink()
    (folder / "deep").rmdir()
    (folder / "deep").symlink_to(folder.parent)
    for one in found:
        with pytest.raises(SpecError, match="leads out of the folder"):
            snapshots._opened(one)
        with pytest.raises(SpecError, match="leads out of the folder"):
            snapshots._index_entry(one)


def test_t11_ten_thousand_swaps_bring_no_secret_into_a_snapshot(trap: tuple[Path, Path, Path], tmp_path: Path) -> None:
    folder, file, link = trap
    put_code(tmp_path / "ws", folder)
    with swapped(file, link) as busy:
        while busy:
            for put in (put_code, put_model):
                try:
                    put(tmp_path / "ws", folder)
                except (SpecError, FileDamaged, FilesystemError, FileNotFoundError):
                    continue
    kept = [path for path in (tmp_path / "ws").rglob("*") if path.is_file()]
    archives = [zipfile.ZipFile(path) for path in kept if path.suffix == ".zip"]
    assert archives
    assert SECRET not in [archive.read(name) for archive in archives for name in archive.namelist()]
    assert SECRET not in [path.read_bytes() for path in kept]


def test_t11_ten_thousand_swaps_of_a_file_that_we_keep_neither_hang_nor_lead_elsewhere(
    trap: tuple[Path, Path, Path],
) -> None:
    """A document is what it was, or it is refused: never what a link leads to, and nobody waits for a fifo."""
    _, file, link = trap
    os.mkfifo(link.with_name("fifo"))
    link.with_name("huge").touch()
    os.truncate(link.with_name("huge"), 1 << 40)
    with swapped(file, link, link.with_name("fifo"), link.with_name("huge")) as busy:
        while busy:
            try:
                assert read_document(file, 1 << 20) == b"name: theirs\n"
            except (FileDamaged, FileNotFoundError):
                continue


def test_t11_a_yaml_file_that_is_swapped_is_read_once_and_whole(trap: tuple[Path, Path, Path]) -> None:
    """All that is decided comes from one reading: no field of one file beside a field of another."""
    _, file, link = trap
    link.with_name("other").write_text("name: other\n# " + "x" * 5000 + "\nname2: other\n")
    with swapped(file, link.with_name("other")) as busy:
        while busy:
            try:
                data = load(file).data
            except SpecError:  # for a moment it has no name
                continue
            assert data in ({"name": "theirs"}, {"name": "other", "name2": "other"})


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="making links of two users needs root")
def test_t10_an_output_folder_that_somebody_made_a_link_is_refused() -> None:
    """By invoke, which wrote nothing then, and by the merge."""
    with reachable_folder() as shared:
        shared.chmod(0o777)
        (shared / "victim").mkdir()
        (shared / "out").symlink_to("victim")
        os.lchown(shared / "out", NOBODY, NOBODY)
        for path in (shared / "out", shared / "out" / "new" / "deep"):
            with pytest.raises(FilesystemError, match=f"symbolic link that user {NOBODY} made"):
                output_place(str(path), {}, "predictions.csv", shared / "job")
        with pytest.raises(FilesystemError, match=f"symbolic link that user {NOBODY} made"):
            write_output(shared / "out" / "predictions.csv", lambda fd: None, owner="0" * 32)
        assert os.listdir(shared / "victim") == []


@pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="making links of two users needs root")
def test_t11_ten_thousand_swaps_of_an_output_folder_put_nothing_elsewhere() -> None:
    with reachable_folder() as shared:
        shared.chmod(0o777)
        (shared / "victim").mkdir()
        (shared / "out").mkdir()
        (shared / "link").symlink_to("victim")
        os.lchown(shared / "link", NOBODY, NOBODY)
        with swapped(shared / "out", shared / "link") as busy:
            number = 0
            while busy:
                number += 1
                try:
                    write_output(shared / "out" / f"{number}.csv", lambda fd: None, owner="0" * 32)
                except FilesystemError:
                    continue
        assert os.listdir(shared / "victim") == []
