"""Entry point: find the noun and the verb, parse, run, render; turn errors into sentences and exit codes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from types import ModuleType

    from hpcbatch.cli.grammar import Verb

NOUNS: Mapping[str, tuple[str, str]] = {
    "batch-endpoint": ("batch_endpoint", "Stable names to invoke jobs on (short: endpoint)."),
    "batch-deployment": ("batch_deployment", "Model, code, environment, compute (short: deployment)."),
    "job": ("job", "Invocations: show, stream, download, cancel, resume."),
    "model": ("model", "Registered, immutable model versions."),
    "data": ("data", "Registered data: a name for a path."),
    "component": ("component", "Registered steps and pipelines of steps."),
    "environment": ("environment", "The Python that scores, and what Azure's names map to."),
    "compute": ("compute", "Where jobs run: a Slurm partition or this machine."),
    "configure": ("configure", "Defaults, such as the workspace."),
    "completion": ("completion", "Completion of commands for bash and zsh."),
    "schema": ("schema", "JSON schemas of the YAML files, for editors."),
}
ALIASES = {"endpoint": "batch-endpoint", "deployment": "batch-deployment"}

_EPILOG = """\
Every command takes -w WORKSPACE, --query JMESPATH, --help and
-o json|jsonc|yaml|yamlc|table|tsv|none. Without -o: a view for people on a
terminal, json in a pipe. The answer goes to stdout, the story to stderr.

Exit codes:
  0  done
  1  a bug in hpcbatch
  2  the command line or a document is wrong
  3  not found
  4  Slurm refused or did not answer
  5  the job failed or was canceled
  6  conflict: somebody else was first, or it exists with another content
  7  the filesystem refused, or a file is damaged
  8  incomplete: some mini-batches have no result yet (hpcbatch job resume)
130  interrupted with Ctrl-C

Start:
  hpcbatch batch-endpoint create -n heart
  hpcbatch batch-deployment create -f deployment.yml -e heart --set-default
  hpcbatch batch-endpoint invoke -n heart --input ./data --wait
"""
_LEADING_FLAGS = ("--debug", "--verbose", "--only-show-errors")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code that `hpcbatch --help` documents. Never raises."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0
    except KeyboardInterrupt:
        return _say_error("Interrupted.", 130)
    except BaseException as error:  # noqa: BLE001  # the last line of defence: whatever it is, people get a sentence
        return _report(error, debug="--debug" in arguments)


def _dispatch(arguments: list[str]) -> int:
    leading, words = split_leading(arguments)
    if not words or words[0] in ("--help", "-h"):
        return _text(_help())
    if words[0] in ("--version", "-V"):
        from hpcbatch import __version__

        return _text(f"hpcbatch {__version__}\n")
    noun = ALIASES.get(words[0], words[0])
    if noun not in NOUNS:
        _refuse_what_only_azure_has(*words[:2])
        raise _unknown("command", noun, [*NOUNS, *ALIASES], "hpcbatch")
    return _run_noun(noun, words[1:], leading)


def _run_noun(noun: str, words: list[str], leading: list[str]) -> int:
    from hpcbatch.cli.grammar import noun_help, verb_parser, verbs_of

    summary = NOUNS[noun][1]
    verbs = verbs_of(module_of(noun))
    if "" in verbs:
        verb = verbs[""]
    elif not words or words[0] in ("--help", "-h"):
        return _text(noun_help(noun, summary, verbs))
    elif words[0] not in verbs:
        _refuse_what_only_azure_has(noun, words[0])
        raise _unknown("verb", words[0], list(verbs), f"hpcbatch {noun}")
    else:
        verb = verbs[words.pop(0)]
    return _run_verb(verb, verb_parser(noun, verb).parse_args([*words, *leading]))


def module_of(noun: str) -> ModuleType:
    """The module that declares the verbs of *noun*."""
    from importlib import import_module

    return import_module(f"hpcbatch.cli.{NOUNS[noun][0]}")


def _run_verb(verb: Verb, args: argparse.Namespace) -> int:
    from hpcbatch.cli import logs, render
    from hpcbatch.cli.grammar import Answer, Call

    render.configure(only_errors=args.only_show_errors)
    logs.route(verbose=args.verbose, debug=args.debug)
    query = render.compile_query(args.query)  # before the work: a typing error must not cost a submitted job
    result = verb.run(Call(args))
    answer = result if isinstance(result, Answer) else Answer(result)
    render.answer(answer.data, form=args.output or answer.form, query=query, columns=verb.columns, view=verb.view)
    return answer.exit_code


def split_leading(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Global options may also stand before the noun: (those, the rest)."""
    at = 0
    while at < len(arguments) and arguments[at].startswith("-"):
        word = arguments[at]
        if word in ("--help", "-h", "--version", "-V"):
            break
        at += 1 if word in _LEADING_FLAGS or "=" in word else 2
    return arguments[:at], arguments[at:]


def _help() -> str:
    width = max(len(noun) for noun in NOUNS)
    nouns = "\n".join(f"  {noun:<{width}}  {summary}" for noun, (_, summary) in NOUNS.items())
    return (
        "usage: hpcbatch NOUN VERB [options]\n\nBatch endpoints for Slurm clusters, in the words of `az ml`.\n\n"
        f"Nouns:\n{nouns}\n\n{_EPILOG}"
    )


def _refuse_what_only_azure_has(*words: str) -> None:
    from hpcbatch.cli.not_here import instead_of
    from hpcbatch.errors import SpecError

    if hint := instead_of(*words):
        command = " ".join(word for word in words if not word.startswith("-"))
        raise SpecError(f"hpcbatch has no `{command}`: what Azure ML needs it for is done otherwise here.", hint=hint)


def _unknown(what: str, found: str, known: list[str], prog: str) -> BaseException:
    from difflib import get_close_matches

    from hpcbatch.errors import SpecError

    close = get_close_matches(found, known, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    return SpecError(f"Unknown {what} {found!r}.{guess} There are: {', '.join(known)}.", hint=f"Run: {prog} --help")


def _report(error: BaseException, debug: bool) -> int:
    from hpcbatch.cli import render
    from hpcbatch.errors import HpcBatchError

    if isinstance(error, render.OutputClosed):
        return 141  # as a shell reports a program that SIGPIPE ended
    if debug:
        import traceback

        render.story("".join(traceback.format_exception(error)))
    if isinstance(error, HpcBatchError):
        return _say_error(str(error), error.exit_code)
    again = "" if debug else "\nRun the same command with --debug to see where, and please report it."
    return _say_error(f"Unexpected {type(error).__name__}: {error}{again}", 1)


def _say_error(message: str, exit_code: int) -> int:
    from hpcbatch.cli import render

    render.error(message)
    return exit_code


def _text(text: Any) -> int:
    from hpcbatch.cli import render

    render.text(text)
    return 0
