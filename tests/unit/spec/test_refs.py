"""References to assets in all of Azure ML's spellings."""

from __future__ import annotations

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.spec.refs import AssetRef, is_data_asset, is_ref, parse_ref

GOOD = {
    "azureml:heart:3": AssetRef("heart", "3"),
    "azureml:heart@latest": AssetRef("heart", None, "latest"),
    "azureml:heart": AssetRef("heart"),
    "heart": AssetRef("heart"),
    "heart:3": AssetRef("heart", "3"),
    "heart@latest": AssetRef("heart", None, "latest"),
    "azureml:my.model_v-2:2026-01-01": AssetRef("my.model_v-2", "2026-01-01"),
    "azureml://registries/azureml/models/bart/versions/11": AssetRef("bart", "11", None, "azureml"),
    "azureml://registries/azureml/environments/sk-1.5/labels/latest": AssetRef("sk-1.5", None, "latest", "azureml"),
    "azureml:/subscriptions/s/resourceGroups/g/providers/Microsoft.MachineLearningServices/workspaces/w/models/m/versions/2":
        AssetRef("m", "2"),
    "/subscriptions/s/resourceGroups/g/providers/X/workspaces/w/computes/cpu-cluster": AssetRef("cpu-cluster"),
    "azureml://subscriptions/s/resourcegroups/g/workspaces/w/models/m/versions/2": AssetRef("m", "2"),
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_every_spelling_is_understood(text: str) -> None:
    assert parse_ref(text) == GOOD[text]


@pytest.mark.parametrize(
    "text", ["", "azureml:", "azureml:a:b:c", "a b", "../model", "./model", "azureml:a@", "-x", "a\n", "azureml://datastores/d/paths/p"]
)  # fmt: skip
def test_anything_else_is_refused_with_the_forms(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_ref(text, field="model")
    assert (caught.value.fields["field"], caught.value.fields["found"]) == ("model", text)
    assert "azureml:<name>:<version>" in caught.value.hint


def test_a_reference_prints_as_azure_ml_writes_it() -> None:
    assert [str(parse_ref(one)) for one in ("a", "a:1", "a@latest")] == ["azureml:a", "azureml:a:1", "azureml:a@latest"]


def test_a_path_is_told_from_a_reference() -> None:
    assert is_ref("azureml:a")
    assert not is_ref("./model")


def test_a_data_asset_is_told_from_an_address_of_data() -> None:
    """Long forms of assets are references; what lies in a datastore is not, whatever its folders are called."""
    assets = [
        "azureml:a:1",
        "azureml://registries/r/data/a/versions/1",
        "/subscriptions/s/workspaces/w/data/a/versions/1",
    ]
    assert all(map(is_data_asset, assets))
    places = ["azureml://datastores/d/paths/data/a", "azureml://subscriptions/s/datastores/d/paths/data/a", "./data/a"]
    assert not any(map(is_data_asset, places))
