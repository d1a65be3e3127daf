"""Virtual environments from requirements: each content is built once in a workspace and never changed afterwards.

environments/<user>/<hash>/<nonce>/    the virtual environment; it cannot be moved, so it is built where it stays
environments/<user>/<hash>/<nonce>.json  who builds it
environments/<user>/<hash>/current.json  linked when pip is done: which of them it is
"""

from __future__ import annotations

import json
import os
import platform
import secrets
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.environments.requirements import Requirements
from hpcbatch.errors import SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.fs.living import is_of_here, lives, process_note
from hpcbatch.fs.owned import user_name
from hpcbatch.ids import canonical, sha256

CURRENT = "current.json"
_TAIL_LINES = 12
_TOLD = ("Collecting ", "Building ", "Installing ", "Successfully ", "Processing ", "Downloading ")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Base:
    """The interpreter that an environment is made with, and what the user should know about the choice."""

    python: str
    version: str
    warnings: tuple[str, ...] = ()


def base_for(requirements: Requirements) -> Base:
    """An interpreter of the version that is asked for if one is on the PATH, else this one with a warning."""
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    warnings = []
    if requirements.not_pip:
        warnings.append(
            f"{requirements.source} asks conda for {', '.join(requirements.not_pip)}; only its pip part is installed. "
            "To have all, make the conda environment and name it: hpcbatch environment map PATTERN --python PREFIX"
        )
    wanted = ".".join((requirements.python or "").split(".")[:2])
    if wanted and "." in wanted and wanted != ours:
        other = shutil.which(f"python{wanted}")
        python = _itself(other) if other else ""
        if python:
            return Base(python, wanted, tuple(warnings))
        warnings.append(
            f"{requirements.source} asks for Python {requirements.python}, and no python{wanted} is on the PATH, so "
            f"the environment has Python {ours}. To have the other, put python{wanted} on the PATH and invoke again"
        )
    return Base(sys.executable, ours, tuple(warnings))


def _itself(python: str) -> str:
    """The path by which the interpreter *python* knows itself; "" if it does not run, as pyenv's stand-ins may not."""
    command = [python, "-I", "-c", "import sys, venv; print(sys.executable)"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def digest_of(requirements: Requirements, base: Base) -> str:
    """Which environment it is: the same for the same lines, local files included, the same Python, the same machine."""
    local = {line: _digest(Path(line)) for line in requirements.lines if line.startswith("/") and Path(line).is_file()}
    return sha256(canonical([requirements.lines, local, base.version, platform.machine(), 1]))[:32]


def find_built(root: Path, digest: str) -> str | None:
    """The interpreter of the environment *digest*: this user's, or that of the workspace's owner; None if not built."""
    owners = dict.fromkeys([os.getuid(), *([root.stat().st_uid] if root.is_dir() else [])])
    for owner in owners:
        folder = root / "environments" / user_name(owner) / digest
        if CURRENT in scan.names(folder) and folder.stat().st_uid == owner:
            python = str(json.loads(scan.read_document(folder / CURRENT))["python"])
            if os.access(python, os.X_OK):
                return python
    return None


def build(root: Path, requirements: Requirements, base: Base, say: Say) -> str:
    """The interpreter of an environment that has *requirements*, built below *root* unless it is there.

    Any number of these may run at once and be killed anywhere: the first that is done counts for all. Raises SpecError
    with the last lines of pip.
    """
    digest = digest_of(requirements, base)
    found = find_built(root, digest)
    if found:
        return found
    publish.make_directory(root, 0o755)
    publish.make_directory(root / "environments", 0o1777)
    folder = root / "environments" / user_name() / digest
    publish.make_directory(folder, 0o755)
    if CURRENT in scan.names(folder):
        raise SpecError(
            f"The Python environment in {folder} was built, and its interpreter is gone.",
            hint=f"Remove it, and run the same command again: rm -r {folder}", file=str(folder),
        )  # fmt: skip
    _remove_left_over(folder)
    nonce = secrets.token_hex(8)
    place = folder / nonce
    publish.create_once(folder / f"{nonce}.json", canonical(process_note(os.getpid())), 0o644)
    try:
        say(f"Building the Python environment of {requirements.source} (once; Python {base.version}) in {place}")
        _run([base.python, "-m", "venv", str(place)], requirements, say)
        listed = place / "requirements.txt"
        publish.create_once(listed, "".join(f"{line}\n" for line in requirements.lines).encode(), 0o644)
        python = place / "bin" / "python"
        pip = ["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
        _run([str(python), *pip, "-r", str(listed)], requirements, say)
        about = {"python": str(python), "source": requirements.source, "version": base.version}
        first = publish.create_once(folder / CURRENT, canonical(about), 0o644)
    except BaseException:
        _remove(folder, nonce)
        raise
    if first:
        return str(python)
    _remove(folder, nonce)
    say("Another process built the same environment first; that one is used")
    return str(json.loads(scan.read_document(folder / CURRENT))["python"])


def _run(command: list[str], requirements: Requirements, say: Say) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONHOME", "PYTHONPATH")}
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", env=environment, umask=0o022,
    )  # fmt: skip
    assert process.stdout is not None
    with process:
        try:
            for line in process.stdout:
                tail.append(line.rstrip())
                if line.startswith(_TOLD):
                    say(f"  {line.rstrip().partition(' (from ')[0][:150]}")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        what = "pip" if "pip" in command else "venv"
        last = "\n".join(f"  {line}" for line in tail if line)
        raise SpecError(
            f"The Python environment cannot be built: {what} ended with exit code {process.returncode}.\n{last}",
            hint="Correct the requirements; where no package index can be reached, set PIP_INDEX_URL or "
            "PIP_FIND_LINKS; or name a Python that has the packages: hpcbatch environment map PATTERN --python PATH",
            file=requirements.source,
        )


def _remove_left_over(folder: Path) -> None:
    """Remove what builders of this machine left that were killed; those of other machines may be at work."""
    published = json.loads(scan.read_document(folder / CURRENT)) if CURRENT in scan.names(folder) else {}
    for name in scan.names(folder):
        nonce = name.removesuffix(".json")
        if name == CURRENT or not name.endswith(".json") or f"/{nonce}/" in str(published.get("python")):
            continue
        builder = json.loads(scan.read_document(folder / name))
        if is_of_here(builder) and not lives(builder):
            _remove(folder, nonce)


def _remove(folder: Path, nonce: str) -> None:
    publish.remove_tree(folder / nonce)
    publish.remove_tree(folder / f"{nonce}.json")


def _digest(path: Path) -> str:
    return sha256(scan.read_document(path, 4 << 30))
