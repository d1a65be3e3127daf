"""Two users of one workspace: whoever invokes owns the job, and neither can change what is the other's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.operations import endpoints, invoke, jobs
from tests.contract.test_refusals_of_the_filesystem import as_nobody
from tests.site import Site
from tests.unit.fs.nobody import NOBODY, reachable_folder

pytestmark = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="being two users needs root")


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Site, str, Path]]:
    """A workspace of root's that anybody may read, one deployment, and data."""
    monkeypatch.setattr(invoke, "submit", lambda job, number: None)
    with reachable_folder() as folder:
        site = Site(folder, "local").set_up()
        deployment, data = site.deploy(python="/bin/sh"), site.data(3)
        yield site, deployment, data


def said(call: Callable[[], Any]) -> str:
    """What the second user is told."""
    return as_nobody(call)


def test_a_job_belongs_to_its_invoker_and_is_found_by_the_owner_of_the_workspace(
    shared: tuple[Site, str, Path],
) -> None:
    site, deployment, data = shared
    site.start(deployment, data, job_name="mine")
    request = site.request(deployment, data, job_name="theirs")
    assert said(lambda: invoke.invoke(site.ws, request)) == "0: done"
    folder = site.ws.jobs / "nobody" / "theirs"
    assert folder.stat().st_uid == NOBODY
    assert [path for path in folder.rglob("*") if path.stat().st_uid != NOBODY] == []
    assert folder.parent.stat().st_mode & 0o777 == 0o700
    assert {job["name"]: job["creation_context"]["created_by"] for job in jobs.list_jobs(site.ws)} == {
        "mine": "root",
        "theirs": "nobody",
    }


def test_a_job_of_somebody_else_can_neither_be_read_nor_ended(shared: tuple[Site, str, Path]) -> None:
    site, deployment, data = shared
    site.start(deployment, data, job_name="mine")
    for call in (jobs.show_job, jobs.cancel_job, jobs.resume_job):
        words = said(lambda call=call: call(site.ws, "mine"))
        assert not words.startswith(("0:", "unexpected")), words
    assert jobs.show_job(site.ws, "mine")["status"] != "Canceled"


def test_an_endpoint_of_somebody_else_cannot_be_changed(shared: tuple[Site, str, Path]) -> None:
    site, deployment, _ = shared
    before = endpoints.show_endpoint(site.ws, "site")
    for call in (
        lambda: endpoints.update_endpoint(site.ws, "site", defaults={"deployment_name": deployment}),
        lambda: endpoints.delete_endpoint(site.ws, "site"),
        lambda: endpoints.create_endpoint(site.ws, name="another"),
    ):
        words = said(call)
        assert words.startswith("7: "), words
        assert "Permission denied" in words
    assert endpoints.show_endpoint(site.ws, "site") == before


def test_what_one_user_is_told_names_no_traceback(shared: tuple[Site, str, Path]) -> None:
    site, deployment, data = shared
    site.ws.jobs.mkdir(mode=0o755)  # an owner who did not mean to share
    request = site.request(deployment, data)
    words = said(lambda: invoke.invoke(site.ws, request))
    assert words.startswith("7: ")
    assert str(site.ws.jobs) in words
