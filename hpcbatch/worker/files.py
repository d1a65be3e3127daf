"""From a driver's output folder into the attempt's segment: what each mini-batch left in AZUREML_BI_OUTPUT_PATH."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpcbatch.fs.publish import make_directory, remove_tree
from hpcbatch.fs.scan import read_document
from hpcbatch.jobdir.attempt import AttemptWriter, Stored
from hpcbatch.records.files import pack_names
from hpcbatch.records.job import OUTPUT_FILES, SHARED, ScoringPart
from hpcbatch.scoring.output_files import INIT, SHUTDOWN
from hpcbatch.scoring.output_watch import VARIABLE
from hpcbatch.worker.log import UserLog

BLOCK_BYTES = 1 << 20


def is_captured(scoring: ScoringPart) -> bool:
    """Whether files are kept mini-batch by mini-batch, or lie where the script puts them, in one folder for all."""
    return scoring.environment_variables.get(OUTPUT_FILES) != SHARED


def names_the_folder(archive: Path) -> bool:
    """Whether the code in *archive*, which is not compressed, names the variable."""
    return VARIABLE in read_document(archive, 4 << 30)


def open_output(local: Path, number: int, scoring: ScoringPart, *, named: bool) -> Sequence[str]:
    """New folders for the files of driver *number*, whose predecessor is gone: what `DriverSpec.output` takes.

    With *named* they are looked into from the beginning, else once the script may know them.
    """
    place = local / f"files-{number}"
    remove_tree(place)
    for name in ("score", "taken"):
        make_directory(place / name)
    reserved = scoring.output_file_name if scoring.output_action == "append_row" else ""
    return (str(place / "score"), str(place / "taken"), reserved, "named" if named else "")


class Torn(Exception):
    """A file became shorter while it was copied, or cannot be read at all."""


class FileKeeper:
    """Copies what drivers report to the segment."""

    def __init__(self, writer: AttemptWriter, log: UserLog) -> None:
        self._writer = writer
        self._log = log

    def take(self, report: Mapping[str, Any]) -> Stored | None:
        """The files that `output_files.OutputFiles.take` reported, stored for the COMMIT of their mini-batch; None if
        none wait for one: those of init() count at once, those of shutdown() never.

        On return the driver may do with its folder what it likes. Raises Torn.
        """
        for note in report["notes"]:
            self._log.note(_native(note))
        files = [(_native(name), _native(path), int(offset), int(size)) for name, path, offset, size in report["files"]]
        if report["mini_batch"] == SHUTDOWN:
            self._say_what_is_lost([name for name, _, _, size in files if size])
            return None
        if not files:
            return None
        stored = self._writer.store(self._blocks(files))
        remove_tree(Path(_native(report["moved"])))
        if report["mini_batch"] == INIT:
            self._writer.files_of_init(stored)
            return None
        return stored

    def _blocks(self, files: list[tuple[str, str, int, int]]) -> Iterator[bytes]:
        yield pack_names([(name, size) for name, _, _, size in files])
        for name, path, offset, size in files:
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            except OSError as error:  # the script's doing, and no failure of the attempt's own files
                raise Torn(f"{name!r} cannot be read after run() had returned: {error.strerror}") from error
            try:
                done = 0
                while done < size:
                    block = os.pread(fd, min(BLOCK_BYTES, size - done), offset + done)
                    if not block:
                        raise Torn(f"{name!r} became shorter after run() had returned")
                    done += len(block)
                    yield block
            finally:
                os.close(fd)

    def _say_what_is_lost(self, names: list[str]) -> None:
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            self._log.note(
                f"shutdown() wrote {', '.join(map(repr, names[:5]))}{more}: this belongs to no mini-batch and is left "
                "out of the output. Write it in run(), or set environment_variables.HPCBATCH_OUTPUT_FILES to shared"
            )


def _native(name: str) -> str:
    """The name as the filesystem has it; it came as JSON, each byte one character."""
    return os.fsdecode(name.encode("latin-1"))
