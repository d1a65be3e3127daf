"""docs/reference/cli.md from the grammar: every noun, verb, option and example of `hpcbatch`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module

from hpcbatch.cli.grammar import GLOBAL_OPTIONS, Option, Verb, verb_parser, verbs_of
from hpcbatch.cli.main import ALIASES, NOUNS
from tests.docs.markdown import bash_form, code, table

INTRODUCTION = """\
The grammar is that of `az ml`: `hpcbatch NOUN VERB [options]`. An option may be shortened as long as it stays
unambiguous (`--f` for `--file`), and may be written `--option=value`. `hpcbatch NOUN VERB --help` says the same as this
page.

The answer goes to stdout, everything else (progress, warnings, errors) to stderr.
What commands exit with: [exit codes](exit-codes.md).
What differs from Azure ML: [mapping](../explanation/azure-ml-mapping.md)."""


def page() -> str:
    """The page, without the note that it is generated."""
    parts = ["# Command line", INTRODUCTION, "## On every command", _options(GLOBAL_OPTIONS)]
    for noun, verbs in grammar():
        short = next((f" Short: `hpcbatch {alias}`." for alias, whole in ALIASES.items() if whole == noun), "")
        summary = NOUNS[noun][1].split(" (short:")[0].rstrip(".")
        parts += [f"## {noun}", f"{summary}.{short}"]
        for verb in verbs:
            parts += _verb(noun, verb)
    return "\n\n".join(parts) + "\n"


def grammar() -> Iterator[tuple[str, list[Verb]]]:
    """Each noun with its verbs."""
    for noun, (module, _) in NOUNS.items():
        yield noun, list(verbs_of(import_module(f"hpcbatch.cli.{module}")).values())


def examples() -> Iterator[tuple[str, Verb, str]]:
    """(noun, verb, line) of every example."""
    for noun, verbs in grammar():
        for verb in verbs:
            yield from ((noun, verb, line) for line in verb.example.splitlines())


def _verb(noun: str, verb: Verb) -> list[str]:
    usage = verb_parser(noun, verb).format_usage().removeprefix("usage: ").strip()
    heading = [f"### {noun} {verb.name}"] if verb.name else []
    details = [" ".join(verb.details.split())] if verb.details else []
    return [*heading, verb.summary, code(usage), *details, _options(verb.options), bash_form(verb.example)]


def _options(options: Iterable[Option]) -> str:
    rows = [(_flags(each), _meaning(each)) for each in options]
    return table(("option", "meaning"), rows) if rows else "No options of its own."


def _flags(option: Option) -> str:
    settings = option.settings
    value = "" if settings.get("action") == "store_true" else f" {settings.get('metavar', '')}"
    if settings.get("nargs") == "+":
        value += " ..."
    if not option.flags[0].startswith("-"):
        return code(f"[{settings.get('metavar', option.flags[0])}]")
    return ", ".join(code(flag) for flag in option.flags) + (f" {code(value.strip())}" if value.strip() else "")


def _meaning(option: Option) -> str:
    settings = option.settings
    notes = [str(settings.get("help", ""))]
    if settings.get("required"):
        notes.append("Required.")
    if settings.get("choices") and len(settings["choices"]) <= 3:
        notes.append(f"One of: {', '.join(map(code, settings['choices']))}.")
    return " ".join(notes)
