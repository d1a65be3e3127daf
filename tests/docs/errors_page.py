"""docs/reference/exit-codes.md from hpcbatch/errors.py: the codes, the errors behind them, and a job's verdict."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Iterator

from hpcbatch import errors
from hpcbatch.cli.main import _EPILOG
from hpcbatch.errors import HpcBatchError
from hpcbatch.operations.jobs import exit_code
from tests.docs.markdown import code, filled, table

OTHER = {141: "the reader of stdout went away, as in `hpcbatch job list | head`"}


def page() -> str:
    """The page, without the note that it is generated."""
    return filled(
        "exit-codes.md",
        codes=table(("code", "means", "errors"), _codes()),
        verdicts=table(("status when the command returns", "code"), _verdicts()),
        tree=table(("error", "is a", "code", "means"), _tree()),
    )


def _codes() -> Iterator[tuple[str, str, str]]:
    behind: dict[int, list[str]] = defaultdict(list)
    for kind in _kinds():
        if kind is not HpcBatchError:
            behind[kind.exit_code].append(code(kind.__name__))
    for number, means in sorted((_documented() | OTHER).items()):
        yield str(number), means, ", ".join(behind.pop(number, []))
    assert not behind, f"exit codes that `hpcbatch --help` does not tell: {sorted(behind)}"


def _documented() -> dict[int, str]:
    """What `hpcbatch --help` says of exit codes."""
    found = re.findall(r"^ *(\d+)  (.+)$", _EPILOG.partition("Exit codes:")[2], re.MULTILINE)
    return {int(number): means for number, means in found}


def _kinds() -> Iterator[type[HpcBatchError]]:
    """Every error, parents before children, in the order of the file."""
    yield from (kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, HpcBatchError))


def _tree() -> Iterator[tuple[str, str, str, str]]:
    for kind in _kinds():
        means = " ".join((kind.__doc__ or "").split("\n\n")[0].split())
        parent = "" if kind is HpcBatchError else code(kind.__mro__[1].__name__)
        yield code(kind.__name__), parent, str(kind.exit_code), re.sub(r"\*(\w+)\*", r"`\1`", means)


def _verdicts() -> Iterator[tuple[str, str]]:
    for status in ("Completed", "Failed", "Canceled", "NotResponding", "NotStarted"):
        yield code(status), str(exit_code({"status": status}))
