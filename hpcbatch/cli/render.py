"""The only module that prints: answers on stdout, the story (warnings, errors, questions) on stderr."""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hpcbatch.cli.formats import Columns
    from hpcbatch.cli.views import Card


class OutputClosed(Exception):
    """The reader of stdout went away (`| head`): nobody wants the rest."""


class _Story:
    quiet = False


def configure(*, only_errors: bool) -> None:
    """Set what the story may hold from now on: with *only_errors* neither warnings nor progress."""
    _Story.quiet = only_errors


def is_quiet() -> bool:
    """Whether warnings and progress are unwanted."""
    return _Story.quiet


def answer(
    data: Any,
    *,
    form: str | None,
    query: Any = None,
    columns: Columns = (),
    view: Callable[[Any], Card] | None = None,
) -> None:
    """Print *data* in the asked-for format; None prints nothing, as in az.

    Without a format: JSON in a pipe; on a terminal the *view* of a single thing, the *columns* of a list.
    """
    if query is not None:
        data, columns, view = _queried(query, data), (), None
    if data is None or form == "none":
        return
    terminal = is_terminal(sys.stdout)
    form = form or ("view" if terminal else "json")
    if form in ("view", "table") and terminal:
        from hpcbatch.cli import views

        with _guarded():
            views.show(data, columns=columns, view=view if form == "view" else None)
    elif form in ("jsonc", "yamlc") and terminal:
        from hpcbatch.cli import views

        with _guarded():
            views.show_coloured(_formatted(data, form, columns), form.rstrip("c"))
    else:
        formatted = _formatted(data, form, columns)
        text(clean(formatted) if terminal else formatted)


def _formatted(data: Any, form: str, columns: Columns) -> str:
    from hpcbatch.cli import formats

    if form in ("yaml", "yamlc"):
        from hpcbatch.spec.yamlfile import dump

        return dump(data)
    if form == "table":
        return formats.as_table(data, columns)
    return formats.as_tsv(data) if form == "tsv" else formats.as_json(data)


def compile_query(expression: str | None) -> Any:
    """The JMESPath *expression*, ready to search with; None for None. Raises SpecError if it is none."""
    if expression is None:
        return None
    import jmespath
    from jmespath.exceptions import JMESPathError

    try:
        return jmespath.compile(expression)
    except JMESPathError as error:
        raise _bad_query(error) from error


def _queried(query: Any, data: Any) -> Any:
    from jmespath.exceptions import JMESPathError

    try:
        return query.search(data)
    except JMESPathError as error:
        raise _bad_query(error) from error


def _bad_query(error: Exception) -> Exception:
    from hpcbatch.errors import SpecError

    return SpecError(
        f"--query is no valid JMESPath expression: {error}",
        hint="Examples: --query name, --query '[].name', --query \"[?status=='Failed'].name\" (see jmespath.org).",
        field="--query",
    )


def text(content: str) -> None:
    """Print *content* on stdout as it is, ending in exactly one newline."""
    with _guarded():
        if sys.stdout is not None and content:
            print(content.removesuffix("\n"), file=sys.stdout)


def line(content: str) -> None:
    """Print one line of a log for people, at once and without its control characters."""
    text(f"{clean(content)}\n")


def story(content: str, *, label: str = "") -> None:
    """Print *content* for people on stderr; a stderr that is gone is not worth an error."""
    try:
        print(label + clean(content).rstrip("\n"), file=sys.stderr, flush=True)
    except (OSError, ValueError):
        return


def warning(content: str) -> None:
    """Print a warning on stderr unless only errors are wanted."""
    if not _Story.quiet:
        story(content, label=_painted("WARNING: ", "33"))


def note(content: str) -> None:
    """Print a remark on stderr unless only errors are wanted."""
    if not _Story.quiet:
        story(content)


def error(content: str) -> None:
    """Print an error on stderr: what happened, then what to do."""
    story(content, label=_painted("ERROR: ", "31"))


def ask(question: str) -> bool:
    """Whether the person at the terminal answers yes. Without a terminal there is nobody to ask: SpecError."""
    from hpcbatch.errors import SpecError

    if not is_terminal(sys.stdin):
        raise SpecError("Cannot ask for confirmation: no terminal.", hint="Say yes in advance with --yes.")
    print(clean(question), end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sits behind *stream*."""
    return stream is not None and not stream.closed and stream.isatty()


def clean(content: str) -> str:
    """*content* without what could steer a terminal: escape sequences, control characters, bidi overrides."""
    from hpcbatch.operations.story import clean as cleaned

    return cleaned(content)


@contextmanager
def _guarded() -> Iterator[None]:
    """Write to stdout and flush: OutputClosed if nobody reads any more, FilesystemError if it cannot be written."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="surrogateescape" if sys.stdout.encoding == "utf-8" else "backslashreplace")
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError as error:
        _abandon_stdout()
        raise OutputClosed from error
    except OSError as error:
        from hpcbatch.errors import FilesystemError

        _abandon_stdout()
        raise FilesystemError(
            f"Cannot write the answer to stdout: {error.strerror}.", hint="Free some space there, or print elsewhere."
        ) from error


def _abandon_stdout() -> None:
    """Point stdout to nowhere, so that the interpreter does not complain about it once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def _painted(word: str, colour: str) -> str:
    if not is_terminal(sys.stderr) or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return word
    return f"\x1b[{colour}m{word}\x1b[0m"
