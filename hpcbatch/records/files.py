"""Files that a scoring script wrote, as they lie in a segment: the names and sizes, then the bytes.

    header length u32 | header JSON {"files": [[name, bytes], ...]} | the files' bytes, one after the other

A name is a path below the output folder, its bytes as Latin-1.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Sequence
from pathlib import PurePosixPath

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical

HEAD = struct.Struct("<I")
Named = tuple[str, int]  # a name as the filesystem has it, and the file's bytes


def pack_names(files: Sequence[Named]) -> bytes:
    """The header for *files*."""
    text = canonical({"files": [[os.fsencode(name).decode("latin-1"), size] for name, size in files]})
    return HEAD.pack(len(text)) + text


def parse_names(text: bytes) -> list[Named]:
    """The files that the header JSON *text* names. Raises FileDamaged, also for a name that leaves the folder."""
    hint = "Run: hpcbatch job resume"
    try:
        found = [(os.fsdecode(str(name).encode("latin-1")), int(size)) for name, size in json.loads(text)["files"]]
    except (ValueError, LookupError, TypeError) as error:
        raise FileDamaged(f"The names of written files cannot be read: {error}", hint=hint) from error
    for name, size in found:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts or size < 0:
            raise FileDamaged(f"A written file has the impossible name {name!r}.", hint=hint)
    return found
