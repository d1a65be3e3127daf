"""Whatever stands in a document about pipelines: it is taken, or refused with an error of ours."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcbatch.errors import HpcBatchError
from hpcbatch.operations.assets import create_model
from hpcbatch.operations.components import component_document
from hpcbatch.operations.job_create import job_request
from hpcbatch.operations.pipeline_deployments import pipeline_document
from hpcbatch.operations.pipelines import sealed_record
from hpcbatch.operations.workspace import Workspace
from hpcbatch.spec.deployment import is_pipeline
from hpcbatch.spec.yamlfile import Loaded, loads
from tests.unit.operations.pipelines import DEPLOYMENT, PIPELINE, PREPARE, write_project

JOB = """\
type: pipeline
inputs: {raw: {type: uri_folder, path: data}, rate: 0.5}
outputs: {out: {mode: upload}}
settings: {default_compute: local}
jobs:
  first:
    command: run ${{inputs.data}} ${{inputs.rate}} ${{outputs.made}}
    code: src
    environment: {image: x}
    inputs: {data: "${{parent.inputs.raw}}", rate: "${{parent.inputs.rate}}"}
    outputs: {made: }
    resources: {instance_count: 1}
  second:
    type: parallel
    inputs: {files: "${{parent.jobs.first.outputs.made}}"}
    outputs: {rows: "${{parent.outputs.out}}"}
    input_data: ${{inputs.files}}
    task: {entry_script: score.py, code: src, environment: {image: x}, append_row_to: "${{outputs.rows}}"}
"""
COMMAND = "command: run ${{inputs.x}}\nenvironment: {image: x}\ninputs: {x: 5}\noutputs: {o: }\ncompute: local\n"
DOCUMENTS = {"job": JOB, "command job": COMMAND, "pipeline": PIPELINE, "command": PREPARE, "deployment": DEPLOYMENT}

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**12),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["${{parent.inputs.raw}}", "${{parent.jobs.first.outputs.made}}", "${{x", "$[[", "sweep"]),
    st.sampled_from(["azureml:x@latest", "../..", "pipeline.yml", "data", "local"]),
    st.just([]),
    st.just([{"a": [1]}]),
    st.just({}),
    st.just({"type": "uri_folder", "path": "data"}),
    st.just({"jobs": {"a": {"component": {"command": "x", "environment": "e"}}}}),
)  # fmt: skip


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value below *value*."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in children:
        yield (*at, key)
        yield from _places(child, (*at, key))


def _changed(data: dict[str, Any], place: tuple[Any, ...], new: Any) -> dict[str, Any]:
    result = copy.deepcopy(data)
    at: Any = result
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = new
    return result


def _take(ws: Workspace, loaded: Loaded, kind: str) -> None:
    if "job" in kind:
        sealed_record(ws, job_request(ws, loaded))
    elif kind == "deployment":
        if is_pipeline(loaded.data):
            pipeline_document(ws, loaded)
    else:
        component_document(ws, loaded)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project, and beside it a workspace with the model that it names."""
    folder = tmp_path_factory.mktemp("documents")
    write_project(folder / "graph")
    create_model(Workspace(folder / "ws"), name="heart", type="mlflow_model", path=str(folder / "graph" / "model"))
    return folder


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_document_is_taken_or_refused_with_a_sentence(place: Path, data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(DOCUMENTS)))
    loaded = loads(DOCUMENTS[kind].encode(), "document.yml", place / "graph")
    for _ in range(data.draw(st.integers(1, 3))):
        where = data.draw(st.sampled_from(sorted(_places(loaded.data), key=str)))
        loaded = Loaded(_changed(loaded.data, where, data.draw(VALUES)), loaded.file, loaded.lines, loaded.folder)
    with contextlib.suppress(HpcBatchError):
        _take(Workspace(place / "ws"), loaded, kind)
