"""The declarative layer of the command line: a verb is a name, a sentence, an example, options and a handler."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from hpcbatch.cli import render
from hpcbatch.cli.formats import Columns
from hpcbatch.cli.views import Card
from hpcbatch.errors import SpecError

if TYPE_CHECKING:
    from hpcbatch.operations.versions import Archived
    from hpcbatch.operations.workspace import Workspace
    from hpcbatch.spec.edits import Edit

OUTPUT_FORMATS = ("json", "jsonc", "yaml", "yamlc", "table", "tsv", "none")


@dataclass(frozen=True)
class Option:
    """One argument of a verb, in argparse's words."""

    flags: tuple[str, ...]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Call:
    """What a handler is given: the parsed arguments and, opened when first asked for, the workspace."""

    args: argparse.Namespace

    @property
    def workspace(self) -> Workspace:
        """The registry and the jobs that `-w`, the environment or the configuration point to."""
        from hpcbatch.operations.workspace import open_workspace

        return open_workspace(self.args.workspace_name)


@dataclass(frozen=True)
class Answer:
    """A handler's data where success needs more than the data to be told. *form* is the format without `--output`."""

    data: Any
    exit_code: int = 0
    form: str | None = None


@dataclass(frozen=True)
class Verb:
    """One command. *columns* make the table of a list, *view* the card of one thing."""

    name: str
    summary: str
    run: Callable[[Call], Any]
    example: str
    options: tuple[Option, ...] = ()
    columns: Columns = ()
    view: Callable[[Any], Card] | None = None
    details: str = field(default="")


def option(*flags: str, **settings: Any) -> Option:
    """An argument with *flags* (or a positional name) and the settings of `ArgumentParser.add_argument`."""
    return Option(flags, settings)


def name_option(what: str, *, required: bool = True, **settings: Any) -> Option:
    """`--name/-n`."""
    return option("--name", "-n", required=required, metavar="NAME", help=f"Name of the {what}.", **settings)


def file_option(what: str, *, required: bool = False) -> Option:
    """`--file/-f`."""
    return option("--file", "-f", required=required, metavar="PATH", help=f"YAML file of the {what}; - is stdin.")


SET = option("--set", dest="sets", nargs="+", action="extend", default=[], metavar="K=V",
             help="Replace a value of the document: dotted key, several at once, repeatable.")  # fmt: skip
YES = option("--yes", "-y", action="store_true", help="Do not ask for confirmation.")
NO_WAIT = option("--no-wait", action="store_true", help="Accepted as in az: nothing here takes long.")
WEB = option("--web", "-e", action="store_true", help="Accepted as in az: there is no studio to open.")
ENDPOINT_NAME = option("--endpoint-name", "-e", required=True, metavar="NAME", help="Name of the batch endpoint.")
GENERIC_UPDATE = (
    SET,
    option("--add", dest="adds", nargs="+", action="append", default=[], metavar="KEY",
           help="Add to a mapping (tags team=vision, or tags.team=vision) or to a list (setup 'module load x')."),
    option("--remove", dest="removes", nargs="+", action="append", default=[], metavar="KEY",
           help="Remove a key (tags.team), or an element of a list (setup 0)."),
    option("--force-string", action="store_true", help="Accepted as in az: values stay strings anyway."),
)  # fmt: skip

FILE_UPDATE = file_option("changes")


LIST_LIMITS = (
    option("--max-results", "-r", type=int, default=50, metavar="N", help="At most this many (50)."),
    option("--all-results", action="store_true", help="All of them."),
)
ARCHIVED = (
    option("--include-archived", action="store_true", help="What was archived, too."),
    option("--archived-only", action="store_true", help="Only what was archived."),
)


GLOBAL_OPTIONS = (
    option("--workspace-name", "-w", metavar="WORKSPACE",
           help="Folder (or name) of the workspace. Default: HPCBATCH_WORKSPACE, configure, ~/.hpcbatch."),
    option("--resource-group", "-g", metavar="GROUP", help="Accepted as in az, without meaning here."),
    option("--subscription", metavar="ID", help="Accepted as in az, without meaning here."),
    option("--query", metavar="JMESPATH", help="JMESPath expression: show a part of the answer."),
    option("--output", "-o", choices=OUTPUT_FORMATS, metavar="FORMAT",
           help=f"{', '.join(OUTPUT_FORMATS)}. Default: a view on a terminal, json in a pipe."),
    option("--debug", action="store_true", help="Show the traceback of an error."),
    option("--verbose", action="store_true", help="Say more on stderr."),
    option("--only-show-errors", action="store_true", help="No warnings, no progress: errors only."),
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """argparse that raises our errors and prints through our door."""

    def error(self, message: str) -> NoReturn:
        raise SpecError(f"{message[:1].upper()}{message[1:]}.", hint=f"Run: {self.prog} --help")

    def _print_message(self, message: str, file: Any = None) -> None:  # noqa: ARG002  # argparse's signature
        render.text(message)


def verb_parser(noun: str, verb: Verb) -> argparse.ArgumentParser:
    """The parser of one verb. Long options may be shortened as long as they stay unambiguous."""
    parser = _Parser(
        prog=f"hpcbatch {noun} {verb.name}".rstrip(),
        description=f"{verb.summary}\n\n{verb.details}".rstrip(),
        epilog="Example:\n" + "\n".join(f"  {line}" for line in verb.example.splitlines()),
        formatter_class=_HelpFormatter,
        add_help=False,
        usage=f"hpcbatch {noun} {verb.name}".rstrip() + _usage(verb.options),
    )
    own = parser.add_argument_group("Arguments")
    shared = parser.add_argument_group("Global arguments")
    for group, options in ((own, verb.options), (shared, GLOBAL_OPTIONS)):
        for each in options:
            group.add_argument(*each.flags, **each.settings)
    shared.add_argument("--help", "-h", action="help", help="Show this and exit.")
    return parser


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """`--name, -n NAME` instead of argparse's `--name NAME, -n NAME`."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings or action.nargs == 0:
            return super()._format_action_invocation(action)
        return f"{', '.join(action.option_strings)} {self._format_args(action, action.dest.upper())}"


def _usage(options: Sequence[Option]) -> str:
    words = []
    for each in options:
        if not each.flags[0].startswith("-"):
            words.append(f" [{each.settings.get('metavar', each.flags[0])}]")
        elif each.settings.get("required"):
            words.append(f" {each.flags[-1]} {each.settings['metavar']}")
    return "".join(words) + " [options]"


def verbs_of(module: ModuleType) -> dict[str, Verb]:
    """The verbs that a noun's module declares, by name."""
    return {verb.name: verb for verb in module.VERBS}


def noun_help(noun: str, summary: str, verbs: Mapping[str, Verb]) -> str:
    """What `hpcbatch NOUN --help` prints."""
    width = max(len(name) for name in verbs)
    lines = [f"  {name:<{width}}  {verb.summary}" for name, verb in verbs.items()]
    return (
        f"usage: hpcbatch {noun} VERB [options]\n\n{summary}\n\nVerbs:\n"
        + "\n".join(lines)
        + f"\n\nMore about one verb, with an example: hpcbatch {noun} VERB --help\n"
    )


def edit_of(call: Call) -> Edit:
    """What `--set`, `--add` and `--remove` change. Raises SpecError if that is nothing, or cannot be understood."""
    from hpcbatch.spec.edits import Edit, additions, removals

    args = call.args
    edit = Edit(args.sets, additions(args.adds), removals(args.removes))
    if not edit:
        raise SpecError("Nothing to change was given.", hint="For example: --set tags.team=cardio")
    return edit


def archived_of(call: Call) -> Archived:
    """What `--include-archived` and `--archived-only` say."""
    from hpcbatch.operations.versions import Archived

    if call.args.archived_only:
        return Archived.ONLY
    return Archived.INCLUDED if call.args.include_archived else Archived.HIDDEN


def limited(call: Call, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The first `--max-results` of *found*, or all with `--all-results`."""
    return found if call.args.all_results else found[: max(0, call.args.max_results)]


def confirmed(call: Call, what: str) -> None:
    """Return if the user agreed to *what*, by `--yes` or by an answer at the terminal; raise otherwise."""
    if call.args.yes:
        return
    if not render.ask(f"{what} Are you sure? (y/n): "):
        raise SpecError("Not confirmed: nothing was done.", hint="Say it in advance with --yes.")
