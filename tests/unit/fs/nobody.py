"""Being somebody who has no special rights, for the time of a test."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def as_nobody() -> Iterator[None]:
    """Root becomes nobody and back again; anybody else has no special rights anyway."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A new folder that anybody may enter, unlike pytest's own; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="hpcbatch-test-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
