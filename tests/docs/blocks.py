"""The fenced blocks of a page, and a page as one script: its blocks, from the first to the last.

<!-- not run: the reason -->    right before a bash or python block: it is not run
<!-- set up: NAME -->           anywhere: what the page takes for granted (tests/docs/places.py)
<!-- prints -->                 right before a text block: what the block before it prints
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

RUN = ("bash", "python")
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->$")
_SET_UP = re.compile(r"^<!-- set up: ([a-z-]+) -->$", re.MULTILINE)
_BLOCK = re.compile(r"^(?P<before>[^\n]*)\n```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "==== block "


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, the line it starts in, why it is not run, and what it must print."""

    language: str
    text: str
    line: int
    not_run: str = ""
    prints: str | None = None


def blocks(page: Path) -> list[Block]:
    """The blocks of *page* that hold commands or Python, in order."""
    content = page.read_text("utf-8")
    found: list[Block] = []
    for match in _BLOCK.finditer(content):
        before, language, text = match["before"], match["language"], match["text"]
        if language == "text" and before == "<!-- prints -->":
            last = found[-1]
            found[-1] = Block(last.language, last.text, last.line, last.not_run, text)
        elif language in RUN:
            reason = _NOT_RUN.match(before)
            line = content.count("\n", 0, match.start("text"))
            found.append(Block(language, text, line, reason[1] if reason else ""))
    return found


def set_up(page: Path) -> str:
    """The place that *page* asks for; "" if it asks for none."""
    found = _SET_UP.findall(page.read_text("utf-8"))
    assert len(found) <= 1, f"{page} asks for {found}: one place is enough"
    return found[0] if found else ""


def script(page: Path, shared: Path) -> str:
    """The blocks that are run as one bash script that says on stdout where each begins. /shared is *shared*."""
    lines = []
    for number, block in enumerate(blocks(page)):
        if block.not_run:
            continue
        text = block.text.replace("/shared/", f"{shared}/")
        lines.append(f"echo; echo '{MARK}{number}'")
        lines.append(text if block.language == "bash" else f"python3 - <<'END-OF-PYTHON'\n{text}END-OF-PYTHON\n")
    return "\n".join(lines)


def printed(stdout: str) -> dict[int, str]:
    """What each block printed."""
    parts = re.split(rf"^{MARK}(\d+)\n", stdout, flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}
