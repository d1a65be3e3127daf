"""What an invocation reads: a path of this filesystem, another place, or a registered data asset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpcbatch.dataio import addresses, credentials
from hpcbatch.dataio.inputs import Items, list_address, list_items
from hpcbatch.errors import SpecError
from hpcbatch.operations.places import kept_path
from hpcbatch.operations.versions import find_asset
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.store import is_name
from hpcbatch.spec.refs import is_data_asset, parse_ref

INPUT_TYPES = ("uri_folder", "uri_file")


@dataclass(frozen=True)
class InputRef:
    """A pointer to data; never the data. `storage_options` are fsspec's, with credentials by reference."""

    path: str
    type: str = "uri_folder"
    storage_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether it points to another place than a filesystem of the cluster."""
        return addresses.is_remote(self.path)


def resolve_input(ws: Workspace, given: InputRef | None) -> InputRef:
    """The input as a path or an address: a data asset is looked up, `file://` is taken off.

    Raises SpecError for what cannot be an input of a model deployment, NotFound for an asset that is not there.
    """
    if given is None:
        raise SpecError(
            "A model deployment needs an input.",
            hint="Name the data: --input PATH [--input-type uri_folder|uri_file]",
            field="input",
        )
    options = dict(given.storage_options)
    if is_data_asset(given.path):
        asset = find_asset(ws, "data", parse_ref(given.path, field="input"))
        given = _of_asset(asset)
        options = {**(asset.get("storage_options") or {}), **options}
    if given.type not in INPUT_TYPES:
        raise SpecError(
            f"Input type {given.type!r} is not possible for a model deployment.",
            hint="Use --input-type uri_folder or --input-type uri_file",
            field="input_type",
            found=given.type,
            allowed=", ".join(INPUT_TYPES),
        )
    given = InputRef(kept_path(ws, given.path), given.type)
    if not given.remote:
        given = InputRef(addresses.local_path(given.path), given.type)
        _refuse_the_bare_name_of_an_asset(ws, given.path)
        return given
    return InputRef(given.path, given.type, credentials.checked_options(options))


def _refuse_the_bare_name_of_an_asset(ws: Workspace, path: str) -> None:
    """Without `azureml:` a name is a path, as in Azure ML; where there is no such path, the asset was meant."""
    name = os.path.basename(path)
    is_asset = is_name(name) and ws.registry.stream("data", name).latest() is not None
    if is_asset and not os.path.lexists(os.path.expanduser(path)):
        raise SpecError(
            f"Input {path!r} does not exist; {name} is a registered data asset.",
            hint=f"Name it as an asset: --input azureml:{name}@latest",
            field="input", found=path, allowed=f"azureml:{name}@latest",
        )  # fmt: skip


def _of_asset(asset: Mapping[str, Any]) -> InputRef:
    """What a data asset points to. An mltable is its `paths`, which must be one for a model deployment."""
    if asset["type"] != "mltable":
        return InputRef(str(asset["path"]), str(asset["type"]))
    entries = asset.get("paths") or []
    if len(entries) != 1:
        raise SpecError(
            f"The mltable {asset['name']} has {len(entries)} paths; a model deployment takes one.",
            hint="Put the data into one folder, or write one `pattern:` into MLTable.",
            field="input",
            found=len(entries),
            allowed="an mltable with one path",
        )
    ((kind, path),) = entries[0].items()
    return InputRef(str(path), "uri_file" if kind == "file" else "uri_folder")


def list_input(given: InputRef) -> Items:
    """The items behind a resolved input. Raises SpecError, FilesystemError."""
    if not given.remote:
        return list_items(given.path, given.type)
    listed = given.type == "uri_folder"
    address = addresses.parse_address(given.path, field="input", listed=listed)
    credentials.refuse_implicit(address.protocol, given.storage_options)
    return list_address(address, given.type, given.storage_options)


def left_out(items: Items) -> tuple[str, ...]:
    """A warning about what looks like an item and is none: links whose file is gone."""
    if not items.broken:
        return ()
    named = ", ".join(repr(os.fsdecode(name)) for name in items.broken[:3]) + (", ..." if len(items.broken) > 3 else "")
    return (f"Symbolic links of the input that lead nowhere are left out: {named} ({len(items.broken)} in all)",)


def shown_path(given: InputRef) -> str:
    """The input as a job names it: absolute, and without anything secret."""
    if given.remote:
        return addresses.without_secrets(given.path)
    return os.path.abspath(os.path.expanduser(given.path))
