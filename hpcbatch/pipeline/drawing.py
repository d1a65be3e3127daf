"""A graph with the state of each step: as lines of text, and as an SVG picture."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

MAX_LINES = 60
_MARKS = {"Completed": "+", "Failed": "x", "Canceled": "-", "Running": ">", "Queued": ".", "NotResponding": "?"}
_COLOURS = {"Completed": "#2e7d32", "Failed": "#c62828", "Canceled": "#ef6c00", "Running": "#1565c0",
            "Queued": "#6a6a6a", "NotResponding": "#c62828", "NotStarted": "#9e9e9e"}  # fmt: skip
_WIDTH, _HEIGHT, _GAP_X, _GAP_Y = 210, 44, 30, 46
_COLUMNS = 8


@dataclass(frozen=True)
class Node:
    """One step: its state, a word on it, and the steps that it reads from."""

    name: str
    status: str
    note: str
    depends_on: Sequence[str]


def layers(nodes: Sequence[Node]) -> list[list[Node]]:
    """The nodes by depth: each is below everything that it reads from. *nodes* are in topological order."""
    depth: dict[str, int] = {}
    found: list[list[Node]] = []
    for node in nodes:
        depth[node.name] = 1 + max((depth[name] for name in node.depends_on if name in depth), default=-1)
        while len(found) <= depth[node.name]:
            found.append([])
        found[depth[node.name]].append(node)
    return found


def as_text(nodes: Sequence[Node]) -> list[str]:
    """One line for each step, drawn below what it reads from; many siblings in one state are one line."""
    shown = [(level, node) for level, layer in enumerate(layers(nodes)) for node in _shortened(layer)]
    names = [
        f"{_MARKS.get(node.status, ' ')} {'  ' * level}{'└ ' if level else ''}{node.name}" for level, node in shown
    ]
    width = max(map(len, names), default=0)
    lines = []
    for name, (_, node) in zip(names, shown, strict=True):
        parents = f"<- {', '.join(node.depends_on[:4])}{', ...' if len(node.depends_on) > 4 else ''}"
        after = "  ".join(part for part in (node.note.strip(), parents if node.depends_on else "") if part)
        lines.append(f"{name:<{width}}  {node.status:<12} {after}".rstrip())
    if len(lines) > MAX_LINES:
        lines = [*lines[:MAX_LINES], f"... and {len(lines) - MAX_LINES} more: hpcbatch job list --parent-job-name NAME"]
    return lines


def _shortened(layer: Sequence[Node]) -> Iterator[Node]:
    """The nodes of a layer; of more than 12 those alike (same state, same parents) are counted, not named."""
    if len(layer) <= 12:
        yield from layer
        return
    groups: dict[tuple[str, tuple[str, ...]], list[Node]] = {}
    for node in layer:
        groups.setdefault((node.status, tuple(node.depends_on)), []).append(node)
    for (status, parents), members in groups.items():
        if len(members) <= 3 or (status == "Failed" and len(members) <= 12):
            yield from members
        else:
            yield Node(f"{members[0].name} ... {members[-1].name}", status, f"{len(members)} steps", parents)


def as_svg(title: str, nodes: Sequence[Node]) -> str:
    """The graph as one SVG document: boxes in rows, a line from each step to those that read from it."""
    rows = [layer[at : at + _COLUMNS] for layer in layers(nodes) for at in range(0, len(layer), _COLUMNS)]
    columns = max((len(row) for row in rows), default=1)
    width = columns * (_WIDTH + _GAP_X) + _GAP_X
    height = len(rows) * (_HEIGHT + _GAP_Y) + _GAP_Y
    places = _places(rows, width)
    body = [*_edges(nodes, places), *_boxes(nodes, places)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n' + "\n".join(body) + "\n</svg>\n"
    )


def _places(rows: Sequence[Sequence[Node]], width: int) -> dict[str, tuple[float, float]]:
    """The upper left corner of each box; rows are centred."""
    found = {}
    for level, row in enumerate(rows):
        left = (width - len(row) * (_WIDTH + _GAP_X) + _GAP_X) / 2
        for number, node in enumerate(row):
            found[node.name] = (left + number * (_WIDTH + _GAP_X), _GAP_Y / 2 + level * (_HEIGHT + _GAP_Y))
    return found


def _edges(nodes: Sequence[Node], places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for node in nodes:
        x, y = places[node.name]
        for name in node.depends_on:
            if name in places:
                from_x, from_y = places[name]
                x1, y1, x2, y2 = from_x + _WIDTH / 2, from_y + _HEIGHT, x + _WIDTH / 2, y
                middle = (y1 + y2) / 2
                yield (
                    f'<path d="M{x1:g},{y1:g} C{x1:g},{middle:g} {x2:g},{middle:g} {x2:g},{y2:g}" fill="none" '
                    'stroke="#b0b0b0" stroke-width="1.5"/>'
                )


def _boxes(nodes: Sequence[Node], places: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    for node in nodes:
        x, y = places[node.name]
        colour = _COLOURS.get(node.status, "#9e9e9e")
        name = node.name if len(node.name) <= 28 else node.name[:27] + "…"
        yield (
            f"<g><title>{escape(node.name)}: {escape(node.status)} {escape(node.note)}</title>"
            f'<rect x="{x:g}" y="{y:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="6" fill="#ffffff" stroke="{colour}" '
            f'stroke-width="2"/><text x="{x + 10:g}" y="{y + 18:g}" fill="#202020">{escape(name)}</text>'
            f'<text x="{x + 10:g}" y="{y + 35:g}" fill="{colour}" font-size="11">{escape(node.status)}'
            f"{escape('  ' + node.note if node.note else '')}</text></g>"
        )
