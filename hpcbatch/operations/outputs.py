"""Where an invocation's results go: the job's own folder, one of the invoker's, or another place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.dataio import addresses, credentials
from hpcbatch.errors import Conflict, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.owned import pinned
from hpcbatch.records.job import RemotePart
from hpcbatch.spec.refs import is_ref


@dataclass(frozen=True)
class OutputPlace:
    """The folder that the merged output is published in, and where it is put after that."""

    folder: Path
    remote: RemotePart | None = None
    made: bool = True


def output_place(path: str | None, options: Mapping[str, Any], file_name: str, job_folder: Path) -> OutputPlace:
    """The place for an output named *file_name*; writes nothing.

    Raises Conflict if that name is taken there: nothing is overwritten. SpecError for what cannot be written to,
    FilesystemError for a folder that a symbolic link of somebody else leads to.
    """
    own = job_folder / "out"
    if path is None:
        return OutputPlace(own)
    if path.startswith("azureml:") and "://" not in path:
        raise SpecError(
            f"Output path {path!r} is not a folder of a filesystem that the cluster sees, nor an address.",
            hint="Give a folder: --output-path /shared/results/run-1, or an address: s3://BUCKET/run-1",
            field="output_path", found=path, allowed="a folder or an address",
        )  # fmt: skip
    if addresses.is_remote(path):
        return OutputPlace(own, _elsewhere(path, options, file_name))
    target = Path(os.path.abspath(os.path.expanduser(addresses.local_path(path))))
    with publish.explained(target):
        is_taken = file_name in scan.names(target)
        with pinned(next(folder for folder in (target, *target.parents) if folder.is_dir())):
            pass  # the merge asks again, and writes into the folder that it asked about
    if is_taken:
        raise _taken(str(target / file_name))
    return OutputPlace(target, made=False)


def from_anywhere(path: str) -> str:
    """*path*, of an input or an output, as it means the same in every folder that it is said in."""
    if addresses.is_remote(path) or is_ref(path):
        return path
    return os.path.abspath(os.path.expanduser(addresses.local_path(path)))


def make_output_folder(place: OutputPlace) -> None:
    """Make the invoker's folder if it is not there. Raises FilesystemError."""
    if not place.made:
        publish.make_directory(place.folder, 0o755)


def _elsewhere(path: str, options: Mapping[str, Any], file_name: str) -> RemotePart:
    from hpcbatch.dataio import remote  # fsspec, only where an output goes elsewhere

    address = addresses.parse_address(path, field="output-path", listed=True)
    checked = {**address.options, **credentials.checked_options(options)}
    credentials.refuse_implicit(address.protocol, checked)
    part = remote.output_place(address, checked)
    if remote.holds(part, file_name):
        raise _taken(f"{part.protocol}://{part.root}{file_name}")
    return part


def _taken(shown: str) -> Conflict:
    return Conflict(
        f"{shown!r} exists; nothing is overwritten.",
        hint="Choose another --output-path or --set output_file_name=NAME",
        path=shown,
    )
