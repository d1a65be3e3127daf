"""Typed rows of all mini-batches as one Parquet file, in input order, in memory that does not grow with the job."""

from __future__ import annotations

import contextlib
import hashlib
import os
import queue
import threading
from collections.abc import Iterator
from pathlib import Path

from hpcbatch.dataio.parquet import CannotConvert, Columns, NoCommonType, ParquetFile, Schema, Table, fitted, grouped
from hpcbatch.dataio.row_payloads import HEAD_BYTES, head_bytes, schema_of, tables_of
from hpcbatch.errors import FileDamaged, FilesystemError
from hpcbatch.fs.publish import write_all
from hpcbatch.merge.payloads import BLOCK_BYTES, Payload, Payloads, RowsDiffer
from hpcbatch.merge.write import FLUSH_BYTES, HASH_UP_TO_BYTES
from hpcbatch.records.merge_plan import MergePlan

_HEAD_AT_ONCE_BYTES = 4096
_AHEAD = 1
_PIECES_AHEAD = 8


def write_parquet(root: Path, plan: MergePlan, out: int) -> str | None:
    """Write the typed payloads of *plan* to the empty file *out*; its SHA-256 up to `HASH_UP_TO_BYTES`, else None.

    The columns of all mini-batches are united first (`dataio.parquet.Columns`), then one thread reads, checks and
    converts while another encodes and a third writes, and reads back what it wrote. Raises DamagedPayload; RowsDiffer
    for a mini-batch whose rows do not fit those of the others; FilesystemError if something does not read back.
    """
    with Payloads(root, plan) as payloads:
        schema = united(payloads)
        written = _Written(out)
        file = ParquetFile(written.write, schema)
        reader = _Reader(payloads, schema)
        written.start()
        reader.start()
        try:
            while (group := reader.groups.get()) is not None:
                file.add(group)
            if reader.error is not None:
                raise reader.error
            file.close()
        except BaseException:
            file.abandon()
            raise
        finally:
            reader.stop()
            written.stop()
        return written.sha256()


def united(payloads: Payloads) -> Schema:
    """The columns of all mini-batches. Raises DamagedPayload, RowsDiffer."""
    columns = Columns()
    known = set()
    for payload in payloads:
        try:
            head = _head(payloads, payload)
            if head not in known:
                columns.add(schema_of(head))
                known.add(head)
        except FileDamaged:
            payloads.check(payload.mini_batch)
            raise
        except NoCommonType as error:
            payloads.check(payload.mini_batch)
            words = f"column {error.column!r} is of type {error.found}, and of type {error.other} before that"
            raise RowsDiffer(payload.mini_batch, words) from None
    return columns.schema()


def _head(payloads: Payloads, payload: Payload) -> bytes:
    begin = payloads.begin(payload, _HEAD_AT_ONCE_BYTES)
    size = head_bytes(begin[:HEAD_BYTES])
    return begin[:size] if size <= len(begin) else payloads.begin(payload, size)


class _Reader(threading.Thread):
    """Puts the rows of all payloads into `groups`, then None; ends early after an error, or when it is stopped."""

    def __init__(self, payloads: Payloads, schema: Schema) -> None:
        super().__init__(daemon=True)
        self.groups: queue.Queue[Table | None] = queue.Queue(_AHEAD)
        self.error: BaseException | None = None
        self._payloads = payloads
        self._schema = schema
        self._stopped = False

    def run(self) -> None:
        try:
            for group in grouped(self._tables()):
                self.groups.put(group)
        except BaseException as error:  # noqa: BLE001  # handed to the thread that writes, which raises it
            self.error = error
        finally:
            self.groups.put(None)

    def _tables(self) -> Iterator[Table]:
        for payload in self._payloads:
            try:
                for table in tables_of(self._payloads.whole(payload)):
                    if self._stopped:
                        return
                    yield fitted(table, self._schema)
            except CannotConvert as error:
                raise RowsDiffer(payload.mini_batch, str(error)) from None

    def stop(self) -> None:
        """Return when the thread has ended."""
        self._stopped = True
        while self.is_alive():
            with contextlib.suppress(queue.Empty):
                self.groups.get(timeout=0.02)


class _Written(threading.Thread):
    """Appends what it is given to a file, and reads each piece back at once, while the next ones are encoded."""

    def __init__(self, out: int) -> None:
        super().__init__(daemon=True)
        self.error: BaseException | None = None
        self._out = out
        self._pieces: queue.Queue[bytes | None] = queue.Queue(_PIECES_AHEAD)
        self._size = self._flushed = 0

    def write(self, data: bytes) -> None:
        """Have *data* written some time later. Raises what an earlier piece met with."""
        if self.error is not None:
            raise self.error
        self._pieces.put(bytes(data))

    def run(self) -> None:
        while (data := self._pieces.get()) is not None:
            if self.error is None:  # keeps taking pieces after an error, so that nobody waits for it
                try:
                    self._append(data)
                except BaseException as error:  # noqa: BLE001  # handed to the thread that encodes, which raises it
                    self.error = error

    def stop(self) -> None:
        """Return when all that was given is written, or there was an error."""
        self._pieces.put(None)
        self.join()

    def sha256(self) -> str | None:
        """The SHA-256 of what is there, once it has stopped; None if that is large. Raises what went wrong."""
        if self.error is not None:
            raise self.error
        if self._size > HASH_UP_TO_BYTES:
            return None
        digest = hashlib.sha256()
        at = 0
        while block := os.pread(self._out, BLOCK_BYTES, at):
            digest.update(block)
            at += len(block)
        return digest.hexdigest()

    def _append(self, data: bytes) -> None:
        write_all(self._out, data)
        done = 0
        while done < len(data):
            found = os.pread(self._out, BLOCK_BYTES, self._size + done)
            if not found or not data.startswith(found, done):
                raise FilesystemError(
                    "What was written does not read back as it was written; nothing was published.",
                    hint="Have the filesystem and the memory of that node checked, then run: hpcbatch job resume",
                )
            done += len(found)
        self._size += done
        if self._size - self._flushed >= FLUSH_BYTES:
            # Starts writing to the disk now, beside the encoding, and not all at once in the final fsync.
            os.posix_fadvise(self._out, self._flushed, self._size - self._flushed, os.POSIX_FADV_DONTNEED)
            self._flushed = self._size
