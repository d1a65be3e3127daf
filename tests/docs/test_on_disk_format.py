"""The page about the format on disk names every file that is there."""

from __future__ import annotations

import re
from pathlib import Path

from hpcbatch.jobdir import layout
from hpcbatch.operations import jobs
from hpcbatch.records import ledger
from tests.docs.places import ROOT, Place, stopped_job

PAGE = (ROOT / "docs" / "reference" / "on-disk-format.md").read_text("utf-8")


def patterns(heading: str) -> list[re.Pattern[str]]:
    """The paths in the first block under *heading*; `<name>` stands for anything."""
    block = re.search(r"```\n(.*?)```", PAGE.partition(f"\n## {heading}\n")[2], re.DOTALL)
    assert block
    return [_pattern(line.split()[0]) for line in block[1].splitlines()]


def _pattern(name: str) -> re.Pattern[str]:
    parts = re.split(r"(<\w+>)", name)
    return re.compile("".join(".+" if part.startswith("<") else re.escape(part) for part in parts) + r"\Z")


def test_every_file_of_a_job_is_told(tmp_path: Path) -> None:
    """Of one that was stopped half-way and resumed."""
    place = Place(tmp_path / "here", tmp_path / "home", {})
    place.folder.mkdir()
    name = stopped_job(place)["JOB"]
    jobs.resume_job(place.workspace, name)
    jobs.wait_job(place.workspace, name, on_progress=lambda _: None, poll_s=0.05)
    root = jobs.find_job(place.workspace, name).root
    found = [str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()]
    assert len(found) > 10
    told = patterns("Job directory")
    assert [path for path in found if not any(pattern.match(path) for pattern in told)] == []


def test_every_name_of_the_layout_is_told() -> None:
    names = (layout.JOB, layout.MANIFEST, layout.CODE, layout.CANCELED, layout.PLAN, layout.INTENT, layout.MERGE_ID,
             layout.REFUSED, layout.SUSPECTS, layout.SUCCESS, layout.SEGMENT, layout.LEDGER)  # fmt: skip
    assert [name for name in names if name not in PAGE] == []


def test_every_kind_of_record_is_told_with_its_number() -> None:
    assert [kind for kind in ledger.Kind if f"| {kind.value} | {kind.name} |" not in PAGE] == []
