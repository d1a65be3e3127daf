"""Components: registered whole, with their code and everything that their steps name."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.operations.assets import create_compute, create_data
from hpcbatch.operations.components import create_component
from hpcbatch.operations.versions import Archived, archive_asset, find_asset, list_assets
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.snapshots import code_file
from hpcbatch.spec.refs import AssetRef
from tests.unit.operations.pipelines import PIPELINE, PREPARE


def _pipeline(graph: Path, *changes: tuple[str, str]) -> Path:
    text = PIPELINE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (graph / "changed.yml").write_text(text)
    return graph / "changed.yml"


def test_a_command_component_is_shown_with_what_was_registered(ws: Workspace, graph: Path) -> None:
    shown = create_component(ws, file=graph / "components" / "prepare.yml")
    assert (shown["id"], shown["type"]) == ("azureml:prepare:1", "command")
    assert shown["inputs"]["rate"] == {"type": "number", "default": "0.10", "max": "1"}
    assert shown["inputs"]["encoding"]["enum"] == ["ordinal", "onehot"]
    assert "$[[--encoding ${{inputs.encoding}}]]" in shown["command"]
    assert find_asset(ws, "component", AssetRef("prepare", None, "latest")) == shown


def test_the_same_component_is_the_same_version_and_a_changed_one_the_next(ws: Workspace, graph: Path) -> None:
    file = graph / "components" / "prepare.yml"
    assert [create_component(ws, file=file)["version"] for _ in range(2)] == ["1", "1"]
    (graph / "src" / "prepare.py").write_text("print('changed')\n")
    assert create_component(ws, file=file)["version"] == "2"
    with pytest.raises(Conflict, match="prepare:1 exists already"):
        create_component(ws, file=file, version="1")


def test_an_archived_component_is_left_out_of_the_list_and_still_found(ws: Workspace, graph: Path) -> None:
    create_component(ws, file=graph / "components" / "prepare.yml")
    archive_asset(ws, "component", AssetRef("prepare", "1"))
    assert list_assets(ws, "component", None) == []
    assert [one["name"] for one in list_assets(ws, "component", None, Archived.ONLY)] == ["prepare"]
    assert find_asset(ws, "component", AssetRef("prepare"))["version"] == "1"


def test_files_named_in_additional_includes_are_part_of_the_code(ws: Workspace, graph: Path) -> None:
    (graph / "shared").mkdir()
    (graph / "shared" / "common.py").write_text("x = 1\n")
    (graph / "settings.json").write_text("{}")
    (graph / "with.yml").write_text(
        PREPARE.replace("code: ../src", "code: src\nadditional_includes: [shared, settings.json]")
    )
    shown = create_component(ws, file=graph / "with.yml")
    with zipfile.ZipFile(code_file(ws.root, shown["code"]["digest"])) as archive:
        assert sorted(archive.namelist()) == ["prepare.py", "score.py", "settings.json", "shared/common.py"]


def test_a_pipeline_keeps_its_steps_whatever_happens_to_files_and_assets(stocked: Workspace, graph: Path) -> None:
    shown = create_component(stocked, file=graph / "pipeline.yml")
    (graph / "components" / "prepare.yml").unlink()
    jobs = find_asset(stocked, "component", AssetRef("prepare_and_score"))["jobs"]
    assert jobs == shown["jobs"]
    assert jobs["prepare"]["component"]["body"]["command"].startswith("python prepare.py")
    assert jobs["prepare"]["overrides"] == {
        "limits": {"timeout": 60.0},
        "resources": {"instance_count": 2},
        "environment_variables": {"THREADS": "4"},
    }
    model = jobs["score"]["inputs"]["model"]
    assert (model["kind"], Path(model["path"]).name, len(model["digest"])) == ("path", "model", 64)


@pytest.mark.parametrize("reference", ["azureml:prepare@latest", "azureml:prepare:1", "azureml:prepare", "prepare"])
def test_a_step_may_name_a_registered_component_in_every_form(stocked: Workspace, graph: Path, reference: str) -> None:
    create_component(stocked, file=graph / "components" / "prepare.yml")
    file = _pipeline(graph, ("./components/prepare.yml", reference))
    assert create_component(stocked, file=file)["jobs"]["prepare"]["component"]["id"] == "prepare:1"


def test_a_step_that_names_nothing_that_is_there_says_what_is(stocked: Workspace, graph: Path) -> None:
    with pytest.raises(NotFound, match="component 'prepare' is not registered"):
        create_component(stocked, file=_pipeline(graph, ("./components/prepare.yml", "azureml:prepare@latest")))
    with pytest.raises(SpecError, match=r"jobs\.prepare\.component: .*missing\.yml' does not exist") as caught:
        create_component(stocked, file=_pipeline(graph, ("./components/prepare.yml", "./missing.yml")))
    assert caught.value.fields["line"] == PIPELINE[: PIPELINE.index("./components")].count("\n") + 1


def _line_of(text: str) -> int:
    return PIPELINE[: PIPELINE.index(text)].count("\n") + 1


@pytest.mark.parametrize(
    ("old", "new", "field", "message"),
    [
        (
            "${{parent.inputs.raw}}",
            "${{parent.inputs.row}}",
            "jobs.prepare.inputs.data",
            "no input 'row'. Did you mean 'raw'",
        ),
        (
            "${{parent.jobs.prepare.outputs.prepared}}",
            "${{parent.jobs.prep.outputs.prepared}}",
            "jobs.score.inputs.data",
            "no step 'prep'",
        ),
        (
            "${{parent.jobs.prepare.outputs.prepared}}",
            "${{parent.jobs.prepare.outputs.out}}",
            "jobs.score.inputs.data",
            "no output 'out'",
        ),
        (
            "learned: ${{parent.outputs.learned}}",
            "learned: ${{parent.outputs.lerned}}",
            "jobs.prepare.outputs.learned",
            "no output 'lerned'",
        ),
        (
            "learned: ${{parent.outputs.learned}}",
            "learnt: ${{parent.outputs.learned}}",
            "jobs.prepare.outputs.learnt",
            "component has no output 'learnt'",
        ),
        ("rate: ${{parent.inputs.rate}}", "rate: 2", "jobs.prepare.inputs.rate", "2 is more than the max 1"),
        ("rate: ${{parent.inputs.rate}}", "rate: fast", "jobs.prepare.inputs.rate", "'fast' is not a number"),
        (
            "rate: ${{parent.inputs.rate}}",
            "rate: ${{parent.inputs.raw}}",
            "jobs.prepare.inputs.rate",
            "bound to a uri_folder",
        ),
        ("data: ${{parent.inputs.raw}}", "data: 5", "jobs.prepare.inputs.data", "'5' is a literal"),
        ("data: ${{parent.inputs.raw}}", "rate: 1", "jobs.prepare.inputs.rate", "given twice"),
        ("data: ${{parent.inputs.raw}}\n", "\n", "jobs.prepare.inputs.data", "has no value"),
        (
            "mode: ${{parent.inputs.mode}}",
            "mode: {path: data}",
            "jobs.score.inputs.mode",
            "is a path, and the input a string",
        ),
        ("mode: ${{parent.inputs.mode}}", "mode: ${{parent.secrets.mode}}", "jobs.score.inputs.mode", "not a binding"),
        ("mode: ${{parent.inputs.mode}}", "mode: never", "jobs.score.inputs.mode", "none of its enum"),
        (
            "learned: ${{parent.outputs.learned}}",
            "learned: ${{parent.outputs.scores}}",
            "jobs.prepare.outputs.learned",
            "is written by jobs.score.outputs.scores already",
        ),
        (
            "learned: ${{parent.outputs.learned}}",
            "learned: ${{parent.inputs.raw}}",
            "jobs.prepare.outputs.learned",
            "not where an output can go",
        ),
        (
            "python score.py ${{inputs.model}}",
            "python score.py ${{inputs.modell}}",
            "jobs.score.component.command",
            "which is not declared",
        ),
        (
            "python score.py ${{inputs.model}}",
            "python score.py $[[${{inputs.model}}]]",
            "jobs.score.component.command",
            "which is not optional",
        ),
        ("code: ./src", "code: ./missing", "jobs.score.component.code", "does not exist"),
        ("code: ./src", "code: azureml:code:1", "jobs.score.component.code", "not a folder of this filesystem"),
    ],
)
def test_what_cannot_work_is_refused_when_it_is_registered(
    stocked: Workspace, graph: Path, old: str, new: str, field: str, message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        create_component(stocked, file=_pipeline(graph, (old, new)))
    assert message in str(caught.value)
    assert caught.value.fields["field"] == field
    assert caught.value.fields["file"] == str(graph / "changed.yml")
    assert caught.value.fields["line"] is not None


def test_a_value_for_an_input_that_the_component_lacks_is_ignored_with_its_line(
    stocked: Workspace, graph: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As Azure ML does: its sample nyc_taxi_data_regression has one."""
    shown = create_component(stocked, file=_pipeline(graph, ("rate: ${{parent.inputs.rate}}", "rite: 0.5")))
    assert list(shown["jobs"]["prepare"]["inputs"]) == ["data"]
    line = _line_of("rate: ${{parent.inputs.rate}}")
    (said,) = caplog.messages
    assert said.startswith(f"{graph / 'changed.yml'}, line {line}: jobs.prepare.inputs.rite is ignored: ")
    assert said.endswith("no input 'rite'. Did you mean 'rate'? It has: data, encoding, rate, transforms.")


def test_steps_that_wait_for_each_other_are_refused_by_name(stocked: Workspace, graph: Path) -> None:
    circle = ("data: ${{parent.inputs.raw}}", "data: ${{parent.jobs.score.outputs.scores}}")
    with pytest.raises(SpecError, match="wait for each other: score <- prepare <- score") as caught:
        create_component(stocked, file=_pipeline(graph, circle))
    assert caught.value.fields["line"] is not None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: {entry_script: s.py, append_row_to: '${{outputs.none}}'}", "no output 'none'"),
        ("task: {entry_script: s.py, append_row_to: 'none'}", "names no output"),
        ("task: {entry_script: s.py}\ninput_data: ${{inputs.none}}", "no input 'none'"),
        ("task: {entry_script: s.py, program_arguments: '${{inputs.none}}'}", "which is not declared"),
    ],
)
def test_a_parallel_component_names_what_it_declares(ws: Workspace, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "parallel.yml"
    file.write_text(f"name: p\ntype: parallel\ninputs: {{files: {{type: uri_folder}}}}\n{text}\n")
    with pytest.raises(SpecError, match=message):
        create_component(ws, file=file)


@pytest.mark.parametrize(
    ("lines", "line", "field", "message"),
    [
        ("mini_batch_size: 10xb", 5, "mini_batch_size", "'10xb' is no size"),
        ("mini_batch_size: 0", 5, "mini_batch_size", "'0' is no size"),
        ("outputs:\n  n: {type: integer}", 6, "outputs.n.type", "an output of the type integer is not possible"),
        ("task: {type: model, model: m}", 5, "task.type", "a model without a script"),
        ("task: {type: run_function}", 5, "task.entry_script", "it is missing"),
        ("task: {code: src, entry_script: gone.py}", 5, "task.entry_script", "the script 'gone.py' is not in"),
    ],
)
def test_what_no_parallel_step_runs_is_refused_at_its_line(
    ws: Workspace, tmp_path: Path, lines: str, line: int, field: str, message: str
) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "s.py").touch()
    task = "" if lines.startswith("task") else "\ntask: {entry_script: s.py}"
    text = f"name: p\ntype: parallel\ninputs:\n  files: {{type: uri_folder}}\n{lines}{task}\n"
    (tmp_path / "parallel.yml").write_text(text)
    with pytest.raises(SpecError, match=message) as caught:
        create_component(ws, file=tmp_path / "parallel.yml")
    fields = caught.value.fields
    assert (fields["file"], fields["line"], fields["field"]) == (str(tmp_path / "parallel.yml"), line, field)


def test_a_script_that_an_ignore_file_leaves_out_is_not_registered(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    for name, text in (("s.py", ""), ("other.py", ""), (".amlignore", "s.*\n")):
        (tmp_path / "src" / name).write_text(text)
    file = tmp_path / "parallel.yml"
    file.write_text("name: p\ntype: parallel\ntask: {code: src, entry_script: s.py}\n")
    with pytest.raises(SpecError, match=r"without what \.amlignore leaves out\.\n.*write !s\.py as the last line"):
        create_component(ws, file=file)


def test_steps_of_this_machine_and_of_slurm_in_one_pipeline_are_refused_at_their_line(
    ws: Workspace, tmp_path: Path
) -> None:
    create_compute(ws, name="big", type="slurm")
    step = "{command: echo, environment: {image: x}, compute: %s}"
    lines = ["name: p", "type: pipeline", "jobs:", f"  a: {step % 'azureml:big'}", f"  b: {step % 'local'}"]
    (tmp_path / "p.yml").write_text("\n".join(lines))
    with pytest.raises(SpecError, match=r"'b' runs on local, this machine, and step 'a' on big, a Slurm") as caught:
        create_component(ws, file=tmp_path / "p.yml")
    assert (caught.value.fields["line"], caught.value.fields["field"]) == (5, "jobs.b.compute")


def test_a_component_that_only_azure_ml_runs_is_registered_as_it_is(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "spark.yml").write_text("name: count\ntype: spark\nentry: {file: count.py}\nconf: {cores: 2}\n")
    shown = create_component(ws, file=tmp_path / "spark.yml")
    assert (shown["type"], shown["written"]["entry"]) == ("spark", {"file": "count.py"})


def test_the_paths_of_an_mltable_are_part_of_its_data_asset(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "table").mkdir()
    with pytest.raises(SpecError, match="holds no file MLTable"):
        create_data(ws, name="t", type="mltable", path=str(tmp_path / "table"))
    (tmp_path / "table" / "MLTable").write_text(
        "type: mltable\npaths:\n- file: ./a.csv\n- pattern: ../more/*.csv\n- folder: s3://bucket/x\n"
        "transformations:\n- read_delimited: {delimiter: ','}\n"
    )
    shown: dict[str, Any] = create_data(ws, name="t", type="mltable", path=str(tmp_path / "table"))
    assert shown["paths"] == [
        {"file": str(tmp_path / "table" / "a.csv")},
        {"pattern": str(tmp_path / "more" / "*.csv")},
        {"folder": "s3://bucket/x"},
    ]


@pytest.mark.parametrize("paths", ["", "paths: a", "paths: [a]", "paths: [{file: a, folder: b}]", "paths: [{glob: a}]"])
def test_an_mltable_whose_paths_say_something_else_is_refused(ws: Workspace, tmp_path: Path, paths: str) -> None:
    (tmp_path / "MLTable").write_text(f"type: mltable\n{paths}\n")
    with pytest.raises(SpecError, match="`folder: PATH`"):
        create_data(ws, name="t", type="mltable", path=str(tmp_path))
