"""Reading YAML: plain data only, no surprises, and every refusal names file, line and field."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbatch.errors import FilesystemError, SpecError
from hpcbatch.spec.yamlfile import MAX_BYTES, apply_sets, dump, load, loads, split_set


def _bomb() -> str:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    return "\n".join(["a0: &a0 [lol]", *levels])


BAD = {
    "duplicate key": ("name: a\nsettings:\n  x: 1\n  x: 2\n", 4, "settings.x", "x"),
    "duplicate key at the root": ("name: a\nname: b\n", 2, "name", "name"),
    "python tag": ("name: a\ncode: !!python/name:os.system x\n", 2, "", "tag:yaml.org,2002:python/name:os.system"),
    "own tag": ("name: !secret a\n", 1, "", "!secret"),
    "core tag": ("name: !!str 5\n", 1, "", "tag:yaml.org,2002:str"),
    "alias bomb": (_bomb(), 1, None, "more"),
    "many aliases": ("a: &a 1\nb: [" + ", ".join(["*a"] * 101) + "]\n", 2, "", "more than 100"),
    "alias to itself": ("a: &a\n  b: *a\n", 1, None, "more"),
    "deep nesting": ("\n" * 3 + "[" * 30 + "]" * 30, 4, "", "more than 20 levels"),
    "very deep nesting": ("[" * 5000, 1, "", "more than 20 levels"),
    "mapping as a key": ("? {a: b}\n: c\n", 1, "", "mapping"),
    "list at the root": ("- a\n- b\n", 1, "", "list"),
    "text at the root": ("hello\n", 1, "", "str"),
    "two documents": ("name: a\n---\nname: b\n", 2, "", None),
    "tab": ("name: a\nx:\n\ty: 1\n", 3, "", None),
    "open bracket": ("name: [a\nother: b\n", 2, "", None),
    "unknown alias": ("name: *nobody\n", 1, "", None),
    "not utf-8": (b"name: a\ntags: \xff\xfe\n", 2, "", "ff"),
    "control character": ("name: a\x01\n", 1, "", None),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_plain_yaml_is_refused_with_file_and_line(tmp_path: Path, case: str) -> None:
    content, line, field, found = BAD[case]
    path = tmp_path / "deployment.yml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SpecError) as caught:
        load(path)
    fields = caught.value.fields
    assert fields["file"] == str(path)
    assert fields["line"] == line
    assert fields["allowed"]
    if field is not None:
        assert fields["field"] == field
    if found is not None:
        assert fields["found"] == found
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert str(caught.value).endswith("run the same command again.")


def test_what_looks_like_something_else_stays_text(tmp_path: Path) -> None:
    """YAML 1.1 would make False, 90, a date and octal 493 of these."""
    text = "a: no\nb: 1:30\nl: true\nm: <<\nn:\n"
    text += "c: 2026-01-01\nd: 0o17\ne: 0755\nf: on\ng: ~\nh: 1e3\ni: .5\nj: '5'\nk: 1_000\n"
    data = loads(text.encode(), "x", tmp_path).data
    assert data == {
        "a": "no", "b": "1:30", "c": "2026-01-01", "d": 15, "e": 755, "f": "on", "g": None, "h": 1000.0, "i": 0.5,
        "j": "5", "k": "1_000", "l": True, "m": "<<", "n": None,
    }  # fmt: skip


def test_numbers_remember_how_they_were_spelled(tmp_path: Path) -> None:
    data = loads(b"a: 1.10\nb: 007\nc: -.inf\nd: .nan\ne: 0x1F\n", "x", tmp_path).data
    assert {key: one.source for key, one in data.items()} == {
        "a": "1.10", "b": "007", "c": "-.inf", "d": ".nan", "e": "0x1F",
    }  # fmt: skip
    assert (data["a"], data["b"], data["c"], data["e"]) == (1.1, 7, float("-inf"), 31)


def test_keys_are_text_whatever_they_look_like(tmp_path: Path) -> None:
    assert list(loads(b"no: 1\n1: 2\n~: 3\n", "x", tmp_path).data) == ["no", "1", "~"]


def test_every_field_has_its_line(tmp_path: Path) -> None:
    loaded = loads(b"# hello\na:\n  b: 1\n  c:\n    - x\n    - y: 2\n", "x", tmp_path)
    assert loaded.lines["a",] == 2
    assert loaded.lines["a", "b"] == 3
    assert loaded.lines["a", "c", 0] == 5
    assert loaded.lines["a", "c", 1, "y"] == 6


def test_an_empty_file_is_an_empty_document(tmp_path: Path) -> None:
    assert loads(b"", "x", tmp_path).data == {}
    assert loads(b"\xef\xbb\xbf# only a comment\n", "x", tmp_path).data == {}


def test_a_missing_large_or_special_file_is_refused(tmp_path: Path) -> None:
    large, fifo = tmp_path / "large.yml", tmp_path / "fifo.yml"
    large.write_bytes(b"a" * (MAX_BYTES + 1))
    os.mkfifo(fifo)
    for path in (large, fifo, tmp_path / "missing.yml"):
        with pytest.raises(SpecError) as caught:
            load(path)
        assert caught.value.fields["file"] == str(path)
    with pytest.raises((SpecError, FilesystemError)):
        load(tmp_path)


def test_a_link_to_the_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yml").write_text("name: a\n")
    (tmp_path / "b.yml").symlink_to("real/a.yml")
    assert load(tmp_path / "b.yml").folder == tmp_path / "real"


def test_sets_reach_any_depth_and_stay_text(tmp_path: Path) -> None:
    before = {"a": {"b": 1, "c": 2}}
    after = apply_sets(before, ["a.b=5", "x.y.z=p=q", "name=", "a.c= spaced "])
    assert after == {"a": {"b": "5", "c": " spaced "}, "x": {"y": {"z": "p=q"}}, "name": ""}
    assert before == {"a": {"b": 1, "c": 2}}


@pytest.mark.parametrize("text", ["a", "", "=b", "a..b=c", ".a=b"])
def test_a_set_without_key_and_value_shows_its_usage(text: str) -> None:
    with pytest.raises(SpecError, match=r"usage: --set KEY=VALUE \[KEY=VALUE \.\.\.\]"):
        split_set(text)


def test_a_set_below_a_text_is_refused() -> None:
    with pytest.raises(SpecError) as caught:
        apply_sets({"model": "azureml:heart:1"}, ["model.path=x"])
    assert caught.value.fields["field"] == "model"


def test_a_dump_can_be_loaded_again(tmp_path: Path) -> None:
    data = loads(b"b: 1.10\na: [007, no, '5', \xc3\xa4]\n", "x", tmp_path).data
    assert loads(dump(data).encode(), "x", tmp_path).data == data
    assert dump(data).startswith("b:")


@given(st.binary(max_size=200) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@\n \t0.~?,", max_size=80).map(str.encode))
def test_any_bytes_are_a_document_or_one_error(raw: bytes) -> None:
    file = "x.yml"
    try:
        found = loads(raw, file, Path("/")).data
    except SpecError as error:
        found, file = {}, error.fields["file"]
    assert (type(found), file) == (dict, "x.yml")


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
def test_a_document_may_come_through_a_pipe_and_be_read_again(tmp_path: Path, name: str) -> None:
    code = (
        f"from hpcbatch.spec.yamlfile import load; load({name!r}); f = load({name!r}); print(f.data, f.file, f.folder)"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, input="a: 1\n", capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"{{'a': 1}} stdin {tmp_path}\n"
