"""What a step reads: a pattern is what matches when it runs, so two runs are never the same run because of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.operations.job_create import job_request
from hpcbatch.operations.pipelines import sealed_record
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.yamlfile import load
from hpcbatch.steps import values

JOB = """\
type: pipeline
compute: local
inputs: {files: {type: mltable, path: data}}
jobs:
  cut:
    type: parallel
    inputs: {files: "${{parent.inputs.files}}"}
    task: {code: ., entry_script: s.py, environment: {image: x}}
"""


def test_the_pattern_of_an_mltable_may_be_cut_and_makes_no_two_runs_the_same(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "MLTable").write_text("paths:\n- pattern: ./*.csv\n")
    (tmp_path / "s.py").write_text("def run(mini_batch): return mini_batch\n")
    (tmp_path / "job.yml").write_text(JOB)
    ws = Workspace(tmp_path / "ws")
    record, _ = sealed_record(ws, job_request(ws, load(tmp_path / "job.yml")))
    (step,) = record.steps
    found = values.sources(step, record, {})
    assert found["files"].value.text == str(tmp_path / "data" / "*.csv")
    values.check_inputs(step, found)
    assert values.identities(found) is None
    with pytest.raises(SpecError, match="does not exist on this node"):
        values.check_inputs(replace(step, parallel=None), found)
