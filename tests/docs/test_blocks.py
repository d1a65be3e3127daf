"""Every block of commands or Python in the documentation runs as it stands, or says why not."""

from __future__ import annotations

import functools
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.docs.blocks import RUN, blocks, printed, script, set_up
from tests.docs.places import PLACES, ROOT, Place, example
from tests.environments import COMPLETE, Environments, required_by

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = {"quickstart": "QUICKSTART_VENV", "mlflow-model": "MLFLOW_MODEL_VENV"}  # what names its environment
MARKS = {**{name: [pytest.mark.slow] for name in EXAMPLES}, "slurm": [pytest.mark.slurm]}
RUNNABLE = [
    pytest.param(page, marks=MARKS.get(set_up(page), []), id=str(page.relative_to(ROOT)))
    for page in PAGES
    if any(not block.not_run for block in blocks(page))
]


@pytest.fixture(scope="session")
def made_example(tmp_path_factory: pytest.TempPathFactory, environments: Environments) -> Callable[[str], Path]:
    """`made_example(name)`: an example with its environment and its model, as the first part of its run.sh leaves it.

    An environment that *Run it* has made here already is used.
    """

    @functools.cache
    def make(name: str) -> Path:
        place = Place(tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("home"), {})
        folder = place.folder / "examples" / name
        generated = shutil.ignore_patterns(".venv", "data", "model", "truth.csv", "named-outputs", "__pycache__")
        shutil.copytree(ROOT / "examples" / name, folder, ignore=generated)
        there = Path(os.environ.get(EXAMPLES[name]) or ROOT / "examples" / name / ".venv")
        made = there if (there / COMPLETE).exists() else environments(*required_by(name))
        (folder / ".venv").symlink_to(made.resolve())
        lines = (folder / "run.sh").read_text().partition('echo "== Where it runs"')
        assert lines[1], "run.sh has no part that makes the environment and the model"
        (folder / "make.sh").write_text(lines[0])
        done = place.run(f"bash {folder}/make.sh", timeout_s=1800)
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return folder

    return make


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder, home = tmp_path / "here", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    return Place(folder, home, {})


@pytest.mark.parametrize("page", RUNNABLE)
def test_the_blocks_of_a_page_run_in_order(
    page: Path, place: Place, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """In a new home, and in the place that the page asks for."""
    asked = set_up(page)
    if asked in EXAMPLES:
        variables = example(place, request.getfixturevalue("made_example")(asked))
    elif asked == "slurm":
        variables = PLACES[asked](place) | {"SLURM_CONF": str(request.getfixturevalue("devcluster").conf)}
    else:
        variables = PLACES[asked](place)
    shared = tmp_path / "shared"
    shared.mkdir()
    done = Place(place.folder, place.home, variables).run(script(page, shared))
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    found = printed(done.stdout)
    for number, block in enumerate(blocks(page)):
        if block.prints is not None:
            assert found[number].rstrip("\n") == block.prints.rstrip("\n"), f"{page}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_is_found(page: Path) -> None:
    """None is hidden from the test by where it stands: indented, or behind a fence of another kind."""
    kinds = "|".join([*RUN, "sh", "shell", "console", "py"])
    fences = re.findall(rf"^\s*[`~]{{3,}}\s*(?:{kinds})\b", page.read_text("utf-8"), re.MULTILINE)
    assert len(fences) == len(blocks(page))


def test_python_of_the_pages_is_this_python() -> None:
    """`python3` in a block is the interpreter that runs the tests."""
    assert Path(sys.executable).with_name("python3").exists()
