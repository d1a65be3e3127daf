"""The pages hold together: links lead somewhere, and the README's commands are the ones that CI and the tests run."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").glob("*/README.md"))]
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def _section(heading: str) -> str:
    text = (ROOT / "README.md").read_text("utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def _commands(heading: str) -> list[str]:
    block = re.search(r"```bash\n(.*?)```", _section(heading), re.DOTALL)
    assert block, f"no bash block under {heading!r}"
    return block[1].splitlines()


def test_run_it_is_one_command_that_ends_in_the_quickstart() -> None:
    """A newcomer copies one line; tests/examples runs what it ends in."""
    [line] = _commands("Run it")
    assert line.startswith("python3 -m venv .venv && ")
    assert line.endswith("bash examples/quickstart/run.sh")
    assert (ROOT / "examples" / "quickstart" / "run.sh").is_file()


def test_ci_runs_the_test_command_of_the_readme_and_nothing_else() -> None:
    """What CI says and what a reader can check are the same thing."""
    [command] = _commands("Test it")
    lines = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    ran = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert ran == [f'exec {command} "$@"']


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link names a file, and each anchor a heading of it."""
    broken = []
    for target in LINK.findall(re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path)):
            broken.append(target)
    assert broken == []


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


PATH = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|sh|toml|yml|ipynb))`")
FOLDERS = (ROOT, ROOT / "hpcbatch", ROOT / "examples" / "quickstart")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_a_page_names_exist(page: Path) -> None:
    """`jobdir/attempt.py` and `tests/contract/test_bounds.py` are where a reader looks for them."""
    names = PATH.findall(page.read_text("utf-8"))
    assert [name for name in names if not any((folder / name).exists() for folder in FOLDERS)] == []


def test_dependencies_are_told_as_they_are_declared() -> None:
    """The table has what pyproject.toml has, with the same bounds."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text("utf-8")
    told = re.findall(r"^\| ([a-z]+ [<>=0-9., ]+) \|", page, re.MULTILINE)
    assert {name.replace(" ", "") for name in told} == set(declared["dependencies"])
    assert [extra for extra in declared["optional-dependencies"] if f"`{extra}`" not in page] == []


def test_every_room_has_its_floor_in_the_picture() -> None:
    """The table of floors is that of the package."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    package = [
        path for path in (ROOT / "hpcbatch").iterdir() if path.stem[0] not in "_." and path.suffix in ("", ".py")
    ]
    rooms = {path.stem for path in package if path.is_file() or (path / "__init__.py").exists()}
    assert sorted(room for room in rooms if f"`{room}`" not in page) == []
