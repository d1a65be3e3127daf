"""The collections of a client: what `az ml` does for endpoints, deployments, assets and computes, in Python."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import hpcbatch
from hpcbatch import (
    BatchClient,
    BatchEndpoint,
    CodeConfiguration,
    Compute,
    Conflict,
    Data,
    Environment,
    Model,
    ModelBatchDeployment,
    NotFound,
    SpecError,
    load,
)
from tests.unit.environments.wheels import wheel


def test_an_endpoint_is_made_changed_listed_and_deleted(client: BatchClient) -> None:
    """With Azure ML's methods and Azure ML's idioms."""
    made = client.batch_endpoints.begin_create_or_update(BatchEndpoint(name="heart-batch", description="d")).result()
    assert made.scoring_uri
    got = client.batch_endpoints.get("heart-batch")
    got.tags["team"] = "cardio"
    changed = client.create_or_update(got)
    assert (changed.description, changed.tags) == ("d", {"team": "cardio"})
    assert client.batch_endpoints.create_or_update(changed) == changed
    assert [one.name for one in client.batch_endpoints.list()] == ["heart-batch"]
    client.batch_endpoints.begin_delete(name="heart-batch").wait()
    with pytest.raises(NotFound):
        client.batch_endpoints.get("heart-batch")


def test_the_default_deployment_is_set_on_the_endpoint(ready: BatchClient, project: Path) -> None:
    """`endpoint.defaults.deployment_name = ...`, as every Azure ML notebook does; one that is not there is refused."""
    green = load(project / "deployment.yml", name="green")
    ready.batch_deployments.begin_create_or_update(green).result()
    endpoint = ready.batch_endpoints.get("heart-batch")
    assert endpoint.defaults.deployment_name == "blue"
    endpoint.defaults.deployment_name = "green"
    endpoint = ready.batch_endpoints.begin_create_or_update(endpoint).result()
    assert endpoint.defaults.deployment_name == "green"
    endpoint.defaults.deployment_name = "red"
    with pytest.raises(NotFound, match="blue, green"):
        ready.batch_endpoints.create_or_update(endpoint)


def test_a_deployment_that_was_got_is_changed_where_it_differs(ready: BatchClient, project: Path) -> None:
    """Its snapshots stay, whatever became of the folders that they were made of."""
    (project / "code" / "score.py").write_text("broken(")
    before = ready.batch_deployments.get("blue", "heart-batch")
    before.settings.mini_batch_size = 4
    before.description = "changed"
    after = ready.batch_deployments.create_or_update(before)
    assert after.settings.mini_batch_size == 4
    assert after.settings.error_threshold == 0
    assert after.code_configuration == before.code_configuration
    after.description = None
    after.settings.mini_batch_size = None
    reset = ready.batch_deployments.create_or_update(after)
    assert (reset.description, reset.settings.mini_batch_size) == (None, 10)
    assert ready.batch_deployments.create_or_update(reset).shown["revision"] == reset.shown["revision"]


def test_a_deployment_that_was_got_cannot_be_copied_without_its_code(ready: BatchClient, project: Path) -> None:
    """A snapshot is no folder of code; the error says what to give."""
    copy = ready.batch_deployments.get("blue", "heart-batch")
    copy.name = "green"
    with pytest.raises(SpecError, match="CodeConfiguration"):
        ready.batch_deployments.create_or_update(copy)
    copy.code_configuration = CodeConfiguration(project / "code", "score.py")
    copy.environment = None
    assert ready.batch_deployments.create_or_update(copy).name == "green"
    assert [one.name for one in ready.batch_deployments.list("heart-batch")] == ["blue", "green"]
    ready.batch_deployments.begin_delete(name="green", endpoint_name="heart-batch")
    assert [one.name for one in ready.batch_deployments.list("heart-batch")] == ["blue"]


def test_what_a_workspace_has_is_referred_to_and_the_rest_is_part_of_the_deployment(
    ready: BatchClient, project: Path
) -> None:
    """Models and environments as objects, registered or not."""
    registered = ready.models.get("heart")
    environment = ready.environments.create_or_update(Environment(name="e", image="i", python=sys.executable))
    compute = ready.computes.create_or_update(Compute(name="here", type="local"))
    deployment = ModelBatchDeployment(
        name="green",
        endpoint_name="heart-batch",
        model=registered,
        environment=environment,
        compute=compute,
        code_configuration={"code": project / "code", "scoring_script": "score.py"},
    )
    assert deployment.document()["model"] == "azureml:heart:1"
    shown = ready.create_or_update(deployment)
    assert (shown.model, shown.environment, shown.compute) == ("azureml:heart:1", "azureml:e:1", "azureml:here")
    deployment.model = Model(path=project / "model")
    assert "azureml_anonymous" in ready.create_or_update(deployment).model


def test_relative_paths_of_a_file_start_at_the_file_and_others_here(
    client: BatchClient, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`load` may be called anywhere; what is written in Python is relative to the current folder, as in a shell."""
    client.batch_endpoints.create_or_update(load(project / "endpoint.yml"))
    monkeypatch.chdir(project)
    client.models.create_or_update(Model(name="heart", path="./model"))
    deployment = load("deployment.yml")
    monkeypatch.chdir("/")
    assert client.batch_deployments.create_or_update(deployment).model == "azureml:heart:1"


def test_an_impossible_entity_is_refused_as_its_file_would_be(ready: BatchClient, project: Path) -> None:
    """The field, what was found, what is allowed; for a loaded entity also the line."""
    with pytest.raises(SpecError) as caught:
        ready.batch_endpoints.create_or_update(BatchEndpoint(name="x"))
    assert caught.value.fields["field"] == "name"
    deployment = load(project / "deployment.yml", model="azureml:heart:1")
    (project / "code" / "score.py").unlink()
    with pytest.raises(SpecError) as caught:
        ready.batch_deployments.create_or_update(deployment)
    assert caught.value.fields["file"] == str(project / "deployment.yml")
    assert caught.value.fields["line"] == 8
    with pytest.raises(SpecError, match="mini_batchsize"):
        ready.create_or_update(
            ModelBatchDeployment(name="red", endpoint_name="heart-batch", settings={"mini_batchsize": 1})
        )


def test_versions_of_assets(client: BatchClient, project: Path) -> None:
    """Given or counted; immutable; found by version and by label."""
    first = client.models.create_or_update(Model(name="heart", path=project / "model"))
    assert client.models.create_or_update(first) == first
    (project / "model" / "factor.txt").write_text("3")
    second = client.begin_create_or_update(Model(name="heart", path=project / "model")).result()
    assert (first.version, second.version) == ("1", "2")
    assert client.models.get("heart", label="latest").version == "2"
    assert client.models.get("heart", version="1").id == "azureml:heart:1"
    assert [one.version for one in client.models.list("heart")] == ["2", "1"]
    with pytest.raises(Conflict):
        client.models.create_or_update(Model(name="heart", version="1", path=project / "model"))
    data = client.create_or_update(Data(name="hearts", path=project / "data"))
    assert client.data.get("hearts") == data
    assert [one.path for one in client.data.list()] == [str(project / "data")]


def test_what_is_archived_is_out_of_lists_and_a_model_can_be_taken_along(client: BatchClient, project: Path) -> None:
    """As in Azure ML's client: `archive`, `restore`, `download`."""
    client.models.create_or_update(Model(name="heart", path=project / "model"))
    client.data.create_or_update(Data(name="hearts", path=project / "data"))
    for collection, name in ((client.models, "heart"), (client.data, "hearts")):
        collection.archive(name)
        assert collection.list() == []
        assert collection.get(name).version == "1"
        collection.restore(name, version="1")
        assert [one.name for one in collection.list()] == [name]
    client.models.download("heart", download_path=project / "copies")
    copied = project / "copies" / "heart" / "model" / "factor.txt"
    assert copied.read_text() == (project / "model" / "factor.txt").read_text()


def test_environments_and_their_maps(client: BatchClient) -> None:
    """Registered ones, and the Python for those that only Azure ML could build."""
    client.environments.create_or_update(Environment(name="e", image="i", python=sys.executable))
    assert client.environments.get("e").python == sys.executable
    assert [one.name for one in client.environments.list()] == ["e"]
    client.environments.map("sklearn-*", sys.executable)
    assert client.environments.maps() == {"sklearn-*": sys.executable}


def test_computes(client: BatchClient) -> None:
    """`local` is always there; others are replaced whole."""
    client.computes.begin_create_or_update(Compute(name="c", type="slurm", partition="normal", time=30)).result()
    assert client.computes.get("c").partition == "normal"
    assert [one.name for one in client.computes.list()] == ["c", "local"]
    client.computes.begin_delete("c")
    assert [one.name for one in client.computes.list()] == ["local"]


def test_a_workspace_is_named_as_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path, or what the environment says."""
    monkeypatch.setenv("HPCBATCH_WORKSPACE", str(tmp_path / "from-environment"))
    assert BatchClient().workspace == str(tmp_path / "from-environment")
    assert BatchClient(str(tmp_path / "given")).workspace == str(tmp_path / "given")
    monkeypatch.chdir(tmp_path)
    assert BatchClient(Path("relative")).workspace == str(tmp_path / "relative")
    assert repr(BatchClient(tmp_path)) == f"BatchClient({str(tmp_path)!r})"


def test_the_stub_promises_what_the_package_exports() -> None:
    """`__init__.pyi` has the types of what `__init__.py` loads lazily: the same names."""
    stub = Path(hpcbatch.__file__).with_suffix(".pyi").read_text()
    names = sorted(line.rpartition(" as ")[2] for line in stub.splitlines() if line.startswith("from "))
    assert names == sorted(hpcbatch.__all__)
    with pytest.raises(AttributeError, match="BatchClient"):
        hpcbatch.MLClient  # noqa: B018 - the attribute is what is asked for


def test_settings_of_one_job_have_the_names_of_the_command_line(ready: BatchClient, project: Path) -> None:
    """Azure ML's, nested or dotted, and ours; a value that is impossible is refused before there is a job."""
    invoke, data = ready.batch_endpoints.invoke, project / "data"
    job = invoke(
        "heart-batch",
        input=data,
        params_override={"retry_settings": {"timeout": 9}, "properties": {"hpcbatch.output_header": "file,value"}},
        environment_variables={"LEVEL": 3, "NOTHING": None},
        logging_level="Debug",
    ).wait(progress=False)
    assert Path(job.outputs["score"].path, "predictions.csv").read_text().startswith("file,value\n")
    for given, words in (
        ({"logging_level": "trace"}, "warning, info or debug"),
        ({"environment_variables": "x"}, "no mapping"),
        ({"environment_variables": {"A B": "x"}}, "'A B' cannot be"),
        ({"mini_batch_size": 2.5}, "not a whole number"),
        ({"output_action": "summary_only"}, "cannot be set for one job"),
        ({"params_override": ["mini_batch_size"]}, "no mapping"),
    ):
        with pytest.raises(SpecError, match=words):
            invoke("heart-batch", input=data, **given)
    with pytest.raises(SpecError, match="which is no path"):
        invoke("heart-batch", input=3)
    assert len(ready.jobs.list()) == 1


@pytest.mark.slow
def test_an_environment_that_is_built_first_is_told_of(
    ready: BatchClient, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes may pass before the job is there; plain lines on stderr say why."""
    wheel(project)
    (project / "conda.yaml").write_text("dependencies:\n- pip: [--no-index, ./tiny-1.0-py3-none-any.whl]\n")
    ready.batch_deployments.create_or_update(load(project / "deployment.yml"))
    job = ready.batch_endpoints.invoke("heart-batch", input=project / "data")
    assert "Building the Python environment of" in capsys.readouterr().err
    job.wait(progress=False)
