"""Deployments: frozen when they are created, whatever happens to the files afterwards."""

from __future__ import annotations

import functools
import json
import logging
import sys
import zipfile
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.operations import assets, deployments, endpoints
from hpcbatch.operations.resolve import resolve_deployment
from hpcbatch.operations.workspace import Workspace


def _create(ws: Workspace, project: Path, *changes: tuple[str, str], **more: object) -> dict[str, object]:
    text = (project / "deployment.yml").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (project / "changed.yml").write_text(text)
    return deployments.create_deployment(ws, file=project / "changed.yml", **more)  # type: ignore[arg-type]


def test_a_deployment_is_shown_with_its_references_resolved(ready: Workspace, project: Path) -> None:
    shown = _create(ready, project, set_default=True)
    assert shown["model"] == "azureml:heart:1"
    assert shown["environment"] == "azureml:heart-env:1"
    assert shown["compute"] == "azureml:local"
    assert shown["settings"]["mini_batch_size"] == 2
    assert (shown["provisioning_state"], shown["type"], shown["revision"]) == ("Succeeded", "model", 1)
    assert shown["code_configuration"]["scoring_script"] == "batch_driver.py"
    assert deployments.list_deployments(ready, "heart-batch") == [shown]
    assert endpoints.show_endpoint(ready, "heart-batch")["defaults"]["deployment_name"] == "blue"


def test_later_edits_of_code_model_and_environment_change_nothing(ready: Workspace, project: Path) -> None:
    _create(ready, project, set_default=True)
    before = resolve_deployment(ready, "heart-batch", None)
    (project / "code" / "batch_driver.py").write_text("def run(mini_batch): return ['changed']\n")
    (project / "model" / "model.pkl").write_bytes(b"changed")
    assets.create_model(ready, name="heart", path=str(project / "model"))
    assert resolve_deployment(ready, "heart-batch", None) == before
    assert before.code is not None
    assert before.model is not None
    with zipfile.ZipFile(before.code.path) as archive:
        assert b"init" in archive.read("batch_driver.py")
    assert Path(before.model.path, before.model.basename, "model.pkl").read_bytes() == b"weights"
    _create(ready, project)
    assert resolve_deployment(ready, "heart-batch", None).model != before.model


def test_relative_paths_start_at_the_yaml_wherever_one_stands(
    ready: Workspace, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    inline = ("model: azureml:heart@latest", "model: {path: model}")
    shown = deployments.create_deployment(ready, file="project/deployment.yml")
    assert shown["name"] == "blue"
    sets = ["code_configuration.code=./code", "name=green"]
    assert deployments.create_deployment(ready, file="project/deployment.yml", sets=sets)["name"] == "green"
    assert "anonymous" in str(_create(ready, project, inline)["model"])


def test_an_inline_model_with_a_name_is_registered_one_without_is_not_listed(ready: Workspace, project: Path) -> None:
    _create(ready, project, ("model: azureml:heart@latest", "model: {path: model}"))
    assert [one["name"] for one in assets.list_models(ready)] == ["heart"]
    inline = ("model: azureml:heart@latest", "model: {name: lung, version: 3, path: model/model.pkl}")
    assert _create(ready, project, inline)["model"] == "azureml:lung:3"
    assert _create(ready, project, inline)["model"] == "azureml:lung:3"
    resolved = resolve_deployment(ready, "heart-batch", "blue")
    assert resolved.model is not None
    assert (resolved.model.basename, resolved.model.file_count) == ("model.pkl", 1)


def test_the_old_form_and_overrides_from_the_command_line(ready: Workspace, project: Path) -> None:
    (project / "old.yml").write_text(
        "name: old\nmini_batch_size: 5\nerror_threshold: 0\nretry_settings: {max_retries: 1, timeout: 60}\n"
        "code_configuration: {code: code, scoring_script: batch_driver.py}\nresources: {instance_count: 2}\n"
    )
    sets = [
        "model=azureml://registries/azureml/models/heart/versions/1",
        "compute=local",
        "settings.logging_level=debug",
    ]
    shown = deployments.create_deployment(
        ready, file=project / "old.yml", name="new", endpoint="HEART-batch", sets=sets
    )
    assert (shown["name"], shown["endpoint_name"], shown["model"]) == ("new", "heart-batch", "azureml:heart:1")
    settings = resolve_deployment(ready, "heart-batch", "new").settings
    assert (settings.mini_batch_size, settings.instance_count, settings.max_retries) == (5, 2, 1)
    assert (settings.timeout_s, settings.error_threshold, settings.logging_level) == (60.0, 0, "debug")


def _script(text: str) -> dict[str, str]:
    return {"batch_driver.py": text}


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("def run(mini_batch:\n    return []\n", 1, "not valid Python"),
        ("import os\n\ndef run(mini_batch)\n    pass\n", 3, "not valid Python"),
        ("def run(x):\n\treturn 1\n        return 2\n", 3, "not valid Python"),
        ("x = 1\0\n", None, "not valid Python"),
        ("def init(): pass\nclass A:\n    def run(self): pass\n", 1, "no function run"),
        ("", 1, "no function run"),
    ],
)
def test_a_script_that_cannot_work_is_refused_with_its_line(
    ready: Workspace, project: Path, text: str, line: int | None, words: str
) -> None:
    script = project / "code" / "batch_driver.py"
    script.write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        _create(ready, project)
    assert (caught.value.fields["file"], caught.value.fields["line"]) == (str(script), line)
    assert _create(ready, project, skip_script_validation=True)["name"] == "blue"


@pytest.mark.parametrize(
    "text",
    [
        "from other import run\n",
        "from other import *\n",
        "from other import score as run\n",
        "run = lambda batch: batch\n",
        "try:\n    def run(b): return b\nexcept ImportError: pass\n",
        "if True:\n    run = print\n",
        "async def run(b): return b\n",
        "raise SystemExit('a script is read, never imported')\ndef run(b): return b\n",
    ],
)
def test_a_script_is_read_never_imported(ready: Workspace, project: Path, text: str) -> None:
    (project / "code" / "batch_driver.py").write_text(text)
    assert _create(ready, project)["name"] == "blue"


def test_a_script_may_lie_deeper_and_code_may_be_one_file(ready: Workspace, project: Path) -> None:
    (project / "code" / "src").mkdir()
    (project / "code" / "batch_driver.py").rename(project / "code" / "src" / "driver.py")
    shown = _create(ready, project, ("batch_driver.py", "./src/driver.py"))
    assert shown["code_configuration"]["scoring_script"] == "src/driver.py"
    shown = _create(ready, project, ("code: code", "code: code/src/driver.py"), ("batch_driver.py", "driver.py"))
    assert shown["code_configuration"]["scoring_script"] == "driver.py"


BAD = {
    "no such endpoint": (("heart-batch", "lung-batch"), NotFound, "lung-batch", None),
    "no such model": (("azureml:heart@latest", "azureml:lung:1"), NotFound, "There are: heart", None),
    "no such version": (("azureml:heart@latest", "azureml:heart:9"), NotFound, "It has: 1", None),
    "no model reference": (("azureml:heart@latest", "./model"), SpecError, "not a reference", 4),
    "no such code": (("code: code", "code: cod"), SpecError, "does not exist", 6),
    "code far away": (("code: code", "code: azureml:mycode:1"), SpecError, "not a local path", 6),
    "no such script": (("batch_driver.py", "driver.py"), SpecError, "batch_driver.py", 7),
    "script above": (("batch_driver.py", "../endpoint.yml"), SpecError, "is not in", 7),
    "script elsewhere": (("batch_driver.py", "/etc/passwd"), SpecError, "is not in", 7),
    "no such model file": (("azureml:heart@latest", "{path: nowhere}"), SpecError, "nowhere", 4),
    "no such conda file": (("environment/conda.yaml", "conda.yaml"), SpecError, "conda.yaml", 11),
    "no compute reference": (("azureml:local", "'a b'"), SpecError, "not a reference", 12),
}


@pytest.mark.parametrize("case", BAD)
def test_what_a_bad_deployment_lacks_is_named_and_nothing_is_deployed(
    ready: Workspace, project: Path, case: str
) -> None:
    change, kind, words, line = BAD[case]
    with pytest.raises(kind) as caught:
        _create(ready, project, change)
    assert words in str(caught.value)
    assert caught.value.hint
    if line is not None:
        assert (caught.value.fields["file"], caught.value.fields["line"]) == (str(project / "changed.yml"), line)
    assert deployments.list_deployments(ready, "heart-batch") == []


def test_without_a_script_the_model_must_be_one_of_mlflow(ready: Workspace, project: Path) -> None:
    code = "code_configuration:\n  code: code\n  scoring_script: batch_driver.py\n"
    with pytest.raises(SpecError, match="needs a code_configuration"):
        _create(ready, project, (code, ""))
    with pytest.raises(SpecError, match="names no model"):
        _create(ready, project, (code, ""), ("model: azureml:heart@latest\n", ""))
    (project / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: mlflow.sklearn}}\n")
    inline = ("azureml:heart@latest", "{path: model, type: mlflow_model}")
    assert _create(ready, project, (code, ""), inline)["code_configuration"] is None


@pytest.mark.parametrize("flavors", ["flavors: {xgboost: {}, onnx: {}}", "flavors: {}", "run_id: x"])
def test_a_model_that_mlflow_cannot_predict_with_needs_a_script(ready: Workspace, project: Path, flavors: str) -> None:
    """MLmodel is read, the model is not loaded."""
    code = "code_configuration:\n  code: code\n  scoring_script: batch_driver.py\n"
    (project / "model" / "MLmodel").write_text(flavors + "\n")
    inline = ("azureml:heart@latest", "{path: model, type: mlflow_model}")
    with pytest.raises(SpecError, match=r"no flavor python_function.* It has: (none|onnx, xgboost)\.") as caught:
        _create(ready, project, (code, ""), inline)
    assert (caught.value.fields["field"], caught.value.fields["line"]) == ("model", 4)
    assert _create(ready, project, inline)["code_configuration"]["scoring_script"] == "batch_driver.py"  # type: ignore[index]


def test_a_script_for_an_mlflow_model_needs_an_environment(ready: Workspace, project: Path) -> None:
    """Azure ML's rule, in its words and in ours."""
    (project / "model" / "MLmodel").write_text("flavors: {python_function: {}}\n")
    inline = ("azureml:heart@latest", "{path: model, type: mlflow_model}")
    text = (project / "deployment.yml").read_text()
    environment = text[text.index("environment:") : text.index("compute:")]
    with pytest.raises(SpecError, match="'Environment Id' must not be empty") as caught:
        _create(ready, project, (environment, ""), inline)
    assert caught.value.fields["field"] == "environment"
    assert "environment: azureml:NAME@latest" in caught.value.hint


def test_an_update_keeps_what_it_does_not_name(
    ready: Workspace, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _create(ready, project)
    before = resolve_deployment(ready, "heart-batch", "blue")
    (project / "code" / "batch_driver.py").write_text("def run(mini_batch): return []\n")
    monkeypatch.chdir(tmp_path)
    deployments.update_deployment(ready, "blue", "heart-batch", sets=["settings.mini_batch_size=9", "tags.a=b"])
    after = resolve_deployment(ready, "heart-batch", "blue")
    assert (after.settings.mini_batch_size, after.revision) == (9, 2)
    assert (after.code, after.model, after.environment) == (before.code, before.model, before.environment)
    deployments.update_deployment(
        ready, "blue", "heart-batch", sets=["code_configuration.scoring_script=batch_driver.py"]
    )
    newest = resolve_deployment(ready, "heart-batch", "blue")
    assert (newest.code != before.code, newest.settings.mini_batch_size) == (True, 9)
    shown = deployments.update_deployment(ready, "blue", "heart-batch", removes=["tags.a"])
    assert shown["tags"] == {}


def test_an_update_is_told_apart_from_the_creation(ready: Workspace, project: Path) -> None:
    made = _create(ready, project)["creation_context"]
    assert set(made) == {"created_at", "created_by"}
    updated = deployments.update_deployment(ready, "blue", "heart-batch", sets=["tags.a=b"])["creation_context"]
    assert {key: updated[key] for key in made} == made
    assert set(updated) == {*made, "last_modified_at", "last_modified_by"}
    deployments.delete_deployment(ready, "blue", "heart-batch")
    assert set(_create(ready, project)["creation_context"]) == set(made), "another deployment of that name"


def test_seconds_are_shown_as_they_were_written(ready: Workspace, project: Path) -> None:
    shown = _create(ready, project)["settings"]["retry_settings"]
    assert json.dumps(shown) == '{"max_retries": 3, "timeout": 30}'
    changes = ["settings.retry_settings.timeout=0.5"]
    shown = deployments.update_deployment(ready, "blue", "heart-batch", sets=changes)["settings"]["retry_settings"]
    assert json.dumps(shown) == '{"max_retries": 3, "timeout": 0.5}'


def test_a_compute_that_is_not_there_yet_is_said_and_the_deployment_is_made(
    ready: Workspace, project: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A script may create the compute later; a typing error is not found out by the first invocation only."""
    create = functools.partial(_create, ready, project, ("azureml:local", "azureml:cpu-clster"))
    with caplog.at_level(logging.WARNING, "hpcbatch"):
        assert create()["compute"] == "azureml:cpu-clster"
    (said,) = caplog.messages
    assert said.startswith(f"{project / 'changed.yml'}, line 12: compute: The compute 'cpu-clster' is not registered.")
    assert "There are: local." in said
    assert said.endswith("hpcbatch compute create --name cpu-clster --type slurm --set partition=PARTITION")
    caplog.clear()
    deployments.update_deployment(ready, "blue", "heart-batch", sets=["tags.a=b"])
    assert caplog.messages == []
    deployments.update_deployment(ready, "blue", "heart-batch", sets=["compute=gone"])
    assert caplog.messages[0].startswith("the command line: compute: ")


@pytest.mark.parametrize(
    ("was", "refers", "field", "line"),
    [("azureml:heart@latest", "azureml:lungs:1", "model", 4), ("azureml:heart@latest", "azureml:heart:7", "model", 4)],
)
def test_a_reference_to_what_is_not_there_is_found_in_the_file(
    ready: Workspace, project: Path, was: str, refers: str, field: str, line: int
) -> None:
    with pytest.raises(NotFound) as caught:
        _create(ready, project, (was, refers))
    file = str(project / "changed.yml")
    assert {key: caught.value.fields[key] for key in ("file", "line", "field")} == {
        "file": file, "line": line, "field": field,
    }  # fmt: skip
    assert str(caught.value).startswith(f"{file}:{line}: {field}: The model ")


def _tag(ws: Workspace, number: int, results: Any) -> None:
    try:
        deployments.update_deployment(ws, "blue", "heart-batch", sets=[f"tags.t{number}=x"])
    except Conflict:
        results.put(None)
    else:
        results.put(f"t{number}")


def test_of_updates_at_once_each_lands_or_is_told(ready: Workspace, project: Path) -> None:
    _create(ready, project)
    context = get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_tag, args=(ready, number, results)) for number in range(8)]
    for process in processes:
        process.start()
    landed = {results.get(timeout=600) for _ in processes} - {None}
    for process in processes:
        process.join()
    assert set(deployments.show_deployment(ready, "blue", "heart-batch")["tags"]) == landed != set()


def test_an_update_from_a_file_is_put_over_what_is_there(ready: Workspace, project: Path) -> None:
    _create(ready, project)
    (project / "change.yml").write_text(
        "type: model\nname: ignored\nsettings: {error_threshold: 3}\ncompute: azureml:local\n"
    )
    shown = deployments.update_deployment(ready, "blue", "heart-batch", file=project / "change.yml")
    assert (shown["name"], shown["settings"]["error_threshold"], shown["settings"]["mini_batch_size"]) == ("blue", 3, 2)


def test_a_bad_update_changes_nothing(ready: Workspace, project: Path) -> None:
    before = _create(ready, project)
    for change in ({"sets": ["settings.mini_batch_size=0"]}, {"sets": ["settings.x=1"]}, {"removes": ["nothing"]}, {}):
        with pytest.raises(SpecError):
            deployments.update_deployment(ready, "blue", "heart-batch", **change)
    with pytest.raises(NotFound, match="heart-batch has: blue"):
        deployments.update_deployment(ready, "red", "heart-batch", sets=["tags.a=b"])
    assert deployments.show_deployment(ready, "blue", "heart-batch") == before


def test_deleting_the_default_deployment_leaves_none(ready: Workspace, project: Path) -> None:
    _create(ready, project, set_default=True)
    _create(ready, project, name="green")
    deployments.delete_deployment(ready, "green", "heart-batch")
    assert endpoints.show_endpoint(ready, "heart-batch")["defaults"]["deployment_name"] == "blue"
    deployments.delete_deployment(ready, "blue", "heart-batch")
    assert endpoints.show_endpoint(ready, "heart-batch")["defaults"]["deployment_name"] is None
    with pytest.raises(NotFound, match="No deployment exists for this endpoint"):
        deployments.show_deployment(ready, "blue", "heart-batch")
    with pytest.raises(NotFound):
        deployments.delete_deployment(ready, "blue", "heart-batch")


def test_an_environment_by_reference_is_taken_at_its_version(ready: Workspace, project: Path, tmp_path: Path) -> None:
    inline = (
        "environment:\n  name: heart-env\n  image: mcr.microsoft.com/azureml/openmpi:latest\n"
        "  conda_file: environment/conda.yaml\n"
    )
    assets.create_environment(ready, name="torch", python=sys.executable)
    assert _create(ready, project, (inline, "environment: azureml:torch@latest\n"))["environment"] == "azureml:torch:1"
    with pytest.raises(NotFound, match="It has: 1"):
        _create(ready, project, (inline, "environment: azureml:torch:8\n"))
    curated = "environment: azureml://registries/azureml/environments/sklearn-1.5/labels/latest\n"
    assert _create(ready, project, (inline, curated))["environment"] == "azureml:sklearn-1.5:latest"


def test_a_header_for_rows_that_have_names_is_refused_with_its_line(ready: Workspace, project: Path) -> None:
    """When the deployment is made or changed, and not first when somebody invokes it."""
    file = project / "deployment.yml"
    text = file.read_text()
    file.write_text(f"{text}  output_file_name: rows.parquet\nproperties: {{hpcbatch.output_header: 'a,b'}}\n")
    with pytest.raises(SpecError, match=r"deployment\.yml:16: output_header is for text; 'rows\.parquet'"):
        deployments.create_deployment(ready, file=file)
    file.write_text(text)
    deployments.create_deployment(ready, file=file, sets=["properties.hpcbatch.output_header=a,b"])
    with pytest.raises(SpecError, match=r"'x\.jsonl' is jsonl"):
        deployments.update_deployment(ready, "blue", "heart-batch", sets=["settings.output_file_name=x.jsonl"])


@pytest.mark.parametrize(("field", "other", "same"), [("name", "green", "blue"), ("endpoint_name", "x", "heart-batch")])
def test_a_deployment_keeps_its_name_and_its_endpoint(
    ready: Workspace, project: Path, field: str, other: str, same: str
) -> None:
    """To change them is refused, not ignored; to say them again is no harm."""
    before = deployments.create_deployment(ready, file=project / "deployment.yml")
    with pytest.raises(SpecError, match=f"{field} cannot be changed: the deployment is 'blue' of 'heart-batch'"):
        deployments.update_deployment(ready, "blue", "heart-batch", sets=[f"{field}={other}"])
    assert deployments.show_deployment(ready, "blue", "heart-batch")["revision"] == before["revision"]
    changed = deployments.update_deployment(ready, "blue", "heart-batch", sets=[f"{field}={same}", "description=d"])
    assert changed["description"] == "d"
