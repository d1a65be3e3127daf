"""What is printed where: formats, queries, terminals, and nothing that steers a terminal."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import pytest

from hpcbatch.cli import render, views
from hpcbatch.errors import SpecError
from hpcbatch.operations import story


class Terminal(io.StringIO):
    """A stream with a person behind it."""

    def isatty(self) -> bool:
        return True

    def answer(self, data: Any, **how: Any) -> str:
        """What the person sees of *data*, colours included."""
        with contextlib.redirect_stdout(self):
            render.answer(data, **how)
        return self.getvalue()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """stdout is a terminal of 80 columns with colours."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return Terminal()


DATA = {"name": "a", "status": "Completed", "tags": {"x": 1}, "none": None, "list": ["p", "q"]}
COLUMNS = (("Name", "name"), ("Status", "status"))


def test_a_pipe_gets_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a format and without a terminal, the answer is for programs."""
    render.answer(DATA, form=None, columns=COLUMNS)
    assert json.loads(capsys.readouterr().out) == DATA


@pytest.mark.parametrize("form", ["yaml", "yamlc", "jsonc"])
def test_yaml_and_json_carry_the_same_data(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Also in colour formats, which have no colour in a pipe."""
    import yaml

    render.answer(DATA, form=form)
    assert yaml.safe_load(capsys.readouterr().out) == DATA


@pytest.mark.parametrize(
    ("query", "form", "out"),
    [
        ("name", "tsv", "a\n"),
        ("missing", "tsv", ""),
        ("missing", "json", ""),
        ("list", "tsv", "p\nq\n"),
        ("tags.x", "json", "1\n"),
        ("list[0]", "yaml", "p\n...\n"),
        ("{n: name, s: status}", "table", "N  S\n-  ---------\na  Completed\n"),
        ("name", "none", ""),
    ],
)
def test_queries(query: str, form: str, out: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A query shows a part; what is not there prints nothing, as in az."""
    render.answer(DATA, form=form, query=render.compile_query(query), columns=COLUMNS)
    assert capsys.readouterr().out == out


def test_a_query_that_fails_on_the_data_is_a_usage_error() -> None:
    """JMESPath functions have types."""
    query = render.compile_query("length(tags.x)")
    with pytest.raises(SpecError, match="JMESPath"):
        render.answer(DATA, form="json", query=query)


def test_a_terminal_gets_a_card_for_one_thing(terminal: Terminal) -> None:
    """Title and status first, then what is set; empty values are left out."""
    terminal.answer(DATA, form=None)
    out = render.clean(terminal.getvalue())
    assert out.splitlines()[0] == "a  Completed"
    assert "tags.x" in out
    assert "p, q" in out
    assert "none" not in out
    assert "\x1b[1;32mCompleted" in terminal.getvalue()


def test_a_terminal_gets_a_table_for_a_list(terminal: Terminal) -> None:
    """The columns of the verb; names are never cut."""
    rows = [{"name": "n" * 60, "status": "Failed", "more": "x" * 100}, {"name": "b", "status": "Running", "more": ""}]
    terminal.answer(rows, form=None, columns=(*COLUMNS, ("More", "more")))
    out = render.clean(terminal.getvalue())
    assert "n" * 60 in out
    assert max(map(len, out.splitlines())) <= 80


def test_an_empty_list_says_so(terminal: Terminal) -> None:
    """A person sees a sentence, a program an empty list."""
    terminal.answer([], form=None)
    assert "Nothing there." in terminal.getvalue()


def test_no_color_is_honoured(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR: no colour, whatever the terminal can."""
    monkeypatch.setenv("NO_COLOR", "1")
    terminal.answer(DATA, form=None)
    terminal.answer(DATA, form="jsonc")
    assert "\x1b[3" not in terminal.getvalue()
    assert ";3" not in terminal.getvalue()


def test_jsonc_is_coloured_json(terminal: Terminal) -> None:
    """Without the colours it is the same JSON."""
    terminal.answer(DATA, form="jsonc")
    assert "\x1b[" in terminal.getvalue()
    assert json.loads(render.clean(terminal.getvalue())) == DATA


@pytest.mark.parametrize("form", [None, "table", "tsv", "json", "jsonc", "yaml"])
def test_nothing_steers_the_terminal(form: str | None, terminal: Terminal) -> None:
    """Names come from others' files: escape sequences and bidi overrides never reach the terminal."""
    evil = "a\x1b]0;owned\x07\x1b[2Jb\x9b31m\u202ec[bold]d"
    for data in ({"name": evil, "k" + evil: evil, "l": [evil]}, [{"name": evil}], evil):
        terminal.answer(data, form=form)
    out = terminal.getvalue()
    assert "\x1b]" not in out
    assert "\x1b[2J" not in out
    assert "\x9b" not in out
    assert "\u202e" not in out
    assert "[bold]" in out


def test_the_story_is_clean_and_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings and errors carry a label; `--only-show-errors` silences the first."""
    render.warning("one\x1b[31m")
    render.error("two\r")
    render.configure(only_errors=True)
    try:
        render.warning("three")
        render.note("four")
    finally:
        render.configure(only_errors=False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "WARNING: one\nERROR: two\n"


@pytest.mark.parametrize(("typed", "expected"), [("y\n", True), ("Yes\n", True), ("n\n", False), ("", False)])
def test_asking(
    typed: str, expected: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only yes is yes; the question is not part of the answer."""
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    assert render.ask("Sure? ") is expected
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "Sure? ")


def test_bytes_that_are_no_text_come_out_as_they_went_in(capfdbinary: Any) -> None:
    """File names need not be UTF-8; `-o tsv` hands them on."""
    import sys

    stream = io.TextIOWrapper(io.FileIO(1, "wb", closefd=False), encoding="utf-8")
    original, sys.stdout = sys.stdout, stream
    try:
        render.answer(b"x\xff".decode("utf-8", "surrogateescape"), form="tsv")
    finally:
        sys.stdout = original
    assert capfdbinary.readouterr().out == b"x\xff\n"


def test_a_card_shows_what_matters_first(terminal: Terminal) -> None:
    """Bar, news, alarms, values, then commands."""
    card = views.Card(
        "job",
        "Failed",
        bar=(1, 2),
        news=("1 of 2",),
        alarms=("it broke",),
        fields=(("f", 1),),
        commands=(("Go", "cmd"),),
    )
    terminal.answer({}, form=None, view=lambda _: card)
    lines = [line.strip() for line in render.clean(terminal.getvalue()).splitlines() if line.strip()]
    assert [lines[0], *lines[2:]] == ["job  Failed", "1 of 2", "it broke", "f  1", "Go  cmd"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0:00"), (7, "0:07"), (750, "12:30"), (10805, "3:00:05"), (187200, "2 d 04:00"), (-1, "0:00")],
)
def test_clock(seconds: float, text: str) -> None:
    """Time left as people read it."""
    assert story.clock(seconds) == text


@pytest.mark.parametrize("room", [80, 90, 100, 200])
def test_a_table_fits_the_terminal_and_keeps_names_and_short_words_whole(room: int) -> None:
    """What is cut is the long words between them."""
    job, word = "b20261123-211636-9dac8z", "heart-classifier-custom-hmqhi"
    widths = views._widths([len(job), 9, len(word), len(word), 5, 11], room)
    assert sum(widths) + 2 * len(widths) <= room
    assert (widths[0], widths[1], widths[4], widths[5]) == (len(job), 9, 5, 11)
    assert views._widths([300, 5], room) == [300, 5]


def test_a_card_says_when_a_thing_was_made_and_when_it_was_changed() -> None:
    times = {"created_at": "1", "created_by": "ann", "last_modified_at": "2", "last_modified_by": "ben"}
    card = views.card_of({"name": "m", "creation_context": times})
    assert card.fields == (("created", "1 by ann"), ("changed", "2 by ben"))
