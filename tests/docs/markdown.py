"""Small pieces of Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

TEMPLATES = Path(__file__).with_name("templates")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a `|` inside a cell is escaped."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def code(text: str) -> str:
    """*text* as code."""
    return f"`{text}`"


def bash_form(lines: str) -> str:
    """A block of commands that show a form; a test parses them, none is run."""
    return f"<!-- not run: it shows the form; a test parses it -->\n```bash\n{lines}\n```"


def filled(template: str, **parts: str) -> str:
    """The template of that name with each `@part@` put in."""
    text = (TEMPLATES / template).read_text("utf-8")
    return re.sub(r"@(\w+)@", lambda match: parts[match[1]], text)
