"""Patterns in input paths: what the shell would match, and `**`."""

from __future__ import annotations

import glob
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcbatch.dataio.inputs import list_items
from hpcbatch.dataio.patterns import parse_pattern, split_pattern
from hpcbatch.errors import SpecError


def grow(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def listed(pattern: str) -> list[str]:
    items = list_items(pattern, "uri_folder")
    return [os.fsdecode(name) for name in items.names]


def test_the_files_that_match_come_in_the_usual_order(tmp_path: Path) -> None:
    """`*` stays within one folder, `**` is any number of folders, `?` and `[...]` are one character."""
    grow(tmp_path, "a.csv", "b.txt", "x/c.csv", "x/y/d.csv", "x.y/e.csv", ".hidden/f.csv", "x/.g.csv")
    assert listed(f"{tmp_path}/*.csv") == ["a.csv"]
    assert listed(f"{tmp_path}/**/*.csv") == ["a.csv", "x/c.csv", "x/y/d.csv", "x.y/e.csv"]
    assert listed(f"{tmp_path}/x?y/*") == ["x.y/e.csv"]
    assert listed(f"{tmp_path}/[ab].*") == ["a.csv", "b.txt"]
    assert listed(f"{tmp_path}/x/.*.csv") == [".g.csv"]
    assert list_items(f"{tmp_path}/x/*.csv", "uri_folder").root == f"{tmp_path}/x/"


def test_a_folder_that_matches_means_its_files(tmp_path: Path) -> None:
    grow(tmp_path, "2024-01/a", "2024-02/deep/b", "2023-12/c")
    assert listed(f"{tmp_path}/2024-*") == ["2024-01/a", "2024-02/deep/b"]


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    """A folder may be named with brackets."""
    grow(tmp_path, "run[1]/a", "run1/b")
    assert listed(f"{tmp_path}/run[1]") == ["a"]


def test_folders_in_which_nothing_can_match_are_not_read(tmp_path: Path) -> None:
    """A closed folder beside the pattern's does not matter: read rights are not needed where nothing is read."""
    grow(tmp_path, "in/a.csv", "in/big/deep/b.csv")
    (tmp_path / "in" / "big" / "loop").symlink_to("loop")  # listing this folder is an error
    assert listed(f"{tmp_path}/in/*.csv") == ["a.csv"]


def test_what_matches_nothing_is_refused(tmp_path: Path) -> None:
    grow(tmp_path, "in/a.csv")
    for pattern in ("in/*.txt", "nowhere/*.csv"):
        with pytest.raises(SpecError, match="matches no file"):
            list_items(f"{tmp_path}/{pattern}", "uri_folder")
    with pytest.raises(SpecError, match="does not exist"):
        list_items(f"{tmp_path}/in/*.csv", "uri_file")


word = st.text("ab.*?", min_size=1, max_size=3)
paths = st.lists(st.text("ab.", min_size=1, max_size=3).filter(lambda p: p not in (".", "..")), min_size=1, max_size=3)


@given(pattern=st.lists(word | st.just("**"), min_size=1, max_size=3), path=paths)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_matches_what_python_s_glob_matches(
    tmp_path_factory: pytest.TempPathFactory, pattern: list[str], path: list[str]
) -> None:
    """`glob.glob(recursive=True)` finds the file or a folder above it."""
    if any("**" in part and part != "**" for part in pattern):
        return
    root = tmp_path_factory.mktemp("g")
    grow(root, "/".join(path))
    found = set(glob.glob("/".join(pattern), root_dir=root, recursive=True))
    expected = any("/".join(path[:end]) in found for end in range(1, len(path) + 1))
    assert parse_pattern("/".join(pattern).encode()).matches("/".join(path).encode()) == expected


def test_the_folder_before_a_pattern() -> None:
    assert split_pattern(b"/data/x/*.csv") == (b"/data/x/", b"*.csv")
    assert split_pattern(b"*.csv") == (b"", b"*.csv")
    assert split_pattern(b"/*/a") == (b"/", b"*/a")
