"""Streams of immutable revisions, committed by link(2): compare-and-swap on a shared filesystem without locks."""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import Conflict, FileDamaged, FilesystemError, SpecError
from hpcbatch.fs.owned import refuse_links_of_others, user_name
from hpcbatch.fs.publish import create_once, explained, filesystem_error, make_directory
from hpcbatch.fs.scan import names, read_document
from hpcbatch.ids import canonical, sha256

SCHEMA = "hpcbatch.registry/1"
MAX_REVISIONS = 100_000
MAX_REVISION_BYTES = 8 << 20
_ATTEMPTS = 100
_FILE = re.compile(r"r([0-9]{8})\.json\Z")
_COMPONENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}\Z")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Revision:
    """One committed state of a stream; `document` is None if it says that the thing was deleted."""

    number: int
    op: str
    created: str
    document: Mapping[str, Any] | None
    sha256: str
    path: Path
    author_uid: int

    @property
    def author(self) -> str:
        """Who owns the file. What the document says about its author is not believed."""
        return user_name(self.author_uid)


@dataclass(frozen=True)
class Stream:
    """The history of one named thing."""

    folder: Path
    name: str

    def head(self) -> Revision | None:
        """The newest whole revision, a deletion included; None if there never was one."""
        return self._newest()[1]

    def latest(self) -> Revision | None:
        """The newest whole revision; None if there is none or it says that the thing was deleted."""
        head = self.head()
        return head if head is not None and head.document is not None else None

    def revisions(self) -> Iterator[Revision]:
        """Every whole revision, newest first. A damaged one is reported and passed over."""
        for number in self._numbers():
            revision = self._read(number)
            if revision is not None:
                yield revision

    def append(self, document: Mapping[str, Any] | None, *, op: str, expected: int) -> Revision:
        """Commit *document* (None = deleted) as the successor of revision *expected* (0 = the first).

        When it returns, the revision is durable and every later reader sees it. Raises Conflict if another writer was
        first.
        """
        top, head = self._newest()
        if (head.number if head else 0) != expected:
            raise self._conflict()
        return self._commit(document, op, top, head)

    def update(self, change: Callable[[dict[str, Any] | None], Mapping[str, Any] | None], op: str) -> Revision:
        """Commit change(the newest document, or None) and begin again whenever another writer was first.

        Raises Conflict after a hundred lost races; nothing was written then.
        """
        for attempt in range(_ATTEMPTS):
            top, head = self._newest()
            before = None if head is None or head.document is None else json.loads(json.dumps(head.document))
            after = change(before)
            try:
                return self._commit(after, op, top, head)
            except Conflict:
                time.sleep(random.random() * min(0.05, 0.002 * 2**attempt))  # spreads writers out, decides nothing
        raise self._conflict()

    def _newest(self) -> tuple[int, Revision | None]:
        """The highest number in use, and the newest whole revision."""
        numbers = self._numbers()
        found = (self._read(number) for number in numbers)
        return numbers[0] if numbers else 0, next((one for one in found if one is not None), None)

    def _commit(self, document: Mapping[str, Any] | None, op: str, top: int, head: Revision | None) -> Revision:
        number = top + 1
        if number > MAX_REVISIONS:
            hint = f"Look at {self.folder / _file(top)}, then use another name."
            raise FilesystemError(f"{self.name} has reached {MAX_REVISIONS} revisions.", hint=hint)
        body = {
            "schema": SCHEMA,
            "revision": number,
            "previous_sha256": head.sha256 if head else None,
            "op": op,
            "author": user_name(os.geteuid()),
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "document": document,
        }
        digest = sha256(canonical(body))
        content = canonical({**body, "sha256": digest}) + b"\n"
        if len(content) > MAX_REVISION_BYTES:
            raise SpecError(
                f"{self.name} is described by {len(content)} bytes.",
                hint=f"Make the document smaller than {MAX_REVISION_BYTES} bytes.",
                found=len(content),
                allowed=MAX_REVISION_BYTES,
            )
        refuse_links_of_others(self.folder, levels=2)
        make_directory(self.folder, folder_mode(self.folder))
        path = self.folder / _file(number)
        if not create_once(path, content, 0o444):
            raise self._conflict()
        return Revision(number, op, str(body["created"]), document, digest, path, os.geteuid())

    def _conflict(self) -> Conflict:
        return Conflict(
            f"Somebody else changed {self.name} at the same time.", hint="Run the same command again.", name=self.name
        )

    def _numbers(self) -> list[int]:
        try:
            found = names(self.folder)
        except NotADirectoryError:
            return []
        except OSError as error:
            raise filesystem_error(error, self.folder) from error
        return sorted((int(match[1]) for name in found if (match := _FILE.match(name))), reverse=True)

    def _read(self, number: int) -> Revision | None:
        path = self.folder / _file(number)
        try:
            with explained(path):
                return _parse(read_document(path, MAX_REVISION_BYTES), os.lstat(path), number, path)
        except (FileDamaged, ValueError, RecursionError) as error:
            _log.warning("Passing over a damaged revision of %s: %s", self.name, str(error).splitlines()[0])
            return None
        except FilesystemError as error:
            if error.fields.get("errno") == errno.ENOENT:  # cleaned away since it was listed
                return None
            raise


@dataclass(frozen=True)
class Registry:
    """All streams under one workspace."""

    root: Path

    def stream(self, kind: str, *path: str) -> Stream:
        """The stream of one thing. Raises SpecError for a name that could not be a file name."""
        for part in (kind, *path):
            if not is_name(part):
                raise SpecError(
                    f"{part[:80]!r} cannot name anything here.",
                    hint="Use letters, digits, '_', '-' and '.', beginning with a letter or digit.",
                    found=part,
                    allowed=_COMPONENT.pattern,
                )
        return Stream(self.root.joinpath("registry", kind, *path), " ".join([kind.rstrip("s"), "/".join(path)]))

    def names(self, kind: str, *path: str) -> list[str]:
        """The names of the streams of *kind* below *path* that exist and are not deleted, sorted."""
        folder = self.root.joinpath("registry", kind, *path)
        with explained(folder):
            found = [name for name in names(folder) if is_name(name)]
        return [name for name in found if self.stream(kind, *path, name).latest() is not None]


def is_name(text: str) -> bool:
    """Whether *text* is one harmless path component."""
    return bool(_COMPONENT.match(text)) and ".." not in text


def folder_mode(folder: Path) -> int:
    """The mode for a new *folder*: below a set-group-id folder (a shared workspace) that folder's, else 0755."""
    at = folder
    while not at.is_dir():
        at = at.parent
    mode = stat.S_IMODE(os.stat(at).st_mode)
    return mode if mode & stat.S_ISGID else 0o755


def _file(number: int) -> str:
    return f"r{number:08d}.json"


def _parse(raw: bytes, status: os.stat_result, number: int, path: Path) -> Revision:
    """The revision in *raw*. Raises ValueError if it is not exactly what was written under that number."""
    found = json.loads(raw)
    digest = found.pop("sha256", None) if isinstance(found, dict) else None
    if digest is None or digest != sha256(canonical(found)):
        raise ValueError(f"{path} does not match its checksum")
    schema = str(found.get("schema"))
    if re.fullmatch(r"hpcbatch\.registry/[0-9]+", schema) and schema != SCHEMA:
        message = f"{path} was written by a newer hpcbatch."
        raise SpecError(message, hint="pip install --upgrade hpcbatch", found=schema, allowed=SCHEMA)
    document = found.get("document")
    if schema != SCHEMA or found.get("revision") != number or not isinstance(document, dict | None):
        raise ValueError(f"{path} is not revision {number}")
    return Revision(number, str(found.get("op")), str(found.get("created")), document, digest, path, status.st_uid)
