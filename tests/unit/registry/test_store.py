"""Streams: what is committed stays, what is torn is passed over, and of two writers one is told."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict, FilesystemError, SpecError
from hpcbatch.ids import canonical, sha256
from hpcbatch.registry import store
from hpcbatch.registry.store import Registry, Revision, Stream


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Registry(tmp_path).stream("endpoints", "heart")


def _revise(path: Path, **changes: Any) -> None:
    """Rewrite a revision as somebody who knows the checksum rule would."""
    found = {**json.loads(path.read_bytes()), **changes}
    found.pop("sha256")
    path.chmod(0o644)
    path.write_bytes(canonical({**found, "sha256": sha256(canonical(found))}))


def test_a_stream_begins_empty_and_grows_densely(stream: Stream) -> None:
    assert (stream.head(), stream.latest(), list(stream.revisions())) == (None, None, [])
    for number in range(1, 4):
        written = stream.append({"n": number}, op="create", expected=number - 1)
        assert written == stream.latest()
    assert [one.number for one in stream.revisions()] == [3, 2, 1]
    assert sorted(os.listdir(stream.folder)) == ["r00000001.json", "r00000002.json", "r00000003.json"]


def test_a_revision_is_read_only_and_chained_to_the_one_before(stream: Stream) -> None:
    first = stream.append({"n": 1}, op="create", expected=0)
    second = stream.append({"n": 2}, op="update", expected=1)
    found = json.loads(second.path.read_bytes())
    assert stat.S_IMODE(second.path.stat().st_mode) & 0o222 == 0
    assert found["previous_sha256"] == first.sha256
    assert set(found) == {"schema", "revision", "previous_sha256", "op", "author", "created", "document", "sha256"}


@pytest.mark.parametrize("expected", [0, 2, 7])
def test_a_writer_that_looked_at_another_revision_is_told(stream: Stream, expected: int) -> None:
    stream.append({}, op="create", expected=0)
    with pytest.raises(Conflict, match="heart"):
        stream.append({}, op="update", expected=expected)
    assert len(os.listdir(stream.folder)) == 1


def test_a_deletion_is_a_revision_too(stream: Stream, tmp_path: Path) -> None:
    stream.append({"n": 1}, op="create", expected=0)
    stream.append(None, op="delete", expected=1)
    head = stream.head()
    assert stream.latest() is None
    assert head is not None
    assert (head.op, head.document, head.number) == ("delete", None, 2)
    assert Registry(tmp_path).names("endpoints") == []
    assert stream.update(lambda before: {"before": before}, "create").document == {"before": None}
    assert Registry(tmp_path).names("endpoints") == ["heart"]


def test_update_hands_out_a_copy(stream: Stream) -> None:
    stream.append({"tags": {"a": "b"}}, op="create", expected=0)

    def change(before: dict[str, Any] | None) -> dict[str, Any]:
        assert before is not None
        before["tags"]["a"] = "c"
        return before

    assert stream.update(change, "update").document == {"tags": {"a": "c"}}
    assert [one.document for one in stream.revisions()] == [{"tags": {"a": "c"}}, {"tags": {"a": "b"}}]


def test_a_writer_that_loses_every_race_is_told_and_writes_nothing(stream: Stream) -> None:
    def overtaken(before: dict[str, Any] | None) -> dict[str, Any]:
        head = stream.head()
        stream.append({"by": "the other"}, op="create", expected=head.number if head else 0)
        return {"by": "me"}

    with pytest.raises(Conflict):
        stream.update(overtaken, "update")
    assert {one.document["by"] for one in stream.revisions() if one.document} == {"the other"}


def test_a_writer_that_sees_an_old_listing_is_told(stream: Stream) -> None:
    """The link is what decides, not the listing: here the number is taken between the two."""
    real = stream.append({"n": 1}, op="create", expected=0)

    class Behind(Stream):
        def _numbers(self) -> list[int]:
            return []

    with pytest.raises(Conflict):
        Behind(stream.folder, stream.name).append({"n": "mine"}, op="create", expected=0)
    assert stream.latest() == real


def test_a_damaged_newest_revision_falls_back_and_warns(stream: Stream, caplog: pytest.LogCaptureFixture) -> None:
    stream.append({"n": 1}, op="create", expected=0)
    newest = stream.append({"n": 2}, op="update", expected=1).path
    whole = newest.read_bytes()
    newest.chmod(0o644)
    damaged = [whole[:length] for length in range(len(whole) - 1)]
    damaged += [whole[:at] + bytes([whole[at] ^ (1 << at % 8)]) + whole[at + 1 :] for at in range(len(whole))]
    for content in damaged:
        newest.write_bytes(content)
        caplog.clear()
        latest = stream.latest()
        assert latest is not None
        assert latest.document == {"n": 1}, content
        assert "damaged revision of endpoint heart" in caplog.text
    assert [one.number for one in stream.revisions()] == [1]
    third = stream.update(lambda before: {"n": 3, "before": before}, "update")
    assert (third.number, third.document) == (3, {"n": 3, "before": {"n": 1}})


@pytest.mark.parametrize(
    "content",
    [
        b"[]",
        b"null",
        b"[" * 200_000,
        b"\xff\xfe",
        b"1" * 10_000,
        b'{"schema":"hpcbatch.registry/1"}',
        b'{"sha256":null}',
        b'{"a":"\\ud800","sha256":"x"}',
        b"x" * (store.MAX_REVISION_BYTES + 1),
    ],
    ids=lambda content: repr(content[:20]),
)
def test_a_file_that_is_no_revision_is_passed_over(stream: Stream, content: bytes) -> None:
    first = stream.append({"n": 1}, op="create", expected=0)
    (stream.folder / "r00000002.json").write_bytes(content)
    assert stream.latest() == first


@pytest.mark.parametrize("change", [{"revision": 7}, {"document": []}, {"schema": "somebody.else/1"}])
def test_a_revision_under_a_number_or_schema_that_is_not_its_own_is_passed_over(
    stream: Stream, change: dict[str, Any]
) -> None:
    first = stream.append({"n": 1}, op="create", expected=0)
    _revise(stream.append({"n": 2}, op="update", expected=1).path, **change)
    assert stream.latest() == first


def test_a_revision_of_a_newer_hpcbatch_is_refused_not_passed_over(stream: Stream) -> None:
    _revise(stream.append({"n": 1}, op="create", expected=0).path, schema="hpcbatch.registry/2")
    with pytest.raises(SpecError, match="newer hpcbatch"):
        stream.latest()


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def _dangling(path: Path) -> None:
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize("make", [_fifo, _socket, _dangling, Path.mkdir])
def test_what_is_no_plain_file_neither_hangs_nor_hides_the_stream(stream: Stream, make: Any) -> None:
    first = stream.append({"n": 1}, op="create", expected=0)
    make(stream.folder / "r00000099.json")
    assert stream.latest() == first
    assert stream.update(lambda before: {"n": 2}, "update").document == {"n": 2}
    assert stream.update(lambda before: {"n": 3}, "update").document == {"n": 3}


def test_a_revision_that_was_cleaned_away_after_it_was_listed_is_passed_over(stream: Stream) -> None:
    class Stale(Stream):
        def _numbers(self) -> list[int]:
            return [2, 1]

    first = stream.append({"n": 1}, op="create", expected=0)
    assert Stale(stream.folder, stream.name).latest() == first


def test_a_stray_file_beside_the_streams_is_no_stream(stream: Stream, tmp_path: Path) -> None:
    stream.append({}, op="create", expected=0)
    (stream.folder.parent / "README").write_text("hello")
    (stream.folder.parent / "not a name").mkdir()
    (stream.folder / "notes.txt").write_text("hello")
    assert Registry(tmp_path).names("endpoints") == ["heart"]


def test_a_stream_with_too_many_revisions_says_which_file_to_look_at(stream: Stream) -> None:
    stream.append({}, op="create", expected=0)
    junk = stream.folder / f"r{store.MAX_REVISIONS:08d}.json"
    junk.write_text("junk")
    with pytest.raises(FilesystemError, match="revisions") as caught:
        stream.update(lambda before: {}, "update")
    assert str(junk) in caught.value.hint


def test_a_document_that_is_too_large_is_refused(stream: Stream) -> None:
    with pytest.raises(SpecError, match="bytes"):
        stream.append({"text": "x" * store.MAX_REVISION_BYTES}, op="create", expected=0)
    assert not stream.folder.exists()


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "../up", "a\0b", "a b", "-rf", ".tmp-x", "a..b", "x" * 300, "ä"]
)
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError):
        Registry(tmp_path).stream("endpoints", name)


def test_random_names_never_leave_the_registry(tmp_path: Path) -> None:
    chance = random.Random(7)
    letters = "abZ09._-/\\ \n\0\t~$%#'\"äß\ud800"
    registry = Registry(tmp_path)
    for _ in range(2000):
        name = "".join(chance.choice(letters) for _ in range(chance.randint(0, 8)))
        try:
            folder = registry.stream("endpoints", name).folder
        except SpecError:
            continue
        assert os.path.normpath(folder) == str(tmp_path / "registry" / "endpoints" / name)


def test_the_author_is_the_owner_of_the_file_not_what_the_document_says(stream: Stream) -> None:
    path = stream.append({"n": 1}, op="create", expected=0).path
    _revise(path, author="alice")
    latest = stream.latest()
    assert latest is not None
    assert latest.author_uid == path.stat().st_uid
    assert latest.author != "alice"


def test_an_owner_without_a_name_is_shown_by_number(tmp_path: Path) -> None:
    assert Revision(1, "create", "", {}, "", tmp_path, 3_999_999_999 % 2**31).author == str(3_999_999_999 % 2**31)


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that everybody may enter, and an identity that is not root."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)
        os.seteuid(0)


def test_a_revision_that_may_not_be_read_is_an_error_not_an_older_state(as_nobody: Path) -> None:
    stream = Registry(as_nobody).stream("endpoints", "heart")
    stream.append({"n": 1}, op="create", expected=0)
    stream.append({"n": 2}, op="update", expected=1).path.chmod(0o000)
    os.seteuid(65534)
    with pytest.raises(FilesystemError, match="Permission denied"):
        stream.latest()


def test_a_workspace_that_may_not_be_written_is_an_error_with_a_hint(as_nobody: Path) -> None:
    os.seteuid(65534)
    with pytest.raises(FilesystemError) as caught:
        Registry(as_nobody).stream("endpoints", "heart").append({}, op="create", expected=0)
    assert "permission" in caught.value.hint


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path: Path) -> None:
    loop = tmp_path / "registry"
    loop.symlink_to(loop)
    with pytest.raises(FilesystemError):
        Registry(tmp_path).stream("endpoints", "heart").latest()
    with pytest.raises(FilesystemError):
        Registry(tmp_path).names("endpoints")


def test_folders_of_a_shared_workspace_stay_shared(tmp_path: Path) -> None:
    shared, private = tmp_path / "shared", tmp_path / "private"
    shared.mkdir()
    shared.chmod(0o3775)
    private.mkdir(mode=0o700)
    for root, mode in ((shared, 0o3775), (private, 0o755)):
        stream = Registry(root).stream("deployments", "heart", "blue")
        stream.append({}, op="create", expected=0)
        assert stat.S_IMODE(stream.folder.stat().st_mode) == mode
        assert stat.S_IMODE(stream.folder.parent.stat().st_mode) == mode


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_revision_is_readable_for_the_team_whatever_the_umask(stream: Stream, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = stream.append({}, op="create", expected=0).path
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
