"""Inputs and outputs that components declare, and which values fit them."""

from __future__ import annotations

from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.spec.base import parse
from hpcbatch.spec.component import CommandComponent
from hpcbatch.spec.ports import InputPort, LiteralProblem, check_literal, literal_text
from hpcbatch.spec.yamlfile import Loaded
from tests.unit.spec.components import COMMAND, loaded


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("string", "a b", "a b"),
        ("string", 7, "7"),
        ("string", True, "True"),
        ("integer", "-12", "-12"),
        ("number", "1e-5", "1e-5"),
        ("number", "0.30", "0.30"),
        ("boolean", "true", "True"),
        ("boolean", False, "False"),
    ],
)
def test_a_literal_becomes_the_text_that_azure_ml_makes_of_it(kind: str, value: Any, text: str) -> None:
    assert literal_text(kind, value) == text


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", "1.0"),
        ("integer", True),
        ("integer", "1_000"),
        ("number", "many"),
        ("number", "nan"),
        ("number", "1_0"),
        ("number", False),
        ("boolean", "yes"),
        ("boolean", 1),
        ("string", ["a"]),
        ("string", {"a": 1}),
        ("string", None),
        ("string", "a\0b"),
    ],
)
def test_a_value_of_another_type_is_refused_with_what_is_allowed(kind: str, value: Any) -> None:
    with pytest.raises(LiteralProblem) as caught:
        literal_text(kind, value)
    assert caught.value.allowed


def test_a_number_written_in_yaml_keeps_its_spelling() -> None:
    port = parse(InputPort, Loaded(loaded("x: {type: number, default: 1.10, min: 0}").data["x"], "f", {}, None))  # type: ignore[arg-type]
    assert port.shape() == {"type": "number", "default": "1.10", "min": "0"}


@pytest.mark.parametrize(
    ("port", "value", "message"),
    [
        ({"type": "integer", "min": "1", "max": "9"}, "0", "0 is less than the min 1"),
        ({"type": "number", "max": 0.5}, "0.75", "0.75 is more than the max 0.5"),
        ({"type": "string", "enum": ["onehot", "ordinal"]}, "binary", "'binary' is none of its enum"),
    ],
)
def test_a_value_outside_of_its_bounds_or_enum_is_refused(port: dict[str, Any], value: str, message: str) -> None:
    with pytest.raises(LiteralProblem, match=message):
        check_literal(port, value)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("{type: integer, default: 1.5}", "'1.5' is not an integer"),
        ("{type: integer, default: 11, max: 10}", "11 is more than the max 10"),
        ("{type: string, min: 1}", "min and max are for numbers"),
        ("{type: uri_folder, enum: [a]}", "enum is for literals"),
        ("{type: integer, enum: [1, two]}", "'two' is not an integer"),
        ("{type: string, path: data}", "a string has no path"),
        ("{type: strnig}", "'strnig' is not allowed"),
        ("{default: 5}", "is required"),
        ("{type: string, optinal: true}", "unknown field"),
    ],
)
def test_an_input_that_contradicts_itself_is_refused_at_its_line(written: str, message: str) -> None:
    text = COMMAND.replace("    type: uri_folder\n  rate:", f"    type: uri_folder\n  bad: {written}\n  rate:")
    with pytest.raises(SpecError, match=message) as caught:
        parse(CommandComponent, loaded(text))
    assert caught.value.fields["line"] == text[: text.index("bad:")].count("\n") + 1


@pytest.mark.parametrize("name", ["path", "HOME", "two words", "1st", "a.b"])
def test_a_name_that_cannot_be_an_input_is_refused(name: str) -> None:
    with pytest.raises(SpecError, match=r"cannot name|reserved"):
        parse(CommandComponent, loaded(COMMAND.replace("  data:\n", f"  '{name}':\n")))


def test_types_are_compared_as_azure_ml_does() -> None:
    assert parse(InputPort, {"type": "UriFolder"}).type == "uri_folder"
    assert parse(InputPort, {"type": "Float"}).type == "number"
