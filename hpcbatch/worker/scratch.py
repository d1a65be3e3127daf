"""Node-local copies of code and model, checked byte by byte against their digests before anything is imported."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hpcbatch.errors import FileDamaged
from hpcbatch.fs import probe
from hpcbatch.fs.publish import remove_tree
from hpcbatch.fs.scan import read_document
from hpcbatch.ids import canonical, sha256
from hpcbatch.records.job import CodePart, ModelPart

COPY_MODEL_UP_TO_BYTES = 512 << 20
T = TypeVar("T")


def open_scratch() -> Path:
    """A private folder in TMPDIR, named after this process; what dead processes of this user left is removed.

    TMPDIR may be a folder that all nodes share, or that a container shares with its host: the number of a process means
    something on its own node, in its own namespace, alone.
    """
    base = Path(tempfile.gettempdir())
    prefix = f"hpcbatch-{os.getuid()}-{os.uname().nodename}.{os.stat('/proc/self/ns/pid').st_ino}-"
    for name in os.listdir(base):
        if name.startswith(prefix) and name[len(prefix) :].partition("-")[0].isdigit():
            pid = int(name[len(prefix) :].partition("-")[0])
            with contextlib.suppress(OSError):
                if not Path(f"/proc/{pid}").exists() and (base / name).lstat().st_uid == os.getuid():
                    remove_tree(base / name)
    return Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=base))


def unpack_code(archive: Path, code: CodePart, target: Path) -> Path:
    """Copy the code snapshot to *target*; what is unpacked is exactly the bytes that have the digest."""

    def take() -> bytes:
        data = read_document(archive, 4 << 30)
        if sha256(data) != code.digest:
            raise FileDamaged(
                f"{archive} is not the code that was submitted.", hint="Invoke the endpoint again.", path=str(archive)
            )
        return data

    data = with_patience(take, archive.parent)
    target.mkdir()
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        for info in files.infolist():
            name = PurePosixPath(info.filename)
            if name.is_absolute() or ".." in name.parts or not name.parts:
                raise FileDamaged(
                    f"{archive} holds the unsafe path {info.filename!r}.", hint="Create the deployment again."
                )
            path = target / name
            if info.is_dir():
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.read(info))
            if info.external_attr >> 16 & 0o111:
                path.chmod(0o755)
    return target


def place_model(model: ModelPart, target: Path) -> Path:
    """The folder for AZUREML_MODEL_DIR: a checked copy at *target*, or for a large model the checked original."""
    snapshot = Path(model.path).parent

    def index() -> list[dict[str, object]]:
        entries = json.loads(read_document(snapshot / "index.json"))
        if sha256(canonical(entries)) != model.digest:
            raise FileDamaged(
                f"{snapshot} is not the model that was submitted.", hint="Create the model again, then invoke again."
            )
        found: list[dict[str, object]] = entries
        return found

    copy = model.size_bytes <= COPY_MODEL_UP_TO_BYTES
    for entry in with_patience(index, snapshot):
        name = PurePosixPath(str(entry["path"]))
        if name.is_absolute() or ".." in name.parts:
            raise FileDamaged(f"{snapshot} names the unsafe path {str(name)!r}.", hint="Create the model again.")
        found = _copy_hashed(Path(model.path) / name, target / name if copy else None)
        if found != entry["sha256"]:
            raise FileDamaged(
                f"{Path(model.path) / name} is not the file that was registered.",
                hint="Create the model again, then invoke again.",
            )
    return target if copy else Path(model.path)


def with_patience(take: Callable[[], T], folder: Path) -> T:
    """*take()*, repeated while it finds nothing or damaged bytes for as long as the view of *folder* may be stale."""
    end = time.monotonic() + probe.visibility_timeout_s(folder)
    pause_s = 0.2
    while True:
        try:
            return take()
        except (FileNotFoundError, FileDamaged):
            if time.monotonic() + pause_s > end:
                raise
        time.sleep(pause_s)
        pause_s = min(5.0, 2 * pause_s)


def _copy_hashed(source: Path, target: Path | None) -> str:
    """SHA-256 of *source*, copied to *target* on the way: the bytes that were hashed are the bytes that are used."""
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(open(source, "rb", buffering=0))
        out = None
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            out = stack.enter_context(open(target, "wb"))
        while chunk := file.read(1 << 20):
            digest.update(chunk)
            if out is not None:
                out.write(chunk)
    return digest.hexdigest()
