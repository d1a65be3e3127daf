"""The files of public Azure ML projects, and minimal files of our own: each is understood, or says what is wrong."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from tests.corpus.files import RealFile, cache_folder, real_files
from tests.corpus.reading import READERS, read

SHAPES = Path(__file__).with_name("shapes")
REFUSED = {"sweepJob": "a job of type 'sweep' is not run by hpcbatch"}


def test_the_list_is_as_wide_as_it_should_be() -> None:
    files = real_files()
    assert len(files) >= 60
    assert len({file.repository for file in files}) >= 15
    assert {file.kind for file in files} <= set(READERS)


def test_real_files_parse_or_name_their_defect(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that `python -m tests.corpus.fetch` brought to the cache; without a cache, the shapes below stand for
    them.
    """
    cache = cache_folder()
    there = [file for file in real_files() if file.below(cache).is_file()]
    wrong = [sentence for file in there if (sentence := _wrong(file, cache))]
    with capsys.disabled():
        print(f"\n{len(there)} of {len(real_files())} real files are in {cache}")
    assert not wrong, "\n".join(wrong)


def _wrong(file: RealFile, cache: Path) -> str:
    path = file.below(cache)
    if hashlib.sha256(path.read_bytes()).hexdigest() != file.sha256:
        return f"{path} is not the file that the list names; remove it and fetch it again"
    try:
        read(file.kind, path)
    except SpecError as error:
        if file.defect is None:
            return f"{path} should parse: {error}"
        return "" if file.defect in str(error) and error.fields["file"] == str(path) else f"{path}: {error}"
    return f"{path} should be refused: {file.defect}" if file.defect else ""


@pytest.mark.parametrize("kind", sorted(path.stem for path in SHAPES.iterdir()))
def test_a_minimal_file_of_each_kind_is_understood(kind: str) -> None:
    if kind not in REFUSED:
        read(kind, SHAPES / f"{kind}.yml")
        return
    with pytest.raises(SpecError, match=REFUSED[kind]) as caught:
        read(kind, SHAPES / f"{kind}.yml")
    assert (caught.value.fields["line"], caught.value.fields["field"]) == (2, "type")


def test_there_is_a_minimal_file_for_each_kind_that_is_read() -> None:
    assert {path.stem for path in SHAPES.iterdir()} | {"compute", "sparkJob"} == set(READERS)
