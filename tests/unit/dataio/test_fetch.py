"""The process that fetches items to a node."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from hpcbatch.dataio.fetch import Fetcher
from hpcbatch.records.job import RemotePart
from hpcbatch.records.plan import pack_manifest, parse_manifest


class Place:
    """Items whose names say what becomes of them."""

    def get_file(self, source: str, target: str, callback: Any) -> None:
        if source.endswith("gone"):
            raise FileNotFoundError(source)
        Path(target).write_bytes(b"content")


def test_a_mini_batch_of_which_an_item_is_gone_leaves_nothing_on_the_node(tmp_path: Path) -> None:
    """Failures of many mini-batches must not fill the disk of the node."""
    names = [b"a", b"b/gone", b"c", b"d", b"e", b"f"]
    manifest = parse_manifest(pack_manifest(names, root="s3://data/", mini_batch_size=3, stamps=[b"7 "] * 6))
    said: list[dict[str, Any]] = []
    fetcher = Fetcher(RemotePart("s3", "data/"), manifest, tmp_path, said.append)
    fetcher._place = Place()
    with ThreadPoolExecutor(2) as threads:
        fetcher.fetch(0, threads)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
        fetcher.fetch(1, threads)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["d", "e", "f"]
    assert said[0]["error"]["type"] == "ItemGone"
    assert (said[1]["mini_batch"], said[1]["bytes"]) == (1, 21)
