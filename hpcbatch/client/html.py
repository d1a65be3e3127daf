"""Pages of notebooks: cards, tables and bars. Pure functions; every text is escaped and freed of control characters."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hpcbatch.operations.story import clean

_GREEN, _RED, _BLUE, _GREY, _AMBER = "#1a7f37", "#cf222e", "#0969da", "#6e7781", "#9a6700"
_COLOURS = {
    "Completed": _GREEN, "Succeeded": _GREEN, "Failed": _RED, "NotResponding": _RED, "Canceled": _AMBER,
    "CancelRequested": _AMBER, "Running": _BLUE, "Finalizing": _BLUE,
}  # fmt: skip
_CELL = "text-align:left;vertical-align:top;padding:2px 12px 2px 0;background:none;overflow-wrap:anywhere"
_LABEL = "white-space:nowrap;opacity:.6"
_TABLE = "border-collapse:collapse;font-size:inherit"
_MAX_TEXT = 2000

Pairs = Sequence[tuple[str, Any]]


def text(value: Any) -> str:
    """*value* as escaped text: what it holds can neither be markup nor steer anything."""
    plain = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    plain = clean(plain)
    return html.escape(plain if len(plain) <= _MAX_TEXT else f"{plain[:_MAX_TEXT]} ...")


def card(kind: str, title: str, pairs: Pairs, *, status: str = "", body: str = "") -> str:
    """One thing: what it is, its name and status, *body* (markup), and its values."""
    head = f'<span style="opacity:.6">{text(kind)}</span> <b>{text(title)}</b> {pill(status)}'
    return _framed(f'<div style="margin-bottom:4px">{head}</div>{body}{_grid(pairs)}')


def table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Many things, one in each row."""
    head = "".join(f'<th style="{_CELL};border-bottom:1px solid {_GREY}">{text(one)}</th>' for one in header)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    if not body:
        return _framed('<span style="opacity:.6">Nothing there.</span>')
    return _framed(f'<table style="{_TABLE}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>')


def bar(done: int, total: int, *, status: str, told: str = "", noun: str = "items") -> str:
    """How many of *total* are done."""
    percent = 100 * min(done, total) / total if total else 0
    colour = _COLOURS.get(status, _BLUE)
    inner = f'<div style="width:{percent:.1f}%;height:100%;border-radius:4px;background:{colour}"></div>'
    style = "display:inline-block;width:240px;height:9px;border-radius:4px;background:rgba(127,127,127,.25)"
    numbers = f'aria-valuenow="{done}" aria-valuemax="{total}"'
    track = f'<div role="progressbar" {numbers} style="{style};margin-right:10px">{inner}</div>'
    words = f"{done} of {total} {noun}" + (f", {told}" if told else "")
    return f"<div>{track}<span>{text(words)}</span></div>"


def progress(name: str, status: str, bar_markup: str) -> str:
    """What is shown, and shown again, while a job runs."""
    return _framed(f"<div><b>{text(name)}</b> {pill(status)}</div>{bar_markup}")


def pill(status: str) -> str:
    """A status word in its colour; nothing for no status."""
    return f'<b style="color:{_COLOURS.get(status, _GREY)}">{text(status)}</b>' if status else ""


def alarm(line: str, quoted: str = "") -> str:
    """What went wrong, and folded below it what the scoring script said."""
    told = f'<div style="color:{_RED}">{text(line)}</div>' if line else ""
    if not quoted:
        return told
    block = f'<pre style="margin:2px 0 6px 14px;white-space:pre-wrap;background:none">{text(quoted)}</pre>'
    return f"{told}<details open><summary>What the scoring script said</summary>{block}</details>"


def picture(svg: str) -> str:
    """An SVG document as an image: what is in it cannot reach the page."""
    data = base64.b64encode(svg.encode()).decode()
    return f'<img style="max-width:100%" src="data:image/svg+xml;base64,{data}">'


def remark(line: str) -> str:
    """A line of its own."""
    return f"<div>{text(line)}</div>"


def flat(data: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted name, value) of everything in *data* that is set."""
    found: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}.")
        elif value not in (None, "", []):
            found.append((f"{prefix}{key}", value))
    return found


def _grid(pairs: Pairs) -> str:
    rows = (
        f'<tr style="background:none"><td style="{_CELL};{_LABEL}">{text(label)}</td>{_cell(value)}</tr>'
        for label, value in pairs
    )
    body = "".join(rows)
    return f'<table style="{_TABLE}"><tbody>{body}</tbody></table>' if body else ""


def _cell(value: Any) -> str:
    shown = pill(value) if isinstance(value, str) and value in _COLOURS else text("" if value is None else value)
    return f'<td style="{_CELL}">{shown}</td>'


def _framed(inner: str) -> str:
    return f'<div class="hpcbatch" style="font-size:13px;line-height:1.5;overflow-x:auto">{inner}</div>'
