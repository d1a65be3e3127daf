"""Content-addressed copies of code and models: editing a file after it was deployed changes nothing."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from hpcbatch.errors import FileDamaged, SpecError
from hpcbatch.fs.publish import (
    create_exclusive,
    create_once,
    explained,
    fsync_directory,
    link_once,
    make_directory,
    publish_directory,
    staged,
    write_all,
)
from hpcbatch.fs.scan import read_document
from hpcbatch.ids import canonical, sha256
from hpcbatch.registry.ignored import Ignored, ignored_in
from hpcbatch.registry.store import folder_mode

_SKIPPED = {"__pycache__", ".git", ".ipynb_checkpoints"}
_CHUNK = 4 << 20


@dataclass(frozen=True)
class CodeSnapshot:
    """One zip of a code folder; `digest` is the SHA-256 of its bytes."""

    digest: str
    path: Path
    size_bytes: int
    file_count: int


@dataclass(frozen=True)
class ModelSnapshot:
    """A copy of a model: `path`/content/`basename` is the file or folder that was registered."""

    digest: str
    path: Path
    basename: str
    is_folder: bool
    size_bytes: int
    file_count: int


@dataclass(frozen=True)
class _File:
    name: str
    source: Path
    top: str  # the real path of the folder, or of the file itself, that was named: nothing outside is read
    size_bytes: int
    executable: bool


@dataclass(frozen=True)
class _Rules:
    """What of a folder goes into a snapshot. `top` is its real path; names in the snapshot begin with `prefix`."""

    top: str
    prefix: str
    skip: Callable[[str], bool]
    ignored: Ignored | None

    def leave_out(self, entry: os.DirEntry[str], name: str) -> bool:
        if self.ignored is None:
            return False
        inside, is_folder = name.removeprefix(self.prefix), entry.is_dir(follow_symlinks=False)
        return self.ignored.leaves_out(inside, is_folder=is_folder, is_link=entry.is_symlink())


def code_file(root: Path, digest: str) -> Path:
    """The zip of the code with that digest."""
    return root / "registry" / "snapshots" / "code" / f"{digest}.zip"


def model_folder(root: Path, digest: str) -> Path:
    """The folder that holds the model with that digest: what a scoring script knows as AZUREML_MODEL_DIR."""
    return root / "registry" / "snapshots" / "models" / digest / "content"


def put_code(root: Path, folder: Path | None, includes: Sequence[Path] = ()) -> CodeSnapshot:
    """Keep a copy of the code in *folder* (or of the one file *folder*) under *root*, with *includes* beside it.

    The same files give the same digest, whoever puts them in, and when. Compiled Python, `.git`, checkpoints, and what
    an ignore file at the top of the folder says (registry/ignored.py) are left out. Each file or folder of *includes*
    stands at the top of the copy under its own name. Raises SpecError for an empty folder, special files, symbolic
    links that lead out of the folder, and an include whose name is taken.
    """
    files = [] if folder is None else _files(folder, prefix="", skip=_skip_code)
    for include in includes:
        files = _with_include(files, Path(os.path.abspath(include)))
    store = root / "registry" / "snapshots" / "code"
    make_directory(store, folder_mode(store))
    with explained(store), staged(store, 0o444) as (temp, file):
        target = _HashingWriter(file)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for one in files:
                _zip_one(archive, one)
        os.fsync(file.fileno())
        digest = target.digest.hexdigest()
        path = code_file(root, digest)
        if link_once(temp, path):
            fsync_directory(store)
    return CodeSnapshot(digest, path, target.size_bytes, len(files))


def adopt_code(root: Path, other: Path, digest: str) -> None:
    """Keep a copy of the code *digest* that the workspace *other* has. Raises FileDamaged if it is something else."""
    store = root / "registry" / "snapshots" / "code"
    make_directory(store, folder_mode(store))
    data = read_document(code_file(other, digest), 4 << 30)
    if sha256(data) != digest:
        raise FileDamaged(f"{code_file(other, digest)} is not the code that was registered.", hint="Register it again.")
    create_once(code_file(root, digest), data, 0o444)


def _with_include(files: list[_File], include: Path) -> list[_File]:
    if any(one.name == include.name or one.name.startswith(f"{include.name}/") for one in files):
        raise _refused(include, "would replace what the code has under that name", "names that the code does not have")
    prefix = include.name if include.is_dir() else ""
    return sorted([*files, *_files(include, prefix=prefix, skip=_skip_code)], key=lambda one: one.name)


def put_model(root: Path, path: Path) -> ModelSnapshot:
    """Keep a copy of the model file or folder *path* under *root*; nothing is copied if it is there already. What an
    ignore file at the top of the folder says is left out, as it is of code.

    Raises SpecError like `put_code`, and FileDamaged if a file changed while it was copied.
    """
    path = Path(os.path.abspath(path))
    files = _files(path, prefix=path.name, skip=lambda name: name in _SKIPPED)
    index = [_index_entry(one) for one in files]
    digest = sha256(canonical(index))
    target = model_folder(root, digest).parent
    store = target.parent
    mode = folder_mode(store)
    make_directory(store, mode)
    size_bytes = sum(one["size"] for one in index)
    if not (target / "index.json").is_file():

        def fill(temp: Path) -> None:
            for one, entry in zip(files, index, strict=True):
                _copy(one, entry, temp / "content", mode)
            _write(temp / "index.json", json.dumps(index, indent=1).encode() + b"\n")
            _fsync_folders(temp)

        publish_directory(target, fill, mode)
    return ModelSnapshot(digest, target, path.name, path.is_dir(), size_bytes, len(files))


def _skip_code(name: str) -> bool:
    return name in _SKIPPED or name.endswith(".pyc")


def _files(path: Path, *, prefix: str, skip: Callable[[str], bool]) -> list[_File]:
    """Every file at or below *path*, by its name relative to the snapshot, sorted."""
    path = Path(os.path.abspath(path))
    with explained(path):
        status = os.stat(path)
        if stat.S_ISREG(status.st_mode):
            size, executable = status.st_size, bool(status.st_mode & 0o100)
            return [_File(_name(path.name, path), path, os.path.realpath(path), size, executable)]
        if not stat.S_ISDIR(status.st_mode):
            raise _refused(path, "is neither a file nor a folder", "a file or a folder")
        ignored = ignored_in(path)
        rules = _Rules(os.path.realpath(path), f"{prefix}/" if prefix else "", skip, ignored)
        found = sorted(_walk(path, prefix, rules, ()), key=lambda one: one.name)
    if not found:
        but = f" but what {ignored.file.name} leaves out" if ignored else ""
        raise _refused(path, f"holds no files{but}", "a folder with files")
    return found


def _walk(folder: Path, prefix: str, rules: _Rules, above: tuple[tuple[int, int], ...]) -> Iterator[_File]:
    top = rules.top
    status = os.stat(folder)
    here = (status.st_dev, status.st_ino)
    if here in above:
        raise _refused(folder, "is a symbolic link to a folder around it", "no links that go in circles")
    with os.scandir(folder) as entries:
        found = [entry for entry in entries if not rules.skip(entry.name)]
    for entry in found:
        path = folder / entry.name
        name = _name(f"{prefix}/{entry.name}" if prefix else entry.name, path)
        if rules.leave_out(entry, name):
            continue
        if entry.is_symlink() and not _inside(os.path.realpath(path), top):
            raise _leads_out(path)
        try:
            status = entry.stat()
        except FileNotFoundError:
            raise _refused(path, "is a symbolic link to nothing", "files that exist") from None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise _refused(path, "is a symbolic link to itself", "files that exist") from None
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(path, name, rules, (*above, here))
        elif stat.S_ISREG(status.st_mode):
            yield _File(name, path, top, status.st_size, bool(status.st_mode & 0o100))
        else:
            raise _refused(path, "is neither a file nor a folder", "plain files")


def _inside(real: str, top: str) -> bool:
    return real == top or real.startswith(top.rstrip("/") + "/")


def _leads_out(path: Path) -> SpecError:
    return _refused(path, "is a symbolic link that leads out of the folder", "files inside the folder")


def _name(name: str, path: Path) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise _refused(path, "has a name that is not UTF-8", "UTF-8 file names") from None
    return name


def _refused(path: Path, what: str, allowed: str) -> SpecError:
    shown = repr(str(path))
    return SpecError(
        f"{shown} {what}.",
        hint="Remove it, or put a real copy in its place (`cp -rL FROM TO`), and run the same command again.",
        found=str(path),
        allowed=allowed,
    )


class _HashingWriter:
    """Passes bytes on and hashes them. It cannot seek, so the zip is written in one direction."""

    def __init__(self, file: BinaryIO) -> None:
        self._fd = file.fileno()
        self.digest = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        write_all(self._fd, data)
        self.digest.update(data)
        self.size_bytes += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Whoever opened the file closes it."""


def _zip_one(archive: zipfile.ZipFile, one: _File) -> None:
    info = zipfile.ZipInfo(one.name, (1980, 1, 1, 0, 0, 0))
    info.create_system = 3
    info.external_attr = (stat.S_IFREG | (0o755 if one.executable else 0o644)) << 16
    with _opened(one) as source, archive.open(info, "w", force_zip64=one.size_bytes > 1 << 30) as target:
        while chunk := source.read(_CHUNK):
            target.write(chunk)


def _opened(one: _File) -> BinaryIO:
    """The file, open for reading; never hangs if something else took its name meanwhile.

    What counts is where the open file is, not where its name led a moment ago: whoever may write in the folder could
    make it a link to a file that only this user may read. Raises SpecError for such a one.
    """
    fd = os.open(one.source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    file = open(fd, "rb", buffering=0)  # noqa: SIM115  # the caller's
    real = os.readlink(f"/proc/self/fd/{file.fileno()}").removesuffix(" (deleted)")
    if _inside(real, one.top) and stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return file
    file.close()
    raise _leads_out(one.source)


def _index_entry(one: _File) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    with explained(one.source), _opened(one) as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return {"path": one.name, "size": size, "sha256": digest.hexdigest(), "mode": 0o755 if one.executable else 0o644}


def _copy(one: _File, entry: dict[str, Any], content: Path, mode: int) -> None:
    target = content / one.name
    make_directory(target.parent, mode)
    digest = hashlib.sha256()
    fd = create_exclusive(target)
    try:
        with _opened(one) as source:
            while chunk := source.read(_CHUNK):
                write_all(fd, chunk)
                digest.update(chunk)
        os.fchmod(fd, 0o555 if one.executable else 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)
    if digest.hexdigest() != entry["sha256"]:
        hint = "Run the same command again when nobody writes to it."
        raise FileDamaged(f"{one.source} changed while it was copied.", hint=hint)


def _write(path: Path, content: bytes) -> None:
    fd = create_exclusive(path)
    try:
        write_all(fd, content)
        os.fchmod(fd, 0o444)
        os.fsync(fd)
    finally:
        os.close(fd)


def _fsync_folders(top: Path) -> None:
    for folder, _, _ in os.walk(top):
        fsync_directory(folder)
