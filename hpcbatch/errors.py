"""Every error that hpcbatch raises on purpose.

    HpcBatchError                   exit code 1
      SpecError                     2  a document or an argument is wrong; the same call will fail again
      NotFound                      3  an endpoint, deployment, asset or job that is not there
      Conflict                      6  somebody else was first, or it exists already with another content
      FilesystemError               7  no space, no permission, a mount that does not answer
        FileDamaged                 7  bytes that do not match their checksum
      SchedulerError                4  Slurm refused, or could not be reached (`transient` tells which)
      JobError                      5  the job ended without its promised result
        JobCanceled                 5
        IncompleteError             8  mini-batches are missing; `job resume` continues

Exit code 0 is success and 1 a bug of ours. Each error carries fields, survives pickling, and ends in what to do next.
"""

from __future__ import annotations

from typing import Any


class HpcBatchError(Exception):
    """Base of all errors of hpcbatch: *message* says what happened, *hint* what to type next."""

    exit_code = 1
    code = "Error"

    def __init__(self, message: str, *, hint: str = "", **fields: Any) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.fields = fields

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.hint, self.fields)


def _rebuild(kind: type[HpcBatchError], message: str, hint: str, fields: dict[str, Any]) -> HpcBatchError:
    return kind(message, hint=hint, **fields)


def _located(error: HpcBatchError, text: str) -> str:
    where = ":".join(str(error.fields[k]) for k in ("file", "line") if error.fields.get(k) is not None)
    return f"{where}: {text}" if where else text


class SpecError(HpcBatchError):
    """A document or an argument says something impossible.

    Fields, where known: `file`, `line` (1-based), `field` (dotted), `found`, `allowed`.
    """

    exit_code = 2
    code = "InvalidInput"

    def __str__(self) -> str:
        return _located(self, super().__str__())


class NotFound(HpcBatchError):
    """A named thing is not there; `known` lists what is.

    Fields, where a document named it: `file`, `line` (1-based), `field` (dotted).
    """

    exit_code = 3
    code = "NotFound"

    def __str__(self) -> str:
        return _located(self, super().__str__())


class Conflict(HpcBatchError):
    """Another writer was first, or the name is taken by something else."""

    exit_code = 6
    code = "Conflict"


class FilesystemError(HpcBatchError):
    """The filesystem refused: full, over quota, no permission, gone."""

    exit_code = 7
    code = "Filesystem"


class FileDamaged(FilesystemError):
    """Bytes on disk do not match the checksum that was recorded for them."""

    code = "FileDamaged"


class SchedulerError(HpcBatchError):
    """Slurm refused or did not answer; `fields["transient"]` is True if the same call may work later."""

    exit_code = 4
    code = "Scheduler"


class JobError(HpcBatchError):
    """The job ended without the result it promised."""

    exit_code = 5
    code = "JobFailed"


class JobCanceled(JobError):
    """The job was canceled."""

    code = "JobCanceled"


class IncompleteError(HpcBatchError):
    """Some mini-batches have no result yet; nothing was published."""

    exit_code = 8
    code = "Incomplete"
