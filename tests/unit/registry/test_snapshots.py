"""Snapshots: the same files give the same digest, a later edit changes nothing, a killed writer leaves no trace."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FileDamaged, FilesystemError, SpecError
from hpcbatch.fs.publish import is_temp
from hpcbatch.ids import canonical, sha256
from hpcbatch.registry import snapshots
from hpcbatch.registry.snapshots import model_folder, put_code, put_model

Put = Callable[[Path, Path], Any]


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "project" / "code"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "batch_driver.py").write_text("def run(mini_batch): return mini_batch\n")
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o750)
    (folder / "deep" / "er" / "ä file.txt").write_bytes(b"\0\xff" * 1000)
    return folder


def _temporary(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if is_temp(name)]


def test_code_is_one_sorted_zip_named_by_its_bytes(tmp_path: Path, code: Path) -> None:
    snapshot = put_code(tmp_path, code)
    raw = snapshot.path.read_bytes()
    assert (snapshot.digest, snapshot.size_bytes, snapshot.file_count) == (sha256(raw), len(raw), 3)
    assert snapshot.path == tmp_path / "registry" / "snapshots" / "code" / f"{snapshot.digest}.zip"
    assert stat.S_IMODE(snapshot.path.stat().st_mode) == 0o444
    with zipfile.ZipFile(snapshot.path) as archive:
        assert archive.testzip() is None
        infos = archive.infolist()
        assert [one.filename for one in infos] == ["batch_driver.py", "deep/er/ä file.txt", "run.sh"]
        assert [oct(one.external_attr >> 16) for one in infos] == ["0o100644", "0o100644", "0o100755"]
        assert {(one.compress_type, one.date_time) for one in infos} == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}
        assert archive.read("deep/er/ä file.txt") == (code / "deep" / "er" / "ä file.txt").read_bytes()


def test_the_same_code_elsewhere_and_later_is_the_same_snapshot(tmp_path: Path, code: Path) -> None:
    first = put_code(tmp_path, code)
    copy = tmp_path / "copy"
    shutil.copytree(code, copy)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "x.cpython-311.pyc").write_bytes(b"x")
    (copy / ".git").mkdir()
    (copy / ".git" / "config").write_text("x")
    (copy / "old.pyc").write_bytes(b"x")
    os.utime(copy / "batch_driver.py", (0, 0))
    assert put_code(tmp_path, copy) == first
    assert put_code(tmp_path, copy / "deep" / "..") == first
    assert os.listdir(first.path.parent) == [first.path.name]


def test_an_edit_afterwards_makes_another_snapshot_and_leaves_the_first(tmp_path: Path, code: Path) -> None:
    first = put_code(tmp_path, code)
    before = first.path.read_bytes()
    (code / "batch_driver.py").write_text("def run(mini_batch): return []\n")
    assert put_code(tmp_path, code).digest != first.digest
    assert first.path.read_bytes() == before


def test_a_single_file_is_taken_alone(tmp_path: Path, code: Path) -> None:
    snapshot = put_code(tmp_path, code / "batch_driver.py")
    with zipfile.ZipFile(snapshot.path) as archive:
        assert archive.namelist() == ["batch_driver.py"]


def test_code_in_a_zip_can_be_imported(tmp_path: Path, code: Path) -> None:
    program = "import sys; sys.path.insert(0, sys.argv[1]); import batch_driver; print(batch_driver.run([1]))"
    command = [sys.executable, "-c", program, str(put_code(tmp_path, code).path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[1]\n"


def test_a_folder_model_keeps_its_name_below_content(tmp_path: Path, code: Path) -> None:
    snapshot = put_model(tmp_path, code)
    content = model_folder(tmp_path, snapshot.digest)
    assert snapshot.path == content.parent
    assert (snapshot.basename, snapshot.is_folder, snapshot.file_count) == ("code", True, 3)
    assert sorted(p.relative_to(content).as_posix() for p in content.rglob("*") if p.is_file()) == [
        "code/batch_driver.py",
        "code/deep/er/ä file.txt",
        "code/run.sh",
    ]
    assert (content / "code" / "deep" / "er" / "ä file.txt").read_bytes() == b"\0\xff" * 1000
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in content.rglob("*") if p.is_file()}
    assert modes == {"batch_driver.py": 0o444, "run.sh": 0o555, "ä file.txt": 0o444}


def test_the_index_lists_every_file_and_gives_the_digest(tmp_path: Path, code: Path) -> None:
    snapshot = put_model(tmp_path, code)
    index = json.loads((snapshot.path / "index.json").read_bytes())
    assert snapshot.digest == sha256(canonical(index))
    assert [one["path"] for one in index] == ["code/batch_driver.py", "code/deep/er/ä file.txt", "code/run.sh"]
    for one in index:
        raw = (snapshot.path / "content" / one["path"]).read_bytes()
        assert (one["size"], one["sha256"]) == (len(raw), sha256(raw))
    assert snapshot.size_bytes == sum(one["size"] for one in index)


def test_a_file_model_stands_alone_below_content(tmp_path: Path, code: Path) -> None:
    snapshot = put_model(tmp_path, code / "run.sh")
    assert (snapshot.basename, snapshot.is_folder, snapshot.file_count) == ("run.sh", False, 1)
    assert os.listdir(snapshot.path / "content") == ["run.sh"]


def test_the_same_model_again_copies_nothing(tmp_path: Path, code: Path) -> None:
    first = put_model(tmp_path, code)
    inode = (first.path / "index.json").stat().st_ino
    assert put_model(tmp_path, code) == first
    assert (first.path / "index.json").stat().st_ino == inode
    (code / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    assert put_model(tmp_path, code).digest != first.digest
    assert len(os.listdir(first.path.parent)) == 2


def test_the_same_file_under_another_name_is_another_model(tmp_path: Path, code: Path) -> None:
    """Scripts find the model by its name below AZUREML_MODEL_DIR."""
    first = put_model(tmp_path, code)
    code.rename(code.parent / "model")
    assert put_model(tmp_path, code.parent / "model").digest != first.digest


def _outside(folder: Path) -> None:
    (folder / "link").symlink_to("/etc/hostname")


def _outside_folder(folder: Path) -> None:
    (folder / "link").symlink_to("/etc")


def _sibling(folder: Path) -> None:
    (folder.parent / "code2").mkdir()
    (folder / "link").symlink_to("../code2")


def _itself(folder: Path) -> None:
    (folder / "link").symlink_to("link")


def _dangling(folder: Path) -> None:
    (folder / "link").symlink_to("nothing")


def _circle(folder: Path) -> None:
    (folder / "deep" / "link").symlink_to("../deep")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "fifo")


def _bad_name(folder: Path) -> None:
    os.close(os.open(os.fsencode(folder) + b"/\xff\xfe", os.O_CREAT))


@pytest.mark.parametrize("put", [put_code, put_model])
@pytest.mark.parametrize(
    "spoil",
    [_outside, _outside_folder, _sibling, _itself, _dangling, _circle, _fifo, _bad_name],
    ids=lambda f: f.__name__,
)
def test_what_cannot_be_copied_truly_is_refused(tmp_path: Path, code: Path, put: Put, spoil: Any) -> None:
    spoil(code)
    with pytest.raises(SpecError) as caught:
        put(tmp_path, code)
    assert "run the same command again" in caught.value.hint
    assert caught.value.fields["found"]
    assert not (tmp_path / "registry").exists() or _temporary(tmp_path / "registry" / "snapshots") == []


@pytest.mark.parametrize("put", [put_code, put_model])
def test_links_inside_the_folder_are_copied_as_what_they_point_to(tmp_path: Path, code: Path, put: Put) -> None:
    (code / "same.py").symlink_to("batch_driver.py")
    (code / "shallow").symlink_to("deep/er")
    assert put(tmp_path, code).file_count == 5


@pytest.mark.parametrize("put", [put_code, put_model])
def test_nothing_is_no_snapshot(tmp_path: Path, put: Put) -> None:
    empty = tmp_path / "empty"
    (empty / "__pycache__").mkdir(parents=True)
    with pytest.raises(SpecError, match="holds no files"):
        put(tmp_path, empty)
    with pytest.raises(SpecError, match="neither"):
        put(tmp_path, Path("/dev/null"))
    with pytest.raises(FilesystemError, match="No such file"):
        put(tmp_path, tmp_path / "missing")


def test_a_stat_that_fails_is_an_error_of_the_filesystem(tmp_path: Path, code: Path) -> None:
    """A name that leads through a plain file cannot be looked up."""
    (code / "link").symlink_to("run.sh/below")
    with pytest.raises(FilesystemError, match="Not a directory"):
        put_code(tmp_path, code)


def test_a_model_that_changes_while_it_is_copied_is_not_published(tmp_path: Path, code: Path) -> None:
    """The digest was taken in a first pass; the copy must match it."""
    one = snapshots._files(code, prefix="code", skip=lambda name: False)[0]
    entry = {**snapshots._index_entry(one), "sha256": "0" * 64}
    with pytest.raises(FileDamaged, match="changed while"):
        snapshots._copy(one, entry, tmp_path / "content", 0o755)


def test_a_model_published_by_another_between_look_and_rename_is_used(tmp_path: Path, code: Path) -> None:
    context = get_context("fork")
    start = context.Barrier(4)
    processes = [context.Process(target=_put_both, args=(tmp_path, code, start)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    for kind in ("code", "models"):
        assert len(os.listdir(tmp_path / "registry" / "snapshots" / kind)) == 1


def _put_both(root: Path, folder: Path, start: Any) -> None:
    start.wait()
    put_model(root, folder)
    start.wait()
    put_code(root, folder)


def _put_forever(root: Path, folder: Path) -> None:
    number = 0
    while True:
        (folder / "number").write_text(str(number))
        put_code(root, folder)
        put_model(root, folder)
        number += 1


@pytest.mark.parametrize("delay_ms", range(2, 42, 4))
def test_a_killed_writer_leaves_whole_snapshots_and_temporary_names(tmp_path: Path, code: Path, delay_ms: int) -> None:
    for number in range(20):
        (code / f"file{number}").write_bytes(os.urandom(50_000))
    process = get_context("fork").Process(target=_put_forever, args=(tmp_path, code))
    process.start()
    models = tmp_path / "registry" / "snapshots" / "models"
    while not models.is_dir():
        time.sleep(0.001)
    time.sleep(delay_ms / 1000)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    for path in (tmp_path / "registry" / "snapshots" / "code").iterdir():
        assert is_temp(path.name) or path.name == f"{sha256(path.read_bytes())}.zip"
    for path in models.iterdir():
        if is_temp(path.name):
            continue
        index = json.loads((path / "index.json").read_bytes())
        assert path.name == sha256(canonical(index))
        assert all(sha256((path / "content" / one["path"]).read_bytes()) == one["sha256"] for one in index)
    assert put_model(tmp_path, code).path.is_dir()


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_snapshots_are_readable_for_the_team_whatever_the_umask(tmp_path: Path, code: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        model, zipped = put_model(tmp_path, code), put_code(tmp_path, code)
    finally:
        os.umask(before)
    for path in [model.path, *model.path.rglob("*"), zipped.path]:
        assert stat.S_IMODE(path.stat().st_mode) in (0o755, 0o444, 0o555), path


def test_code_of_another_workspace_is_copied_unless_it_is_something_else(tmp_path: Path, code: Path) -> None:
    made = put_code(tmp_path / "other", code)
    for _ in range(2):
        snapshots.adopt_code(tmp_path / "mine", tmp_path / "other", made.digest)
    assert snapshots.code_file(tmp_path / "mine", made.digest).read_bytes() == made.path.read_bytes()
    made.path.chmod(0o644)
    made.path.write_bytes(b"something else")
    with pytest.raises(FileDamaged, match="is not the code that was registered"):
        snapshots.adopt_code(tmp_path / "mine", tmp_path / "other", made.digest)


def test_includes_stand_beside_the_code_under_their_own_names(tmp_path: Path) -> None:
    code, shared = tmp_path / "code", tmp_path / "shared"
    (shared / "deep").mkdir(parents=True)
    code.mkdir()
    (code / "main.py").write_text("import helper\n")
    (shared / "deep" / "helper.py").write_text("x = 1\n")
    (tmp_path / "settings.json").write_text("{}")
    snapshot = put_code(tmp_path / "ws", code, [shared, tmp_path / "settings.json"])
    with zipfile.ZipFile(snapshot.path) as archive:
        assert archive.namelist() == ["main.py", "settings.json", "shared/deep/helper.py"]
    alone = put_code(tmp_path / "ws", None, [shared])
    assert (alone.file_count, alone.digest) == (1, put_code(tmp_path / "ws", None, [shared]).digest)


@pytest.mark.parametrize("taken", ["main.py", "shared/other.py"])
def test_an_include_never_replaces_what_the_code_has(tmp_path: Path, taken: str) -> None:
    code, name = tmp_path / "code", taken.partition("/")[0]
    (code / taken).parent.mkdir(parents=True)
    (code / taken).write_text("x = 1\n")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / name).write_text("x = 2\n")
    with pytest.raises(SpecError, match="would replace what the code has"):
        put_code(tmp_path / "ws", code, [tmp_path / "elsewhere" / name])


def test_a_file_that_leads_elsewhere_when_it_is_opened_is_not_read(code: Path, tmp_path: Path) -> None:
    """It was one of the folder's when that was listed. tests/contract/test_swaps.py has somebody swap it all along."""
    found = list(snapshots._files(code, prefix="", skip=lambda name: False))
    (tmp_path / "secret").write_text("theirs")
    for one in found:
        os.unlink(one.source)
        os.symlink(tmp_path / "secret", one.source)
        with pytest.raises(SpecError, match="leads out of the folder"):
            snapshots._opened(one)
