"""A person's own copies: the one place where a name may be given to other bytes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from hpcbatch.fs.publish import temp_name


def replace_private(temp: Path, path: Path) -> None:
    """Give *temp* the name *path*, over what is there: only for a download, and in an attempt's own MLflow store; never
    for a file that anybody else reads.
    """
    os.replace(temp, path)


@contextlib.contextmanager
def fetched(path: Path) -> Iterator[Path]:
    """A temporary name beside *path*, in a scratch folder of this process's own; what was written there becomes *path*
    if nothing is raised. Missing folders are made.
    """
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    temp = path.with_name(temp_name())
    try:
        yield temp
        os.replace(temp, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temp)
