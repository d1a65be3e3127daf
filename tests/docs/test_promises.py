"""The page about what a finished job means names tests; each of them is there."""

from __future__ import annotations

import re

import pytest

from tests.docs.places import ROOT

PAGE = (ROOT / "docs" / "explanation" / "what-a-finished-job-means.md").read_text("utf-8")
ROWS = [line for line in PAGE.partition("\n## The tests\n")[2].splitlines() if line.startswith("| ")][1:]
NAMED = sorted(set(re.findall(r"`(tests/[^`]+)`", PAGE)))


def test_every_promise_names_a_test() -> None:
    assert len(ROWS) > 10
    assert [row for row in ROWS if "`tests/" not in row.split("|")[3]] == []


@pytest.mark.parametrize("name", NAMED)
def test_a_named_test_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    text = (ROOT / path).read_text("utf-8")
    assert re.search(rf"^def {function}\(", text, re.MULTILINE) if function else "def test_" in text, name
