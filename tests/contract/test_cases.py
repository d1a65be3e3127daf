"""One job per case: the right word, the right exit code, the right bytes, and the story told where people look."""

from __future__ import annotations

import re

import pytest

from tests.contract.cases import ALL, Case
from tests.contract.conftest import Runner
from tests.site import Site


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_a_job_ends_as_it_must(site: Site, runner: Runner, case: Case) -> None:
    ended = site.wait(runner.start(case))
    story = f"{ended.job}\n{ended.log}"
    assert (ended.status, ended.exit_code) == (case.status, case.exit_code), story
    assert ended.output == case.output, story
    progress = ended.job["progress"]
    if case.status == "Completed" or case.failed_items:
        assert progress["items_failed"] == case.failed_items, story
    for words in case.detail:
        assert words in ended.detail
    for words in case.failures:
        assert any(words in f"{failure['message']}" for failure in progress["failures"]), story
    for pattern in case.log:
        assert re.search(pattern, ended.log, re.MULTILINE), f"{pattern}\n{story}"
    if case.calls is not None:
        assert len((runner.state(case) / "calls").read_text().splitlines()) == case.calls, story
