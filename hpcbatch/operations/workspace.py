"""The workspace: the folder that holds a team's registry and jobs, and how it is found."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hpcbatch.errors import SpecError
from hpcbatch.fs.owned import require_own_folder, user_name
from hpcbatch.fs.publish import explained, make_directory
from hpcbatch.fs.scan import read_document
from hpcbatch.registry.store import Registry, Stream

_DEFAULTS = ("workspace", "group", "location", "subscription")
_INERT_FOR_SBATCH = re.compile(r"[A-Za-z0-9_./@+=:,-]+")


@dataclass(frozen=True)
class Workspace:
    """One workspace folder. It need not exist yet: the first thing put in makes it."""

    root: Path

    @property
    def registry(self) -> Registry:
        """What was registered here."""
        return Registry(self.root)

    @property
    def jobs(self) -> Path:
        """Where job directories are made."""
        return self.root / "jobs"


def open_workspace(name: str | None = None) -> Workspace:
    """The workspace *name*, or that of HPCBATCH_WORKSPACE, of the user's configuration, or ~/.hpcbatch, in this order.

    A name with a `/` is a path; one without is an existing folder, one of the configuration's `workspaces`, or is kept
    in ~/.hpcbatch/workspaces.
    """
    config = read_config()
    chosen = name or os.environ.get("HPCBATCH_WORKSPACE") or config.get("workspace")
    if not chosen:
        return Workspace(Path.home() / ".hpcbatch")
    text = str(chosen)
    known = config.get("workspaces")
    if "/" in text or text in (".", "..", "~"):
        path = Path(text)
    elif isinstance(known, Mapping) and text in known:
        path = Path(str(known[text]))
    elif Path(text).is_dir():
        path = Path(text)
    else:
        path = Path.home() / ".hpcbatch" / "workspaces" / text
    root = Path(os.path.abspath(path.expanduser()))
    if root.exists() and not root.is_dir():
        raise SpecError(
            f"The workspace {str(root)!r} is a file.",
            hint="Name a folder: hpcbatch configure --defaults workspace=/path/to/folder",
            found=str(root),
            allowed="a folder",
        )
    return Workspace(root)


def user_jobs(ws: Workspace) -> Path:
    """The folder of this user's jobs."""
    return ws.jobs / user_name()


def make_jobs_folder(ws: Workspace) -> None:
    """Make `jobs`, which is everybody's, as /tmp is, and in it this user's folder, which is private. Raises
    FilesystemError, also if somebody else made it.
    """
    make_directory(ws.root, 0o755)
    make_directory(ws.jobs, 0o1777)
    make_directory(user_jobs(ws), 0o700)
    require_own_folder(user_jobs(ws))


def refuse_for_sbatch(folder: Path) -> None:
    """Raise SpecError for a job directory whose path sbatch, or its file name patterns (`%`), would read as something
    else.
    """
    if not _INERT_FOR_SBATCH.fullmatch(str(folder)):
        raise SpecError(
            f"The job directory {str(folder)!r} has characters that sbatch does not take in a path.",
            hint="Use a workspace whose path has letters, digits and ./_-@+=:, only: -w PATH",
            field="workspace",
            found=str(folder),
            allowed="letters, digits and ./_-@+=:,",
        )


def read_config() -> dict[str, Any]:
    """The user's configuration: what config.json says, and above it what `configure` remembered."""
    path = _config_folder() / "config.json"
    try:
        with explained(path):
            written = json.loads(read_document(path.resolve(), 1 << 20)) if path.exists() else {}
    except ValueError as error:
        raise SpecError(f"This is not JSON: {error}.", hint=f"Correct or remove {path}.", file=str(path)) from error
    if not isinstance(written, dict):
        raise SpecError("This is not a mapping.", hint=f"Correct or remove {path}.", file=str(path))
    remembered = _remembered().latest()
    return {**written, **((remembered.document if remembered else None) or {})}


def configure_defaults(defaults: Sequence[str]) -> dict[str, Any]:
    """Remember `key=value` defaults for this user (`workspace=...`); an empty value forgets. Returns them all."""
    changes: dict[str, str] = {}
    for text in defaults:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise SpecError("usage: --defaults KEY=VALUE [KEY=VALUE ...]", found=text, allowed="KEY=VALUE")
        known = key in _DEFAULTS or (key.startswith("registries.") and key != "registries.")
        if value and not known:
            near = get_close_matches(key, _DEFAULTS, n=1)
            raise SpecError(
                f"{key!r} is no default of hpcbatch.{f' Did you mean {near[0]!r}?' if near else ''}",
                hint=f"There are: {', '.join(_DEFAULTS)} and registries.NAME. "
                "For example: hpcbatch configure --defaults workspace=FOLDER",
                field=key, found=key, allowed=[*_DEFAULTS, "registries.NAME"],
            )  # fmt: skip
        is_path = (key == "workspace" or key.startswith("registries.")) and ("/" in value or value in (".", ".."))
        changes[key] = os.path.abspath(os.path.expanduser(value)) if is_path else value

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        merged = {**(before or {}), **changes}
        return {key: value for key, value in merged.items() if value != ""}

    if changes:
        _remembered().update(change, "configure")
    return read_config()


def _config_folder() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "hpcbatch"


def _remembered() -> Stream:
    """Kept like everything of ours: a killed `configure` loses nothing, and two at once both count."""
    return Stream(_config_folder() / "defaults", "the configuration")
