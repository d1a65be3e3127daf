"""Copies of what a workspace holds, for the user who asked for them."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.fs import publish
from hpcbatch.fs.own import replace_private


def copy_out(source: Path, target: Path) -> str:
    """Copy the file *source* to *target*, whole or not at all; an older copy is replaced. The path that was written."""
    publish.make_directory(target.parent, 0o755)
    with publish.explained(target), publish.staged(target.parent, 0o644) as (temp, file):
        publish.copy_bytes(source, file.fileno())
        replace_private(temp, target)
    return str(target)
