"""Bring the real files to the cache: `python -m tests.corpus.fetch [--clone OWNER/NAME=FOLDER ...]`.

Each comes from GitHub at the commit that the list names, or from a local clone, and is kept if its SHA-256 is right.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

from tests.corpus.files import RealFile, cache_folder, real_files

_TIMEOUT_S = 30


def main(arguments: list[str]) -> int:
    """Fetch what is missing; 0 if all of it is in the cache afterwards."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clone", action="append", default=[], metavar="OWNER/NAME=FOLDER")
    clones = dict(one.split("=", 1) for one in parser.parse_args(arguments).clone)
    cache, missing = cache_folder(), 0
    for file in real_files():
        if not file.below(cache).is_file() and not _fetch(file, clones.get(file.repository), cache):
            missing += 1
    print(f"{cache}: {len(real_files()) - missing} files, {missing} missing")
    return 1 if missing else 0


def _fetch(file: RealFile, clone: str | None, cache: Path) -> bool:
    try:
        content = _from_clone(clone, file) if clone else _from_github(file)
    except (OSError, subprocess.CalledProcessError, urllib.error.URLError) as error:
        print(f"{file.url}: {error}", file=sys.stderr)
        return False
    if hashlib.sha256(content).hexdigest() != file.sha256:
        print(f"{file.url} has changed", file=sys.stderr)
        return False
    target = file.below(cache)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return True


def _from_github(file: RealFile) -> bytes:
    with urllib.request.urlopen(file.url.replace(" ", "%20"), timeout=_TIMEOUT_S) as answer:
        return bytes(answer.read())


def _from_clone(clone: str, file: RealFile) -> bytes:
    command = ["git", "-C", clone, "cat-file", "blob", f"{file.commit}:{file.path}"]
    return subprocess.run(command, check=True, capture_output=True).stdout


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
