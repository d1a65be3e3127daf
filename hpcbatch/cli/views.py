"""What a person at a terminal sees: cards for single things, tables for lists. rich is imported when needed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpcbatch.cli import formats
from hpcbatch.cli.render import clean

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod, RenderableType
    from rich.text import Text

_NEVER_CUT = 12
_LEAST = 8
STATUS_STYLES: Mapping[str, str] = {
    "Completed": "bold green",
    "Succeeded": "green",
    "Failed": "bold red",
    "NotResponding": "bold red",
    "Canceled": "yellow",
    "CancelRequested": "yellow",
    "Running": "bold cyan",
    "Finalizing": "cyan",
}


@dataclass(frozen=True)
class Card:
    """One thing: a title and a status, what is new first, then its values, then commands to go on with."""

    title: str
    status: str = ""
    bar: tuple[int, int] | None = None
    news: tuple[str, ...] = ()
    alarms: tuple[str, ...] = ()
    fields: tuple[tuple[str, Any], ...] = ()
    commands: tuple[tuple[str, str], ...] = ()


def show(data: Any, *, columns: formats.Columns, view: Callable[[Any], Card] | None) -> None:
    """Show *data* on the terminal: a list as a table, a mapping as a card, a scalar as it is."""
    console = _console()
    if isinstance(data, Mapping):
        _print_card(console, view(data) if view else card_of(data))
        return
    header, rows = formats.table_cells(data, columns)
    if isinstance(data, list) and not data:
        console.print(_text("Nothing there.", "dim"))
    elif not header:
        console.out(clean(formats.as_tsv(data)).rstrip("\n"), highlight=False)
    else:
        console.print(_table(header, rows, console.width))


def show_coloured(code: str, language: str) -> None:
    """Show JSON or YAML in colour."""
    from rich.syntax import Syntax

    syntax = Syntax("", language, background_color="default", theme="ansi_dark")
    _console().print(syntax.highlight(clean(code).rstrip("\n")), soft_wrap=True)


def card_of(data: Mapping[str, Any]) -> Card:
    """The card of any mapping: its name, its status, and each value that is set, nested ones indented."""
    status = str(data.get("status") or data.get("provisioning_state") or "")
    shown = {key: value for key, value in data.items() if key not in ("name", "status", "provisioning_state", "id")}
    times = shown.pop("creation_context", None)
    for label, key in (("created", "created"), ("changed", "last_modified")):
        when, who = (times.get(f"{key}_{word}") if isinstance(times, Mapping) else None for word in ("at", "by"))
        if when:
            shown[label] = f"{when} by {who}" if who else when
    return Card(title=str(data.get("name") or ""), status=status, fields=tuple(flat(shown)))


def flat(data: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(label, value) of everything in *data* that is set: a single nested value dotted, several under a heading."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            below = flat(value)
            if len(below) == 1:
                found.append((f"{key}.{below[0][0]}", below[0][1]))
            elif below:
                found += [(key, ""), *((f"  {label}", each) for label, each in below)]
        elif value is not None and value != [] and value != "":
            found.append((key, value))
    return found


def _print_card(console: Console, card: Card) -> None:
    from rich.padding import Padding

    head = _text(card.title, "bold")
    if card.status:
        head.append("  " if card.title else "").append_text(_text(card.status, STATUS_STYLES.get(card.status, "")))
    if head.plain:
        console.print(head)
    body: list[RenderableType] = [_bar(*card.bar)] if card.bar else []
    body += [_text(line) for line in card.news]
    body += [_text(line, "red") for line in card.alarms]
    if card.fields:
        body.append(_pairs(card.fields, "dim"))
    for part in body:
        console.print(Padding(part, (0, 0, 0, 2)))
    if card.commands:
        console.print()
        console.print(_pairs(card.commands, "dim"), soft_wrap=True)


def _pairs(fields: Sequence[tuple[str, Any]], style: str) -> RenderableType:
    from rich.table import Table

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for label, value in fields:
        grid.add_row(_text(label, style), _text(_value(value), STATUS_STYLES.get(str(value), "")))
    return grid


def _value(value: Any) -> str:
    if isinstance(value, list) and not any(isinstance(each, Mapping | list) for each in value):
        return ", ".join(formats.scalar(each) for each in value)
    return formats.as_json(value) if isinstance(value, Mapping | list) else formats.scalar(value)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> RenderableType:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", show_edge=False)
    flat_rows = [[clean(" ".join(cell.split())) for cell in row] for row in rows]
    columns = list(zip(header, *flat_rows, strict=True))
    widths = _widths([max(map(len, column)) for column in columns], room)
    for number, (name, width) in enumerate(zip(header, widths, strict=True)):
        overflow: OverflowMethod = "fold" if number == 0 else "ellipsis"
        table.add_column(_text(name), no_wrap=True, min_width=width, max_width=width, overflow=overflow)
    for row in flat_rows:
        table.add_row(*(Text(cell, style=STATUS_STYLES.get(cell, "")) for cell in row))
    return table


def _widths(wanted: Sequence[int], room: int) -> list[int]:
    """The widths of the columns: the wanted ones, the widest cut until they fit. Names, which are copied, and short
    words, which say little without their end, stay whole.
    """
    widths = list(wanted)
    long = [number for number, width in enumerate(wanted) if number and width > _NEVER_CUT]
    while long and sum(widths) + 2 * len(widths) > room:
        longest = max(long, key=widths.__getitem__)
        if widths[longest] <= _LEAST:
            break
        widths[longest] -= 1
    return widths


def _bar(done: int, total: int) -> RenderableType:
    from rich.progress_bar import ProgressBar

    return ProgressBar(total=max(total, 1), completed=done, width=40)


def _text(content: str, style: str = "") -> Text:
    from rich.text import Text

    return Text(clean(content), style=style, overflow="fold")


def _console() -> Console:
    from rich.console import Console

    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
