"""What the shell makes of a rendered command: each value arrives as the program should see it."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbatch.errors import SpecError
from hpcbatch.pipeline.command import Value, optional_groups, render

SHELLS = [shell for shell in ("bash", "dash", "sh") if shutil.which(shell)]
ARGS = 'for each in "$@"; do printf \'%s\\0\' "$each"; done'


def literal(text: str) -> Value:
    return Value(text, is_path=False)


def path(text: str) -> Value:
    return Value(text, is_path=True)


def words(template: str, shell: str = "sh", **inputs: Value) -> list[str]:
    """The arguments of a program that is called with *template* as its command line."""
    command = render(template, inputs, {})
    script = f"set -- {command}\n{ARGS}"
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True)
    return [word.decode() for word in done.stdout.split(b"\0")[:-1]]


NASTY = ["a b", "it's", 'say "hi"', "$HOME", "`id`", "a;b", "back\\slash", "*", "new\nline", "#no", "-x", "ä€"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("text", NASTY)
@pytest.mark.parametrize("template", ["${{inputs.x}}", '"${{inputs.x}}"', "'${{inputs.x}}'", '--in="${{ inputs.x }}"'])
def test_a_path_is_one_word_wherever_it_stands(shell: str, text: str, template: str) -> None:
    expected = f"--in={text}" if template.startswith("--in") else text
    assert words(template, shell, x=path(text)) == [expected]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1))
def test_no_path_becomes_syntax(text: str) -> None:
    assert words("a ${{inputs.x}} z", x=path(text)) == ["a", text, "z"]


def test_a_literal_is_as_many_words_as_a_shell_makes_of_it_and_nothing_more() -> None:
    """Azure ML puts the text into the command; people pass whole lists of options in one input."""
    assert words("${{inputs.x}}", x=literal("--a 1 --b 'two words'")) == ["--a", "1", "--b", "two words"]
    assert words("${{inputs.x}}", x=literal("$HOME; rm -rf / & `id`")) == ["$HOME;", "rm", "-rf", "/", "&", "`id`"]
    assert words("${{inputs.x}}", x=literal("it's")) == ["it's"]
    assert words("a ${{inputs.x}} b", x=literal("")) == ["a", "b"]
    assert words('"${{inputs.x}}"', x=literal("two words")) == ["two words"]


def test_a_group_stays_with_its_values_and_goes_without_them() -> None:
    template = "p --must ${{inputs.a}} $[[--may ${{inputs.b}}]] end"
    assert words(template, a=literal("1"), b=literal("2")) == ["p", "--must", "1", "--may", "2", "end"]
    assert words(template, a=literal("1")) == ["p", "--must", "1", "end"]


def test_a_group_goes_when_one_of_its_inputs_is_missing() -> None:
    assert words("p $[[-a ${{inputs.a}} -b ${{inputs.b}}]]", a=literal("1")) == ["p"]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("--name $[[inputs.name]]", ["--name", "$[[inputs.name]]"]),
        ('"$[[inputs.name]]"', ["$[[inputs.name]]"]),
        ("'$[[inputs.name]]'", ["$[[inputs.name]]"]),
    ],
)
def test_a_group_without_a_placeholder_is_plain_text(shell: str, template: str, expected: list[str]) -> None:
    """As in azureml-examples' train_xgb.yml; bash would do arithmetic with it."""
    assert words(template, shell) == expected


def test_several_lines_are_several_commands() -> None:
    command = render("echo a\necho ${{inputs.x}}\n", {"x": path("b")}, {})
    done = subprocess.run(["sh", "-c", command], check=True, capture_output=True)
    assert done.stdout == b"a\nb\n"


def test_an_input_without_a_value_outside_a_group_is_an_error_that_names_it() -> None:
    with pytest.raises(SpecError, match=r"\$\{\{inputs.x\}\}, which has no value") as caught:
        render("p ${{inputs.x}}", {"y": literal("1")}, {})
    assert caught.value.fields["allowed"] == "y"


def test_outputs_are_paths() -> None:
    assert render("p ${{outputs.o}}", {}, {"o": path("/a b")}) == "p '/a b'"


def test_the_inputs_of_groups_are_found() -> None:
    assert list(optional_groups("$[[a ${{inputs.x}}]] $[[inputs.y]] $[[${{inputs.z}} ${{inputs.x}}]]")) == [
        ["x"], [], ["z", "x"]
    ]  # fmt: skip
