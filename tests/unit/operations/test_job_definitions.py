"""Which job a deployment is made from, in a workspace that others use too."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.errors import NotFound
from hpcbatch.operations.job_definitions import pipeline_record
from tests.pipelines import Pipelines, step
from tests.unit.steps.test_pipelinedir import sealed


def test_nobody_elses_job_stands_in_for_ones_own(tmp_path: Path) -> None:
    """Two users may give their jobs one name."""
    pipelines = Pipelines(tmp_path)
    mine = sealed(pipelines, step("a", "true"), name="train")
    theirs = pipelines.ws.jobs / "0-before-all-others" / "train"
    theirs.mkdir(parents=True)
    (theirs / "pipeline.json").write_bytes(pipelines.record(step("b", "rm -r ."), name="train").to_bytes())
    assert pipeline_record(pipelines.ws, "train") == mine.record
    with pytest.raises(NotFound, match="no pipeline job named"):
        pipeline_record(pipelines.ws, "train.a")
