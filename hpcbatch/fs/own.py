"""A person's own copies: the one place where a name may be given to other bytes."""

from __future__ import annotations

import os
from pathlib import Path


def replace_private(temp: Path, path: Path) -> None:
    """Give *temp* the name *path*, over what is there: only for a download, never for a file of a job or registry."""
    os.replace(temp, path)
