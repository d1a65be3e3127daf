"""Bring a file or a folder of another place to this filesystem, whole, and send one there: for steps of pipelines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpcbatch.dataio.addresses import parse_address
from hpcbatch.dataio.inputs import list_address
from hpcbatch.fs.linked import linked_tree
from hpcbatch.fs.own import fetched

AT_ONCE = 8


def bring(text: str, kind: str, folder: Path, options: Mapping[str, Any]) -> Path:
    """Fetch what lies at the address *text* into the private *folder*: the path of the file (`uri_file`), or *folder*
    with everything that is below the address. *options* are fsspec's, with credentials by reference. Raises SpecError,
    FilesystemError.
    """
    from hpcbatch.dataio import remote

    address = parse_address(text, field="inputs", listed=kind != "uri_file")
    items = list_address(address, "uri_file" if kind == "uri_file" else "uri_folder", options)
    part = items.remote
    assert part is not None
    names = [os.fsdecode(name) for name in items.names]
    place = remote.open_place(part.protocol, part.options)

    def fetch(name: str) -> None:
        with remote.explained(remote.shown(part, name)), fetched(folder / name) as temp:
            place.get_file(remote.location(part, name), str(temp))

    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(fetch, names))
    return folder / names[0] if kind == "uri_file" else folder


def send(source: Path, text: str, options: Mapping[str, Any]) -> None:
    """Put the file *source* at the address *text*, or the files of the folder *source* below it; what is there already
    with the same content is fine. Raises Conflict for something else, FilesystemError, JobError for a link that
    leads nowhere, or to a folder outside of *source*.
    """
    from hpcbatch.dataio import remote
    from hpcbatch.dataio.put import put_once

    address = parse_address(text, field="outputs", listed=False)
    if source.is_file():
        folder, _, name = text.rpartition("/")
        part = remote.output_place(parse_address(folder, field="outputs", listed=False), {**address.options, **options})
        put_once(source, part, name)
        return
    part = remote.output_place(address, {**address.options, **options})
    found = list(linked_tree(source))  # all of it, before anything is sent
    for name, is_folder in found:
        if not is_folder:
            put_once(source / name, part, name)
