"""Entities are what the YAML is: they load it, dump it, and are checked where a file is."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import pytest

from hpcbatch import (
    BatchEndpoint,
    CodeConfiguration,
    Compute,
    Conflict,
    Data,
    Environment,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
    SpecError,
    load,
)

DOCUMENTS = {
    "endpoint.yml": ("name: heart-batch\ntags: {team: cardio}\ndefaults: {deployment_name: blue}\n", BatchEndpoint),
    "bare.yml": ("name: heart-batch\n", BatchEndpoint),
    "model.yml": ("name: heart\nversion: 1.10\ntype: custom_model\npath: model\n", Model),
    "mlflow.yml": ("name: heart\ntype: mlflow_model\npath: model\nflavors: {sklearn: {code: null}}\n", Model),
    "data.yml": ("name: hearts\ntype: uri_folder\npath: data\n", Data),
    "remote.yml": ("name: hearts\ntype: uri_file\npath: https://example.org/a.csv\n", Data),
    "environment.yml": ("name: e\nimage: some/image\nconda_file: conda.yaml\n", Environment),
    "inline.yml": ("name: e\nimage: i\nconda_file: {dependencies: [python=3.11]}\n", Environment),
    "local.yml": ("name: here\ntype: local\n", Compute),
    "slurm.yml": ("name: c\ntype: slurm\npartition: normal\ntime: 30\nmerge: {partition: short}\n", Compute),
    "low.yml": ("name: c\ntype: amlcompute\ntier: low_priority\nmin_instances: 0\nmax_instances: 5\n", Compute),
    "legacy.yml": (
        (
            "name: old\nendpoint_name: heart-batch\nmodel: {path: model}\nmini_batch_size: 3\n"
            "code_configuration: {code: code, scoring_script: score.py}\nretry_settings: {max_retries: 1}\n"
        ),
        ModelBatchDeployment,
    ),
    "script.yml": (
        (
            "name: new\nendpoint_name: heart-batch\ntype: model\nmodel: azureml:heart:1\ncompute: azureml:c\n"
            "environment: {image: i, conda_file: conda.yaml}\nresources: {properties: {slurm: {mem: 4G}}}\n"
            "settings: {environment_variables: {A: 1}, error_threshold: 0}\n"
        ),
        ModelBatchDeployment,
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_what_is_dumped_loads_back_as_the_same_entity(name: str, tmp_path: Path) -> None:
    """`load` says what a document is; the dump of it means the same in any other folder."""
    text, kind = DOCUMENTS[name]
    (tmp_path / name).write_text(text)
    entity = load(tmp_path / name)

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    dumped = entity.dump(elsewhere / "again.yml")

    assert type(entity) is kind
    assert load(elsewhere / "again.yml") == entity
    assert kind.load(elsewhere / "again.yml") == entity
    assert (elsewhere / "again.yml").read_text() == dumped


def test_the_repository_examples_load(tmp_path: Path) -> None:
    """The quickstart's files are what they say."""
    quickstart = Path(__file__).parents[3] / "examples" / "quickstart"
    assert isinstance(load(quickstart / "endpoint.yml"), BatchEndpoint)
    deployment = load(quickstart / "deployment.yml")
    assert isinstance(deployment, ModelBatchDeployment)
    assert deployment.code_configuration.code == str(quickstart / "code")
    assert deployment.settings.retry_settings.timeout == 60
    assert isinstance(load(quickstart / "compute" / "slurm.yml"), Compute)


def test_dump_overwrites_nothing(tmp_path: Path) -> None:
    """Somebody's file stays."""
    (tmp_path / "e.yml").write_text("mine")
    with pytest.raises(Conflict):
        BatchEndpoint(name="heart-batch").dump(tmp_path / "e.yml")
    assert (tmp_path / "e.yml").read_text() == "mine"


def test_a_mistake_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    """As on the command line: file, line, field, what was meant."""
    (tmp_path / "d.yml").write_text("name: new\nendpoint_name: heart-batch\nsettings:\n  mini_batchsize: 3\n")
    with pytest.raises(SpecError) as caught:
        load(tmp_path / "d.yml")
    assert caught.value.fields["line"] == 4
    assert caught.value.fields["file"] == str(tmp_path / "d.yml")
    assert "Did you mean 'mini_batch_size'?" in str(caught.value)


def test_a_document_of_no_kind_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    """A path alone may be a model or data."""
    (tmp_path / "x.yml").write_text("name: hearts\npath: data\n")
    with pytest.raises(SpecError, match=r"Model\.load"):
        load(tmp_path / "x.yml")
    assert Data.load(tmp_path / "x.yml").path == str(tmp_path / "data")


def test_changes_replace_fields_of_the_file(tmp_path: Path) -> None:
    """What a command line would say with flags."""
    (tmp_path / "e.yml").write_text("name: first\ndescription: d\n")
    entity = load(tmp_path / "e.yml", name="second")
    assert (entity.name, entity.description) == ("second", "d")


def test_settings_may_be_a_mapping_and_are_attributes_all_the_same() -> None:
    """What is written short can be changed long; unknown fields are kept, to be refused with the rest."""
    deployment = ModelBatchDeployment(name="blue", settings={"mini_batch_size": 1, "retry_settings": {"timeout": 5}})
    deployment.settings.mini_batch_size = 7
    deployment.settings.retry_settings.max_retries = 0
    assert deployment.document()["settings"] == {
        "mini_batch_size": 7,
        "retry_settings": {"max_retries": 0, "timeout": 5},
    }
    wrong = ModelBatchDeployment(name="blue", settings={"mini_batchsize": 1})
    assert wrong.document()["settings"] == {"mini_batchsize": 1}


def test_enums_and_paths_are_written_as_text() -> None:
    """Azure ML's constants are enums."""

    class Action(Enum):
        APPEND_ROW = "append_row"

    deployment = ModelBatchDeployment(
        name="blue",
        code_configuration=CodeConfiguration(Path("code"), "score.py"),
        settings=ModelBatchDeploymentSettings(output_action=Action.APPEND_ROW),
    )
    assert deployment.document()["settings"] == {"output_action": "append_row"}
    assert deployment.document()["code_configuration"]["code"] == "code"
    assert "append_row" in deployment.dump()


def test_repr_tells_what_is_set() -> None:
    """And nothing of the thirty fields that are not."""
    assert repr(Compute(name="c", type="slurm", partition="normal")) == (
        "Compute(name='c', type='slurm', partition='normal')"
    )
