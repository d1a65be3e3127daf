"""Putting a file into another place: one of all who do wins, and the others are told."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpcbatch.dataio import put
from hpcbatch.dataio.put import put_once
from hpcbatch.dataio.remote import open_place
from hpcbatch.errors import Conflict
from hpcbatch.records.job import RemotePart
from tests.servers import S3

pytestmark = pytest.mark.slow


def source(folder: Path, content: bytes) -> Path:
    path = folder / f"source-{abs(hash(content))}"
    path.write_bytes(content)
    return path


@pytest.fixture(params=["s3", "file"])
def part(request: pytest.FixtureRequest, tmp_path: Path) -> RemotePart:
    if request.param == "s3":
        s3: S3 = request.getfixturevalue("s3")
        name = f"put-{abs(hash(str(tmp_path))):x}"
        s3.bucket(name)
        return RemotePart("s3", f"{name}/out/")
    return RemotePart("file", f"{tmp_path}/there/")


def names(part: RemotePart) -> list[str]:
    return sorted(str(one).rpartition("/")[2] for one in open_place(part.protocol, {}).find(part.root.rstrip("/")))


def content(part: RemotePart) -> bytes:
    return bytes(open_place(part.protocol, {}).cat_file(f"{part.root}x.csv"))


def test_of_four_jobs_with_one_output_address_exactly_one_wins(part: RemotePart, tmp_path: Path) -> None:
    """The others say so, and nothing but the winner's bytes is left there."""
    sources = [source(tmp_path, b"%d" % number * 1000) for number in range(4)]

    def one(number: int) -> str:
        try:
            put_once(sources[number], part, "x.csv", owner=f"{number:032x}", wait_s=600)
        except Conflict as error:
            return error.message
        return f"won {number}"

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(one, range(4)))
    told = [words for words in said if "exists and holds something else" in words]
    [winner] = [int(words.removeprefix("won ")) for words in said if words.startswith("won ")]
    assert len(told) == 3
    assert content(part) == sources[winner].read_bytes()
    assert names(part) == ["x.csv"]


def test_of_merges_of_one_job_all_are_done(part: RemotePart, tmp_path: Path) -> None:
    """They have the same bytes and the same owner: none waits for another, and none is told of a conflict."""
    path = source(tmp_path, b"rows" * 1000)
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda _: put_once(path, part, "x.csv", owner="a" * 32), range(4)):
            pass
    assert content(part) == path.read_bytes()
    assert names(part) == ["x.csv"]


def test_the_claim_of_a_killed_job_is_named_and_its_own_merge_takes_it_up(part: RemotePart, tmp_path: Path) -> None:
    place = open_place(part.protocol, {})
    place.makedirs(part.root, exist_ok=True)
    place.pipe_file(f"{part.root}x.csv.claim-{'a' * 32}-1", b"")
    path = source(tmp_path, b"rows")
    with pytest.raises(Conflict, match=r"is being written by another job(.|\n)*remove 'x\.csv\.claim-aaaa"):
        put_once(path, part, "x.csv", owner="b" * 32, wait_s=0.0)
    assert names(part) == [f"x.csv.claim-{'a' * 32}-1"]
    put_once(path, part, "x.csv", owner="a" * 32)
    assert names(part) == ["x.csv"]


def test_somebody_who_is_no_job_and_was_faster_is_not_overwritten(s3: S3, tmp_path: Path) -> None:
    """After we looked: S3 itself refuses, whatever its object holds."""
    s3.bucket("faster", {"x.csv": b"theirs"})
    place = open_place("s3", {})
    put._put_if_absent(place, source(tmp_path, b"ours"), "faster/x.csv")
    assert s3.read("faster", "x.csv") == b"theirs"
