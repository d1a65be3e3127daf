"""Ignore files: what they leave out of snapshots of code and models, by Azure ML's rules."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.registry.snapshots import put_code, put_model

FILES = ("a.py", "b.log", "data/keep.csv", "data/one.csv", "deep/data/two.csv", "deep/er/b.log", "deep/er/c.py")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        path = tmp_path / "code" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "code"


def kept(root: Path, folder: Path, includes: Sequence[Path] = ()) -> list[str]:
    """The files of a snapshot of the code, without the ignore files themselves, which travel with it."""
    with zipfile.ZipFile(put_code(root, folder, includes).path) as archive:
        return [name for name in archive.namelist() if Path(name).name not in (".amlignore", ".gitignore")]


def without(*names: str) -> list[str]:
    return [name for name in FILES if name not in names]


@pytest.mark.parametrize(
    ("lines", "left_out"),
    [
        ("# data/\n\n", []),
        ("*.log", ["b.log", "deep/er/b.log"]),
        ("/b.log", ["b.log"]),
        ("data/", ["data/one.csv", "data/keep.csv", "deep/data/two.csv"]),
        ("/data", ["data/one.csv", "data/keep.csv"]),
        ("deep/**/*.log", ["deep/er/b.log"]),
        ("*.log\n!deep/er/*.log", ["b.log"]),
        ("!b.log\n*.log", ["b.log", "deep/er/b.log"]),
        ("data/*\n!data/keep.csv", ["data/one.csv"]),
        # Azure ML goes by the last pattern that matches; git would not look into a folder that is left out
        ("data/\n!data/keep.csv", ["data/one.csv", "deep/data/two.csv"]),
        ("*\n!*.py", ["b.log", "data/one.csv", "data/keep.csv", "deep/data/two.csv", "deep/er/b.log"]),
        ("\\!a.py", []),
    ],
)
def test_a_pattern_means_what_it_means_to_azure_ml(
    tmp_path: Path, folder: Path, lines: str, left_out: list[str]
) -> None:
    (folder / ".amlignore").write_text(lines)
    assert kept(tmp_path, folder) == without(*left_out)


def test_gitignore_counts_where_there_is_no_amlignore(tmp_path: Path, folder: Path) -> None:
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "deep" / ".amlignore").write_text("*.py\n")  # not at the top
    assert kept(tmp_path, folder) == without("b.log", "deep/er/b.log")
    (folder / ".amlignore").write_text("")
    assert kept(tmp_path, folder) == list(FILES)


def test_a_model_leaves_out_what_its_ignore_file_says(tmp_path: Path, folder: Path) -> None:
    (folder / ".amlignore").write_text("*.csv\n.amlignore\n")
    content = put_model(tmp_path, folder).path / "content" / "code"
    found = sorted(str(path.relative_to(content)) for path in content.rglob("*") if path.is_file())
    assert found == without("data/one.csv", "data/keep.csv", "deep/data/two.csv")


def test_a_folder_that_is_included_has_its_own_rules(tmp_path: Path, folder: Path) -> None:
    (folder / ".amlignore").write_text("*.md\n")
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / ".amlignore").write_text("*.tmp\n")
    for name in ("read.md", "x.tmp", "y.py"):
        (shared / name).touch()
    assert kept(tmp_path, folder, [shared]) == [*FILES, "shared/read.md", "shared/y.py"]


def test_links_that_are_left_out_may_lead_anywhere(tmp_path: Path, folder: Path) -> None:
    for name, target in (("outside", tmp_path), ("nowhere", "x"), ("circle", "circle"), ("file", "/etc/hostname")):
        os.symlink(target, folder / name)
    (folder / ".amlignore").write_text("outside/\nnowhere\ncircle\n/fil*\n!never\n")
    assert kept(tmp_path, folder) == list(FILES)


def test_a_folder_with_nothing_left_and_a_line_that_is_no_pattern_are_refused(tmp_path: Path, folder: Path) -> None:
    (folder / ".gitignore").write_text("*\n")
    with pytest.raises(SpecError, match=r"holds no files but what \.gitignore leaves out"):
        put_code(tmp_path, folder)
    (folder / ".amlignore").write_text("a\n!\n")
    with pytest.raises(SpecError, match="is no pattern") as caught:
        put_code(tmp_path, folder)
    assert (caught.value.fields["file"], caught.value.fields["line"]) == (str(folder / ".amlignore"), 2)
