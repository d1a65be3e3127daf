"""`hpcbatch completion`: scripts for bash and zsh, and the words that they offer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

from hpcbatch.cli import render
from hpcbatch.cli.grammar import GLOBAL_OPTIONS, Call, Option, Verb, option, verbs_of

if TYPE_CHECKING:
    from hpcbatch.operations.workspace import Workspace

_MOST = 500
_BASH = """\
_hpcbatch() {
    local IFS=$'\\n'
    COMPREPLY=($(hpcbatch completion words -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -F _hpcbatch hpcbatch
"""
_ZSH = """\
_hpcbatch() {
    local -a found
    found=("${(@f)$(hpcbatch completion words -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    found=(${found:#})
    if (( ${#found} )); then compadd -V hpcbatch -- "${found[@]}"; else _files; fi
}
compdef _hpcbatch hpcbatch
"""


def bash(call: Call) -> None:  # noqa: ARG001  # the signature of a handler
    """The script for bash."""
    render.text(_BASH)


def zsh(call: Call) -> None:  # noqa: ARG001  # the signature of a handler
    """The script for zsh."""
    render.text(_ZSH)


def words(call: Call) -> None:
    """The words that may stand where the last given one stands, one per line; nothing if anything is wrong."""
    with suppress(Exception):  # a completion that fails must not write over the line that is being typed
        render.text("\n".join(complete(call, call.args.words or [""])))


def complete(call: Call, given: Sequence[str]) -> list[str]:
    """What the last of *given* may become: nouns, verbs, options, or names of what the workspace has."""
    from hpcbatch.cli.main import ALIASES, NOUNS, module_of, split_leading

    *before, current = given
    _, before = split_leading(before)
    if not before:
        return _beginning(current, [*NOUNS, *ALIASES])
    noun = ALIASES.get(before[0], before[0])
    if noun not in NOUNS:
        return []
    verbs = verbs_of(module_of(noun))
    if "" in verbs:
        return _in_verb(call, noun, verbs[""], [*before[1:], current])
    if len(before) == 1:
        return _beginning(current, list(verbs))
    verb = verbs.get(before[1])
    return _in_verb(call, noun, verb, [*before[2:], current]) if verb else []


def _in_verb(call: Call, noun: str, verb: Verb, given: Sequence[str]) -> list[str]:
    *before, current = given
    options = (*verb.options, *GLOBAL_OPTIONS)
    asked = _option(options, before[-1]) if before else None
    if asked is not None and asked.settings.get("action") != "store_true":
        return _beginning(current, _values(call, noun, asked, options, before))
    if not current.startswith("-") and before:
        return []
    flags = [next((flag for flag in each.flags if flag.startswith("--")), "") for each in options]
    return _beginning(current, [flag for flag in (*flags, "--help") if flag and flag not in before])


def _option(options: Sequence[Option], word: str) -> Option | None:
    """The option that *word* is, written out or shortened; None if it is none, or could be several."""
    exact = [each for each in options if word in each.flags]
    close = [each for each in options if word[:2] == "--" and any(flag.startswith(word) for flag in each.flags)]
    found = exact or close
    return found[0] if len(found) == 1 else None


def _values(call: Call, noun: str, asked: Option, options: Sequence[Option], before: Sequence[str]) -> Sequence[str]:
    """What may follow the option *asked*; nothing where a file or a text of one's own may."""
    if asked.settings.get("choices"):
        return [str(one) for one in asked.settings["choices"]]
    source = _NAMES.get((noun, asked.flags[0])) or _NAMES.get(("", asked.flags[0]))
    if source is None:
        return []

    def given(flag: str) -> str | None:
        """What the line says for the option *flag*."""
        pairs = pairwise(before)
        wanted = next((each for each in options if flag in each.flags), None)
        return next((value for word, value in pairs if wanted and _option(options, word) is wanted), None)

    call.args.workspace_name = call.args.workspace_name or given("--workspace-name")
    return source(call.workspace, given)[:_MOST]


Given = Callable[[str], "str | None"]


def _registered(kind: str) -> Callable[[Workspace, Given], list[str]]:
    return lambda ws, given: ws.registry.names(kind)


def _deployments(flag: str) -> Callable[[Workspace, Given], list[str]]:
    """The deployments of the endpoint that *flag* names; of all of them if it is not given."""

    def found(ws: Workspace, given: Given) -> list[str]:
        endpoint = given(flag)
        endpoints = [endpoint] if endpoint else ws.registry.names("endpoints")
        return sorted({name for one in endpoints for name in ws.registry.names("deployments", one)})

    return found


def _versions(kind: str) -> Callable[[Workspace, Given], list[str]]:
    def found(ws: Workspace, given: Given) -> list[str]:
        from hpcbatch.operations.versions import versions_of

        name = given("--name")
        return list(versions_of(ws.registry.stream(kind, name))) if name else []

    return found


def _jobs(ws: Workspace, given: Given) -> list[str]:  # noqa: ARG001  # one of the sources
    from hpcbatch.fs import scan

    found = [name for user in scan.names(ws.jobs) for name in _readable(ws, user)]
    return sorted(found, reverse=True)


def _readable(ws: Workspace, user: str) -> list[str]:
    from hpcbatch.fs import scan

    with suppress(PermissionError):
        return scan.names(ws.jobs / user)
    return []


_NAMES: dict[tuple[str, str], Callable[[Workspace, Given], list[str]]] = {
    ("batch-endpoint", "--name"): _registered("endpoints"),
    ("batch-endpoint", "--deployment-name"): _deployments("--name"),
    ("batch-deployment", "--name"): _deployments("--endpoint-name"),
    ("", "--endpoint-name"): _registered("endpoints"),
    ("job", "--name"): _jobs,
    ("job", "--parent-job-name"): _jobs,
    ("compute", "--name"): lambda ws, given: sorted({*ws.registry.names("computes"), "local"}),
    **{(noun, "--name"): _registered(kind) for noun, kind in
       (("model", "models"), ("data", "data"), ("environment", "environments"), ("component", "components"))},
    **{(noun, "--version"): _versions(kind) for noun, kind in
       (("model", "models"), ("data", "data"), ("environment", "environments"), ("component", "components"))},
}  # fmt: skip


def _beginning(current: str, found: Sequence[str]) -> list[str]:
    return [word for word in found if word.startswith(current)]


VERBS = (
    Verb(
        "bash",
        "Print the script that completes nouns, verbs, options and names in bash.",
        bash,
        "hpcbatch completion bash",
        details="For this shell only: source <(hpcbatch completion bash). For good:\n"
        "hpcbatch completion bash > ~/.local/share/bash-completion/completions/hpcbatch",
    ),
    Verb(
        "zsh",
        "Print the script that completes nouns, verbs, options and names in zsh.",
        zsh,
        "hpcbatch completion zsh",
        details="In ~/.zshrc, behind compinit: source <(hpcbatch completion zsh)",
    ),
    Verb(
        "words",
        "Print the words that may end a command line: what those scripts ask.",
        words,
        "hpcbatch completion words -- batch-endpoint sh",
        (option("words", nargs="*", metavar="WORD", help="The words typed so far; the last may be empty."),),
    ),
)
