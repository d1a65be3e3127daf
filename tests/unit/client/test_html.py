"""Pages of notebooks: nothing that a document, a log or an exception holds becomes markup."""

from __future__ import annotations

from hpcbatch import BatchClient, BatchEndpoint, Job
from hpcbatch.client import html
from hpcbatch.client.collection import Listing
from hpcbatch.operations.progress import Progress
from hpcbatch.operations.workspace import Workspace

HOSTILE = "<script>alert(1)</script>\x1b[31m\x07\u202e&\"'"
SHOWN = {
    "id": "/ws/jobs/me/j",
    "name": HOSTILE,
    "status": "Failed",
    "detail": HOSTILE,
    "endpoint": HOSTILE,
    "deployment": HOSTILE,
    "creation_context": {"created_at": HOSTILE, "created_by": HOSTILE},
    "inputs": {"input": {"path": HOSTILE, "type": "uri_folder"}},
    "outputs": {"score": {"path": HOSTILE, "type": "uri_folder"}},
    "items": 3,
    "warnings": [HOSTILE],
    "progress": {
        "items_succeeded": 1,
        "items_failed": 1,
        "failures": [
            {"mini_batch": 1, "type": HOSTILE, "message": HOSTILE + "!", "traceback": HOSTILE, "stdout": HOSTILE}
        ],
    },
}


def is_inert(page: str) -> bool:
    return "<script" not in page and not any(one in page for one in "\x1b\x07\u202e")


def test_hostile_text_is_inert_everywhere(tmp_path_factory: object) -> None:
    """Names, details, tracebacks, paths, descriptions."""
    job = Job(Workspace("/ws"), SHOWN)  # type: ignore[arg-type]
    endpoint = BatchEndpoint(name=HOSTILE, description=HOSTILE, tags={HOSTILE: HOSTILE})
    for page in (job._repr_html_(), endpoint._repr_html_(), Listing([job])._repr_html_()):
        assert is_inert(page)
        assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;&quot;&#x27;" in page
    assert is_inert(html.progress(HOSTILE, HOSTILE, html.bar(1, 2, status=HOSTILE, told=HOSTILE)))


def test_a_job_shows_its_verdict_its_failures_and_its_places() -> None:
    """The failure first, what the script said folded below it."""
    page = Job(Workspace("/ws"), SHOWN)._repr_html_()  # type: ignore[arg-type]
    assert page.index("Failed") < page.index("mini-batch 1") < page.index("stdout:") < page.index("deployment")
    assert "2 of 3 items, 1 failed" in page
    assert "width:66.7%" in page


def test_an_empty_list_says_so(client: BatchClient) -> None:
    """Not an empty table."""
    assert "Nothing there." in client.batch_endpoints.list()._repr_html_()
    assert "local" in client.computes.list()._repr_html_()


def test_long_text_is_cut() -> None:
    """A megabyte of description does not freeze the page."""
    assert len(html.text("x" * 1_000_000)) < 3000


def test_a_bar_of_nothing_is_empty() -> None:
    """No division by zero before the items are counted."""
    assert "width:0.0%" in html.bar(0, 0, status="Preparing")


def test_progress_lines_are_written_over_on_a_terminal() -> None:
    """One line there; elsewhere a new one when there is news."""
    import io

    from hpcbatch.client.progress import _Lines

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def look(done: int, status: str = "Running") -> Progress:
        return Progress(10, done, 0, 5, done // 2, 1.0, 2.0, 4.0, status)

    for stream, wanted in ((Terminal(), 1), (io.StringIO(), 3)):
        lines = _Lines("j", stream)
        for each in (look(0, "Queued"), look(1), look(2), look(3), look(10)):
            lines(each)
        lines.end()
        assert stream.getvalue().count("\n") == wanted
        assert "10 of 10 items, 2.0 items/s, 0 failed" in stream.getvalue()
