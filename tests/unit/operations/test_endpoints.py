"""Endpoints: created, shown, changed, deleted; two of one name never mix."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, NotFound, SpecError
from hpcbatch.operations import deployments, endpoints
from hpcbatch.operations.workspace import Workspace


def test_an_endpoint_is_shown_as_azure_ml_shows_it(ws: Workspace, project: Path) -> None:
    made = endpoints.create_endpoint(ws, file=project / "endpoint.yml")
    context = made.pop("creation_context")
    assert made == {
        "id": f"{ws.root}/endpoints/heart-batch",
        "name": "heart-batch",
        "description": "Scores hearts",
        "tags": {"team": "cardio"},
        "properties": {},
        "auth_mode": "aad_token",
        "defaults": {"deployment_name": None},
        "provisioning_state": "Succeeded",
        "scoring_uri": f"hpcbatch://{ws.root}/endpoints/heart-batch",
        "openapi_uri": None,
        "location": "",
    }
    assert set(context) == {"created_at", "created_by"}
    assert endpoints.list_endpoints(ws) == [endpoints.show_endpoint(ws, "heart-batch")]


def test_a_name_alone_is_enough_and_wins_over_the_file(ws: Workspace, project: Path) -> None:
    assert endpoints.create_endpoint(ws, name="lung")["name"] == "lung"
    assert endpoints.create_endpoint(ws, file=project / "endpoint.yml", name="liver")["tags"] == {"team": "cardio"}
    assert [one["name"] for one in endpoints.list_endpoints(ws)] == ["liver", "lung"]


def test_creating_ones_own_endpoint_again_keeps_its_default_deployment(ready: Workspace, project: Path) -> None:
    deployments.create_deployment(ready, file=project / "deployment.yml", set_default=True)
    again = endpoints.create_endpoint(ready, name="heart-batch", sets=["description=new"])
    assert (again["description"], again["tags"]) == ("new", {})
    assert again["defaults"] == {"deployment_name": "blue"}
    other = endpoints.create_endpoint(ready, name="heart-batch", sets=["defaults.deployment_name=green"])
    assert other["defaults"] == {"deployment_name": "green"}
    assert len(deployments.list_deployments(ready, "heart-batch")) == 1


def test_names_may_not_differ_in_case_only_and_are_found_in_any(ws: Workspace) -> None:
    endpoints.create_endpoint(ws, name="Heart")
    with pytest.raises(Conflict, match="case only"):
        endpoints.create_endpoint(ws, name="heart")
    assert endpoints.show_endpoint(ws, "hEART")["name"] == "Heart"


@pytest.fixture
def shared() -> Iterator[Workspace]:
    """A workspace that two users may write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        root = Path(name, "workspace")
        root.mkdir()
        root.chmod(0o3777)
        yield Workspace(root)
        os.seteuid(0)


def test_an_endpoint_of_somebody_else_is_not_overwritten(shared: Workspace) -> None:
    """Alice's stays as it was; Bob is told whose it is, and that he may update it."""
    before = endpoints.create_endpoint(shared, name="heart", sets=["description=of root"])
    os.seteuid(65534)
    with pytest.raises(Conflict, match="belongs to root") as caught:
        endpoints.create_endpoint(shared, name="heart", sets=["description=mine"])
    assert "batch-endpoint update" in caught.value.hint
    assert endpoints.show_endpoint(shared, "heart") == before
    endpoints.update_endpoint(shared, "heart", sets=["description=ours"])
    os.seteuid(0)
    assert endpoints.create_endpoint(shared, name="heart")["description"] is None


def test_a_deleted_name_is_free_for_everybody(shared: Workspace) -> None:
    endpoints.create_endpoint(shared, name="heart")
    endpoints.delete_endpoint(shared, "heart")
    os.seteuid(65534)
    assert endpoints.create_endpoint(shared, name="heart")["name"] == "heart"


def test_an_update_changes_what_it_says_and_nothing_else(ready: Workspace, project: Path) -> None:
    (project / "change.yml").write_text("description: From a file\n")
    shown = endpoints.update_endpoint(ready, "heart-batch", file=project / "change.yml", sets=["tags.b=2"])
    assert (shown["description"], shown["tags"]) == ("From a file", {"team": "cardio", "b": "2"})
    shown = endpoints.update_endpoint(ready, "heart-batch", adds=["tags.c=3"], removes=["tags.team"])
    assert (shown["description"], shown["tags"]) == ("From a file", {"b": "2", "c": "3"})


def test_a_bad_update_changes_nothing(ready: Workspace) -> None:
    before = endpoints.show_endpoint(ready, "heart-batch")
    for change in (
        {"sets": ["descripton=x"]},
        {"removes": ["tags.no"]},
        {"sets": ["name=other"]},
        {},
        {"removes": ["a.b.c"]},
    ):
        with pytest.raises(SpecError):
            endpoints.update_endpoint(ready, "heart-batch", **change)
    with pytest.raises(NotFound, match="heart-batch"):
        endpoints.update_endpoint(ready, "other", sets=["description=x"])
    assert endpoints.show_endpoint(ready, "heart-batch") == before


def test_the_default_can_only_move_to_what_exists(ready: Workspace, project: Path) -> None:
    with pytest.raises(NotFound, match="No deployment exists for this endpoint"):
        endpoints.update_endpoint(ready, "heart-batch", defaults="deployment_name=blue")
    for name in ("blue", "green"):
        deployments.create_deployment(ready, file=project / "deployment.yml", name=name)
    for change in ({"defaults": "deployment_name=blue"}, {"defaults": {"deployment_name": "green"}}):
        shown = endpoints.update_endpoint(ready, "heart-batch", **change)
        assert f"deployment_name={shown['defaults']['deployment_name']}" in str(change).replace("': '", "=")
    with pytest.raises(NotFound, match="blue, green"):
        endpoints.update_endpoint(ready, "heart-batch", sets=["defaults.deployment_name=red"])
    assert endpoints.show_endpoint(ready, "heart-batch")["defaults"]["deployment_name"] == "green"


def test_deleting_an_endpoint_deletes_its_deployments(ready: Workspace, project: Path) -> None:
    deployments.create_deployment(ready, file=project / "deployment.yml")
    endpoints.delete_endpoint(ready, "heart-batch")
    with pytest.raises(NotFound, match="does not exist"):
        endpoints.show_endpoint(ready, "heart-batch")
    with pytest.raises(NotFound):
        endpoints.delete_endpoint(ready, "heart-batch")
    with pytest.raises(NotFound):
        endpoints.set_default_deployment(ready, "heart-batch", None)
    endpoints.create_endpoint(ready, name="heart-batch")
    assert deployments.list_deployments(ready, "heart-batch") == []


def test_a_default_without_its_key_is_told_how_it_is_said(ws: Workspace) -> None:
    """The message names --defaults, which is what was typed."""
    endpoints.create_endpoint(ws, name="heart-batch")
    with pytest.raises(SpecError, match=r"--defaults 'blue' is not KEY=VALUE(.|\n)*--defaults deployment_name=blue"):
        endpoints.update_endpoint(ws, "heart-batch", defaults="blue")
