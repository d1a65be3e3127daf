"""`--set`, `--add` and `--remove`: what they change, in which order, and what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.spec.edits import Edit, additions, merge_documents, removals
from hpcbatch.spec.yamlfile import loads

DOCUMENT = {"tags": {"a": "1", "b": "2"}, "setup": ["module load x", "module load y"], "text": "t"}


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(sets=["tags.a=9", "tags.c.d=e=f"]), {"tags": {"a": "9", "b": "2", "c": {"d": "e=f"}}}),
        (Edit(adds=["tags.c=3"]), {"tags": {"a": "1", "b": "2", "c": "3"}}),
        (Edit(adds=["setup[]=module load z"]), {"setup": ["module load x", "module load y", "module load z"]}),
        (Edit(adds=["new.list[]=1", "new.list[]=2"]), {"new": {"list": ["1", "2"]}}),
        (Edit(removes=["tags.a", "setup.0"]), {"tags": {"b": "2"}, "setup": ["module load y"]}),
        (Edit(sets=["tags.a=9"], removes=["tags"]), {"tags": {"a": "9"}}),
        (Edit(), {}),
    ],
)
def test_an_edit_changes_what_it_names_and_nothing_else(edit: Edit, expected: dict[str, Any]) -> None:
    assert edit.applied(DOCUMENT) == {**DOCUMENT, **expected}
    assert DOCUMENT["tags"] == {"a": "1", "b": "2"}


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(removes=["tags.z"]), "no such field"),
        (Edit(removes=["setup.2"]), "no such field"),
        (Edit(removes=["text.0"]), "no such field"),
        (Edit(adds=["text[]=x"]), "is no list"),
        (Edit(adds=["text.below[]=x"]), "is no list"),
        (Edit(sets=["text.below=x"]), "has no fields"),
        (Edit(sets=["nothing"]), "usage: --set"),
    ],
)
def test_an_edit_of_what_is_not_there_is_refused(edit: Edit, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        edit.applied(DOCUMENT)


def test_az_spells_additions_and_removals_in_several_words() -> None:
    words = [["tags.a=b", "c=d"], ["tags", "team=vision", "x=y"], ["setup", "module load z"]]
    assert additions(words) == ["tags.a=b", "c=d", "tags.team=vision", "tags.x=y", "setup[]=module load z"]
    assert removals([["tags.a", "setup", "0"], ["x"]]) == ["tags.a", "setup.0", "x"]
    with pytest.raises(SpecError, match="nothing to add"):
        additions([["tags"]])


def test_a_change_is_told_as_one_of_the_command_line() -> None:
    loaded = Edit(sets=["tags.a=9"], adds=["setup[]=z"], removes=["text"]).on(
        loads(b"tags: {a: 1}\ntext: t\n", "d.yml", Path("/"))
    )
    assert loaded.data == {"tags": {"a": "9"}, "setup": ["z"]}
    assert loaded.overridden == {("tags", "a"), ("setup",), ("text",)}
    assert Edit(sets=["a.b=1"], removes=["c.d"]).top_fields == {"a", "c"}


def test_merging_keeps_what_is_not_named() -> None:
    assert merge_documents({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 9}, "e": 4}) == {
        "a": {"b": 1, "c": 9},
        "d": 3,
        "e": 4,
    }
