"""Listing other places: every item once, in the order of local folders, with what tells a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.dataio.addresses import parse_address
from hpcbatch.dataio.inputs import Items, list_address, list_items
from hpcbatch.errors import FilesystemError, SpecError
from tests.servers import S3, Web


def listed(text: str, kind: str = "uri_folder", **options: object) -> Items:
    return list_address(parse_address(text, field="input", listed=kind == "uri_folder"), kind, options)


def test_a_bucket_is_listed_as_a_folder_is(s3: S3, tmp_path: Path) -> None:
    """The same names give the same order here and there; what only marks a folder is no item."""
    names = ["10", "9", "B", "a/x", "a/y/z", "a.b", "a.b.c", "b", "é", "deep/er/est.csv", "with blank+%.csv"]
    s3.bucket("order", {f"in/{name}": b"1" for name in names} | {"in/a/": b"", "other/x": b""})
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    there, here = listed("s3://order/in"), list_items(str(tmp_path), "uri_folder")
    assert there.names == here.names
    assert there.root == "s3://order/in/"
    assert there.remote is not None
    assert (there.remote.protocol, there.remote.root) == ("s3", "order/in/")
    assert there.stamps is not None
    assert all(stamp.startswith(b'1 "') for stamp in there.stamps)


def test_a_listing_goes_over_many_pages(s3: S3) -> None:
    """S3 answers with a thousand keys at a time."""
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.s3.models import s3_backends

    s3.bucket("pages")
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for number in range(2500):
        backend.put_object("pages", f"d/{number:05d}.txt", b"x")
    assert listed("s3://pages/d/").names == [b"%05d.txt" % number for number in range(2500)]


def test_a_pattern_takes_what_it_matches(s3: S3) -> None:
    """As in a local folder; `**` is any number of folders, none included."""
    s3.bucket("globs", dict.fromkeys(("a.csv", "a.txt", "x/b.csv", "x/y/c.csv", "x/y/d.txt", ".h/e.csv"), b""))
    assert listed("s3://globs/**/*.csv").names == [b"a.csv", b"x/b.csv", b"x/y/c.csv"]
    assert listed("s3://globs/x/*").names == [b"b.csv", b"y/c.csv", b"y/d.txt"]
    with pytest.raises(SpecError, match="matches no file"):
        listed("s3://globs/*.parquet")


def test_one_object_is_one_item(s3: S3) -> None:
    s3.bucket("single", {"in/one.csv": b"12345"})
    items = listed("s3://single/in/one.csv", "uri_file")
    assert (items.root, items.names) == ("s3://single/in/", [b"one.csv"])
    assert (items.stamps or [])[0].startswith(b'5 "')
    with pytest.raises(SpecError, match=r"is a folder(.|\n)*--input-type uri_folder"):
        listed("s3://single/in", "uri_file")


@pytest.mark.parametrize("key", ["in//x", "in/../x", "in/./x"])
def test_keys_that_cannot_be_paths_are_refused_by_name(s3: S3, key: str, request: pytest.FixtureRequest) -> None:
    """The script gets a file of that name: `..` would leave the scratch folder."""
    bucket = f"strange{abs(hash(key))}"
    s3.bucket(bucket, {"in/good": b"", key: b""})
    with pytest.raises(SpecError, match="cannot be paths of files: '"):
        listed(f"s3://{bucket}/in")


def test_a_file_below_a_file_is_refused(s3: S3) -> None:
    s3.bucket("clash", {"in/a": b"", "in/a/b": b""})
    with pytest.raises(SpecError, match="'a/b'"):
        listed("s3://clash/in")


def test_a_place_that_is_not_there_says_so(s3: S3) -> None:
    s3.bucket("empty")
    with pytest.raises(SpecError, match="holds no file"):
        listed("s3://empty/nothing")
    with pytest.raises(SpecError, match="does not exist"):
        listed("s3://no-such-bucket/in")
    with pytest.raises(SpecError, match="does not exist"):
        listed("s3://empty/none.csv", "uri_file")


def test_a_place_that_does_not_answer_is_an_error_with_its_cause(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(FilesystemError, match=r"Cannot use 's3://bucket/in': .*127\.0\.0\.1"):
        listed("s3://bucket/in", config_kwargs={"retries": {"max_attempts": 1}})


def test_web_folders_that_the_server_lists(web: Web) -> None:
    """Nested, with names that need quoting; the index itself is no item."""
    for name in ("a.csv", "in/b c.csv", "in/deep/d%.csv"):
        (web.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (web.folder / name).write_text("x")
    items = listed(web.address)
    assert (items.root, items.names) == (f"{web.address}/", [b"a.csv", b"in/b c.csv", b"in/deep/d%.csv"])
    assert listed(f"{web.address}/in/*.csv").names == [b"b c.csv"]
    one = listed(f"{web.address}/in/b%20c.csv", "uri_file")
    assert (one.names, (one.stamps or [])[0].split(b" ")[0]) == ([b"b c.csv"], b"1")
    with pytest.raises(SpecError, match="does not exist"):
        listed(f"{web.address}/in/none.csv", "uri_file")


@pytest.mark.parametrize(
    ("text", "extra"),
    [
        ("gs://bucket/x", "gs"),
        ("abfs://c/x", "azure"),
        ("wasbs://c@acc.blob.core.windows.net/x", "azure"),
        ("sftp://host/x", "sftp"),
    ],
)
def test_a_library_that_is_missing_is_named_with_its_extra(text: str, extra: str) -> None:
    with pytest.raises(SpecError, match=rf"not installed here(.|\n)*pip install 'hpcbatch\[{extra}\]'"):
        listed(text)


def test_a_protocol_that_nobody_knows() -> None:
    with pytest.raises(SpecError, match="nonsense:// is not known"):
        listed("nonsense://x/y")
