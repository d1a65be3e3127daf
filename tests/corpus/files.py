"""The YAML files of public Azure ML projects that hpcbatch is tested with: where they are, and what is wrong with some.

`files.json` names them; none of them is kept here. `python -m tests.corpus.fetch` brings them to the cache.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).with_name("files.json")


@dataclass(frozen=True)
class RealFile:
    """One file: `kind` is the word of its `$schema`, `defect` what the message about it says; None if it parses."""

    repository: str
    commit: str
    path: str
    kind: str
    sha256: str
    defect: str | None

    @property
    def url(self) -> str:
        """Where GitHub has it."""
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{self.path}"

    def below(self, cache: Path) -> Path:
        """Where it lies in the *cache*."""
        return cache / self.repository / self.path


def real_files() -> list[RealFile]:
    """All of them, repository by repository."""
    listed = json.loads(LIST.read_text())
    return [
        RealFile(repository, one["commit"], path, kind, digest, more[0] if more else None)
        for repository, one in listed.items()
        for path, (kind, digest, *more) in one["files"].items()
    ]


def cache_folder() -> Path:
    """HPCBATCH_CORPUS, or a folder in the user's cache."""
    given = os.environ.get("HPCBATCH_CORPUS")
    return Path(given) if given else Path.home() / ".cache" / "hpcbatch" / "corpus"
