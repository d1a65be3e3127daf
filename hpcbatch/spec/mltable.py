"""The `MLTable` file of a data asset: where its data is. What it does to the rows is for the mltable library."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.spec.base import not_allowed
from hpcbatch.spec.yamlfile import Loaded, load

FILE = "MLTable"
_KINDS = ("file", "folder", "pattern")
_PATHS = "paths: a list of `file: PATH`, `folder: PATH` or `pattern: GLOB`"


def mltable_paths(folder: Path) -> list[dict[str, str]]:
    """The `paths` of the MLTable file in *folder*: `{file|folder|pattern: absolute path or URL}` each, in order.

    Raises SpecError with file and line for a folder without that file, and for paths that say something else.
    """
    if not (folder / FILE).is_file():
        raise SpecError(
            f"{str(folder)!r} holds no file {FILE}, so it is no mltable.",
            hint="Name the folder that holds MLTable, or use --type uri_folder.",
            field="path",
            found=str(folder),
            allowed="a folder with a file MLTable",
        )
    loaded = load(folder / FILE)
    entries = loaded.data.get("paths")
    if not isinstance(entries, list) or not entries:
        raise not_allowed(loaded, ("paths",), entries, _PATHS)
    return [_entry(loaded, index, entry) for index, entry in enumerate(entries)]


def _entry(loaded: Loaded, index: int, entry: Any) -> dict[str, str]:
    if not isinstance(entry, Mapping) or len(entry) != 1:
        raise not_allowed(loaded, ("paths", index), entry, _PATHS)
    ((kind, path),) = entry.items()
    if kind not in _KINDS or not isinstance(path, str) or not path:
        raise not_allowed(loaded, ("paths", index), entry, _PATHS)
    if "://" in path and not path.startswith("file://"):
        return {kind: path}
    return {kind: os.path.normpath(loaded.folder / path.removeprefix("file://"))}
