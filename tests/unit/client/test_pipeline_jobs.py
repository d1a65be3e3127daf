"""A pipeline job, and its steps, in Python: what ran, without Slurm and without an endpoint."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch import BatchClient, NotFound
from hpcbatch.client import html
from tests.pipelines import Pipelines, logs, made, step


@pytest.fixture
def client(tmp_path: Path) -> BatchClient:
    """A workspace with one job of two steps, which has ended."""
    pipelines = Pipelines(tmp_path)
    job = pipelines.run(
        step("make", "echo x > ${{outputs.o}}/f", outputs=["o"]),
        step("use", "cat ${{inputs.i}}/f", inputs={"i": made("make.o")}),
        name="two",
    )
    assert job.verdict()["status"] == "Completed", logs(job)
    return BatchClient(pipelines.ws.root)


def test_the_steps_of_a_pipeline_are_jobs_of_their_own(client: BatchClient) -> None:
    """As `hpcbatch job list --parent-job-name` lists them; each is shown, and no two are one."""
    steps = client.jobs.list(parent_job_name="two")
    assert [each.name for each in steps] == ["two.make", "two.use"]
    assert [each.status for each in steps] == ["Completed", "Completed"]
    assert len(set(steps)) == 2
    assert steps[0] == client.jobs.get("two.make")
    for each in [*steps, client.jobs.get("two")]:
        assert (each.endpoint, each.deployment) == ("", "")
        assert each.name in repr(each)
        assert each.name in each._repr_html_()


def test_a_pipeline_has_no_merged_file_and_says_where_its_outputs_are(client: BatchClient) -> None:
    for read in ("to_pandas", "to_arrow"):
        with pytest.raises(NotFound, match="is a pipeline, which merges no file"):
            getattr(client.jobs.get("two"), read)()
    with pytest.raises(NotFound, match="It has: o"):
        _ = client.jobs.get("two.make").output_file


def test_a_bar_counts_what_is_counted() -> None:
    assert "1 of 2 steps" in html.bar(1, 2, status="Running", noun="steps")
    assert "1 of 2 items" in html.bar(1, 2, status="Running")
