"""From segments to the files that the scoring script wrote: those of init() first, then mini-batch by mini-batch."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import FileDamaged, FilesystemError
from hpcbatch.fs.owned import pinned
from hpcbatch.fs.publish import explained
from hpcbatch.fs.tree import StagedTree, Swept, staged_tree
from hpcbatch.jobdir.coverage import Coverage, Piece
from hpcbatch.jobdir.jobdir import JobDir, publish_document
from hpcbatch.jobdir.layout import FILES
from hpcbatch.merge.payloads import DamagedPayload
from hpcbatch.merge.write import Written
from hpcbatch.records.files import HEAD, Named, parse_names

BLOCK_BYTES = 1 << 20
_TRIES = 8


@dataclass(frozen=True)
class Place:
    """Where the files are published, and as what."""

    folder: Path
    mode: int


def place_of(job: JobDir) -> Place:
    """The folder that the invoker named, where others may read too, or the job's own, which is private."""
    named = Path(job.record.output_folder)
    inside = named.is_relative_to(job.root) or "://" in job.record.output_folder
    return Place(job.paths.score, 0o600) if inside else Place(named, 0o644)


@dataclass(frozen=True)
class Published:
    """What was published: the merged rows, None if nobody asked for them, and the summary of `files`, None if none."""

    rows: Written | None
    files: dict[str, Any] | None


def publish_files(job: JobDir, coverage: Coverage, publish_rows: Callable[[], Written | None]) -> Published:
    """Publish the files, and in between the rows: nothing gets its name before all bytes of both were checked.

    Which files they are is listed in `out/_FILES.json`. Raises DamagedPayload, NameClash, FilesystemError.
    """
    if not coverage.written and not coverage.pieces_of_init():
        return Published(publish_rows(), None)
    place = place_of(job)
    with explained(place.folder), pinned(place.folder) as folder:
        for _ in range(_TRIES):
            with contextlib.suppress(Swept), staged_tree(folder, f"files-{job.record.uuid}", place.mode) as tree:
                unpack(job.root, coverage, tree)
                rows = publish_rows()
                tree.publish(folder, place.folder)
                listed = [[os.fsencode(name).decode("latin-1"), size] for name, size in sorted(tree.sizes.items())]
                publish_document(job.paths.out / FILES, {"folder": str(place.folder), "files": listed})
                size_bytes = sum(tree.sizes.values())
                return Published(
                    rows, {"folder": str(place.folder), "count": len(tree.sizes), "size_bytes": size_bytes}
                )
    raise FilesystemError(
        f"Files cannot be written to {str(place.folder)!r}: they are removed again and again before they are finished.",
        hint="Find out who removes `.tmp-*` there, then run: hpcbatch job resume", path=str(place.folder),
    )  # fmt: skip


def unpack(root: Path, coverage: Coverage, tree: StagedTree) -> None:
    """Fill *tree* with the files of the chosen results; two mini-batches that wrote one name are joined in input order.

    Of several init() that wrote one name the first counts. Raises DamagedPayload if bytes are not those that were
    committed, NameClash if one mini-batch has a file where another has a folder.
    """
    for piece in coverage.pieces_of_init():
        _unpack(root, piece, tree, skip=frozenset(tree.sizes))
    for piece in coverage.pieces():
        _unpack(root, piece, tree, skip=frozenset())


def _unpack(root: Path, piece: Piece, tree: StagedTree, *, skip: frozenset[str]) -> None:
    try:
        fd = os.open(root / piece.segment, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise DamagedPayload(piece.segment, piece.offset) from error
    try:
        reader = _Reader(fd, piece)
        for name, size in reader.names():
            blocks = reader.blocks(size)
            if name in skip:
                for _ in blocks:
                    pass
            else:
                tree.append(name, blocks)
        reader.finish()
    finally:
        os.close(fd)


class _Reader:
    """Reads one piece from its beginning to its end, and knows its checksum then."""

    def __init__(self, fd: int, piece: Piece) -> None:
        self._fd = fd
        self._piece = piece
        self._crc = self._done = 0

    def names(self) -> list[Named]:
        """The files of the piece; it is exactly as long as they need. Raises DamagedPayload."""
        (length,) = HEAD.unpack(b"".join(self.blocks(HEAD.size)))
        try:
            found = parse_names(b"".join(self.blocks(length)))
        except FileDamaged as error:
            raise self._damage() from error
        if self._done + sum(size for _, size in found) != self._piece.length:
            raise self._damage()
        return found

    def blocks(self, size: int) -> Iterator[bytes]:
        """The next *size* bytes. Raises DamagedPayload if the piece or its segment is too short."""
        end = self._done + size
        while self._done < end:
            at = self._piece.offset + self._done
            block = os.pread(self._fd, min(BLOCK_BYTES, end - self._done), at)
            if not block or end > self._piece.length:
                raise self._damage()
            self._crc = zlib.crc32(block, self._crc)
            self._done += len(block)
            yield block

    def finish(self) -> None:
        """Raises DamagedPayload unless all that was read is what was committed."""
        if self._crc != self._piece.crc:
            raise self._damage()

    def _damage(self) -> DamagedPayload:
        return DamagedPayload(self._piece.segment, self._piece.offset)
