"""`client.models`, `.data`, `.environments` and `.computes`."""

from __future__ import annotations

import os
from collections.abc import Mapping

from hpcbatch.client.collection import Collection, Finished, Listing
from hpcbatch.client.entities import Compute, Data, Environment, Model
from hpcbatch.client.entity import PathLike
from hpcbatch.operations import assets, versions
from hpcbatch.spec.refs import AssetRef


class Assets(Collection):
    """What models, data and environments have in common."""

    _kind = ""

    def archive(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """Leave the version, or every version, out of lists; what refers to it goes on working. Raises NotFound."""
        versions.archive_asset(self._ws, self._kind, AssetRef(name, version, label))

    def restore(self, name: str, version: str | None = None, label: str | None = None) -> None:
        """Put the version, or every version, back into lists."""
        versions.archive_asset(self._ws, self._kind, AssetRef(name, version, label), archived=False)


class Models(Assets):
    """The models of a workspace. Versions are immutable."""

    _kind = "model"

    def create_or_update(self, model: Model) -> Model:
        """Copy the model into the workspace: as the version that it names, or the next one.

        The same content again is the version that is there. Raises Conflict if that version has another content.
        """
        return Model.from_workspace(self._ws, assets.create_model(self._ws, file=model.loaded()))

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Model:
        """The model *name*, this version or the newest. Raises NotFound with those that there are."""
        return Model.from_workspace(self._ws, assets.show_model(self._ws, name, version=version, label=label))

    def list(self, name: str | None = None) -> Listing[Model]:
        """The newest version of every model, or every version of *name*."""
        return self._entities(Model, assets.list_models(self._ws, name))

    def download(self, name: str, version: str | None = None, download_path: PathLike = ".") -> None:
        """Copy the model's file or folder to `<download_path>/<name>/`. Raises NotFound."""
        assets.download_model(self._ws, AssetRef(name, version), os.fspath(download_path))


class DataAssets(Assets):
    """The data assets of a workspace: names for data that stays where it is."""

    _kind = "data"

    def create_or_update(self, data: Data) -> Data:
        """Register the pointer: as the version that it names, or the next one."""
        return Data.from_workspace(self._ws, assets.create_data(self._ws, file=data.loaded()))

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Data:
        """The data asset *name*, this version or the newest. Raises NotFound with those that there are."""
        return Data.from_workspace(self._ws, assets.show_data(self._ws, name, version=version, label=label))

    def list(self, name: str | None = None) -> Listing[Data]:
        """The newest version of every data asset, or every version of *name*."""
        return self._entities(Data, assets.list_data(self._ws, name))


class Environments(Assets):
    """The environments of a workspace, and the maps that say which Python has those that Azure ML would build."""

    _kind = "environment"

    def create_or_update(self, environment: Environment) -> Environment:
        """Register it: as the version that it names, or the next one. Its `python` must exist."""
        shown = assets.create_environment(self._ws, file=environment.loaded())
        return Environment.from_workspace(self._ws, shown)

    def get(self, name: str, version: str | None = None, label: str | None = None) -> Environment:
        """The environment *name*, this version or the newest. Raises NotFound with those that there are."""
        shown = assets.show_environment(self._ws, name, version=version, label=label)
        return Environment.from_workspace(self._ws, shown)

    def list(self, name: str | None = None) -> Listing[Environment]:
        """The newest version of every environment, or every version of *name*."""
        return self._entities(Environment, assets.list_environments(self._ws, name))

    def map(self, glob: str, python: PathLike) -> Mapping[str, str]:
        """From now on, environments whose name or image matches *glob* run with *python*, which must exist."""
        return assets.map_environment(self._ws, glob, os.fspath(python))

    def maps(self) -> Mapping[str, str]:
        """The Python of each glob, in the order in which they are tried."""
        return {one["glob"]: one["python"] for one in assets.list_environment_maps(self._ws)}


class Computes(Collection):
    """Where jobs of a workspace can run; `local`, this machine, is always there."""

    def create_or_update(self, compute: Compute) -> Compute:
        """Say what the compute is; an existing one of that name is replaced."""
        return Compute.from_workspace(self._ws, assets.create_compute(self._ws, file=compute.loaded()))

    def begin_create_or_update(self, compute: Compute) -> Finished[Compute]:
        """`create_or_update` as Azure ML spells it."""
        return Finished(self.create_or_update(compute))

    def get(self, name: str) -> Compute:
        """The compute *name*. Raises NotFound with those that there are."""
        return Compute.from_workspace(self._ws, assets.show_compute(self._ws, name))

    def list(self) -> Listing[Compute]:
        """Every compute."""
        return self._entities(Compute, assets.list_computes(self._ws))

    def delete(self, name: str) -> None:
        """Forget the compute; jobs on it go on."""
        assets.delete_compute(self._ws, name)

    def begin_delete(self, name: str) -> Finished[None]:
        """`delete` as Azure ML spells it."""
        self.delete(name)
        return Finished(None)
