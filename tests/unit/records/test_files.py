"""The names of written files: any bytes there and back, nothing that leaves the folder."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcbatch.errors import FileDamaged
from hpcbatch.records.files import HEAD, pack_names, parse_names

NAMES = st.binary(min_size=1, max_size=40).filter(lambda b: not {b"", b".", b".."} & set(b.split(b"/")) and 0 not in b)


@given(st.lists(st.tuples(NAMES.map(os.fsdecode), st.integers(0, 1 << 60)), max_size=5))
def test_names_of_any_bytes_come_back(files: list[tuple[str, int]]) -> None:
    packed = pack_names(files)
    assert HEAD.unpack_from(packed)[0] == len(packed) - HEAD.size
    assert parse_names(packed[HEAD.size :]) == files


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'{"files": [["a"]]}', b'{"files": [["a", "x"]]}', b'{"files": [["/a", 1]]}', b'{"files": [["", 1]]}',
     b'{"files": [["a/../../b", 1]]}', b'{"files": [["a", -1]]}', b'{"files": [["\\u20ac", 1]]}'],
)  # fmt: skip
def test_what_is_no_list_of_names_below_the_folder_is_damage(text: bytes) -> None:
    with pytest.raises(FileDamaged):
        parse_names(text)
