"""From a component's command to the text that a shell is given.

Azure ML puts values into the text as they are. Here a value cannot become shell syntax: it is quoted for the place
where it stands, so that a path with blanks stays one word and a `;` in a literal is a character.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hpcbatch.errors import SpecError

_PLACEHOLDER = re.compile(r"\$\{\{\s*(inputs|outputs)\.([A-Za-z0-9_.-]+?)(?:\.path)?\s*\}\}")
_GROUP = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_UNQUOTED, _DOUBLE, _SINGLE = "", '"', "'"


@dataclass(frozen=True)
class Value:
    """What a placeholder becomes. Paths are one word; a literal is as many words as a shell would make of its text."""

    text: str
    is_path: bool


def placeholders(text: str) -> Iterator[tuple[str, str]]:
    """(`inputs` or `outputs`, name) of each placeholder in *text*, in order."""
    for match in _PLACEHOLDER.finditer(text):
        yield match[1], match[2]


def optional_groups(text: str) -> Iterator[list[str]]:
    """The inputs named in each `$[[ ]]` group of *text*; [] for a group without a placeholder, which is plain text."""
    for match in _GROUP.finditer(text):
        yield [name for kind, name in placeholders(match[1]) if kind == "inputs"]


def render(template: str, inputs: Mapping[str, Value], outputs: Mapping[str, Value]) -> str:
    """The command for a shell.

    A `$[[ ]]` group goes away, whole, if an input in it has no value; with all its values its text stays. A group
    without a placeholder is no group (azure-ml.md 1.6): it reaches the program as it is written. Raises SpecError for a
    placeholder outside a group that has no value.
    """
    values = {"inputs": inputs, "outputs": outputs}
    return "".join(_words(_without_groups(template, values), values))


_Values = Mapping[str, Mapping[str, Value]]


def _without_groups(template: str, values: _Values) -> str:
    def decide(match: re.Match[str]) -> str:
        named = list(placeholders(match[1]))
        if not named:
            return match[0]
        return match[1] if all(name in values[kind] for kind, name in named) else ""

    return _GROUP.sub(decide, template)


def _words(text: str, values: _Values) -> Iterator[str]:
    """The pieces of *text* with each placeholder quoted for where it stands, and `$[[` kept from the shell."""
    quote, at = _UNQUOTED, 0
    while at < len(text):
        match = _PLACEHOLDER.match(text, at)
        if match:
            yield _quoted(_value(match, values), quote)
            at = match.end()
        elif text.startswith("$[[", at):  # bash would do arithmetic
            yield "$[[" if quote == _SINGLE else "\\$[["
            at += 3
        elif text[at] == "\\" and quote != _SINGLE:
            yield text[at : at + 2]
            at += 2
        else:
            if text[at] in "'\"":
                quote = _next_quote(quote, text[at])
            yield text[at]
            at += 1


def _next_quote(quote: str, mark: str) -> str:
    if quote == mark:
        return _UNQUOTED
    return quote or mark


def _value(match: re.Match[str], values: _Values) -> Value:
    kind, name = match[1], match[2]
    found = values[kind].get(name)
    if found is None:
        raise SpecError(
            f"The command uses {match[0]}, which has no value.",
            hint=f"Give {kind}.{name} a value, or put its option into a $[[ ]] group if it is optional.",
            field="command",
            found=match[0],
            allowed=", ".join(sorted(values[kind])) or "no placeholder",
        )
    return found


def _quoted(value: Value, quote: str) -> str:
    if quote == _SINGLE:
        return value.text.replace("'", "'\\''")
    if quote == _DOUBLE:
        return re.sub(r'([\\"$`])', r"\\\1", value.text)
    if value.is_path:
        return shlex.quote(value.text)
    return " ".join(map(shlex.quote, _split(value.text)))


def _split(text: str) -> list[str]:
    """The words that a shell would make of a literal, its quotes taken off; by blanks alone if they do not close."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()
