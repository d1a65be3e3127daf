"""Many writers at once, and writers that are killed: nothing lost, nothing torn."""

from __future__ import annotations

import logging
import os
import random
import signal
import time
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import Conflict
from hpcbatch.fs.publish import is_temp
from hpcbatch.registry.store import Registry

WRITERS = 16
UPDATES = 50


def _write(root: Path, writer: int, results: Any) -> None:
    mine = Registry(root).stream("endpoints", "shared")
    told = 0
    for turn in range(UPDATES):

        def add(before: dict[str, Any] | None, entry: str = f"{writer}:{turn}") -> dict[str, Any]:
            return {"entries": [*(before or {"entries": []})["entries"], entry]}

        try:
            mine.update(add, "add")
        except Conflict:
            told += 1
    results.put((writer, told))


def _read(root: Path, stop: Any, results: Any) -> None:
    shared = Registry(root).stream("endpoints", "shared")
    problems: list[str] = []
    logging.getLogger("hpcbatch").addHandler(_Collect(problems))
    newest = rounds = 0
    while not stop.is_set():
        head = shared.head()
        number = head.number if head else 0
        if number < newest:
            problems.append(f"went back from {newest} to {number}")
        if head and head.document and len(head.document["entries"]) != number:
            problems.append(f"revision {number} has {len(head.document['entries'])} entries")
        newest, rounds = number, rounds + 1
        time.sleep(0.002)  # leaves the two cores of a small machine to the writers
    results.put((rounds, problems))


class _Collect(logging.Handler):
    def __init__(self, into: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.into = into

    def emit(self, record: logging.LogRecord) -> None:
        self.into.append(record.getMessage())


def test_sixteen_writers_lose_nothing_and_readers_never_see_a_torn_revision(tmp_path: Path) -> None:
    context = get_context("fork")
    stop, written, seen = context.Event(), context.Queue(), context.Queue()
    writers = [context.Process(target=_write, args=(tmp_path, n, written)) for n in range(WRITERS)]
    readers = [context.Process(target=_read, args=(tmp_path, stop, seen)) for _ in range(2)]
    for process in [*readers, *writers]:
        process.start()
    told = sum(written.get(timeout=600)[1] for _ in writers)
    stop.set()
    reports = [seen.get(timeout=600) for _ in readers]
    for process in [*readers, *writers]:
        process.join()
        assert process.exitcode == 0

    shared = Registry(tmp_path).stream("endpoints", "shared")
    revisions = list(shared.revisions())
    assert [one.number for one in revisions] == list(range(len(revisions), 0, -1))
    assert all(one.document for one in revisions)
    entries = (revisions[0].document or {})["entries"]
    assert len(entries) == len(set(entries)) == len(revisions) == WRITERS * UPDATES - told
    for writer in range(WRITERS):
        turns = [int(entry.split(":")[1]) for entry in entries if entry.startswith(f"{writer}:")]
        assert turns == sorted(turns)
    assert all(rounds > 10 and problems == [] for rounds, problems in reports)
    assert os.listdir(shared.folder) == [name for name in os.listdir(shared.folder) if not is_temp(name)]


def _write_forever(root: Path) -> None:
    mine = Registry(root).stream("endpoints", "shared")
    while True:
        mine.update(lambda before: {"n": (before or {"n": 0})["n"] + 1, "text": "x" * 20_000}, "add")


@pytest.mark.parametrize("seed", range(12))
def test_a_killed_writer_leaves_at_most_temporary_names(tmp_path: Path, seed: int) -> None:
    shared = Registry(tmp_path).stream("endpoints", "shared")
    process = get_context("fork").Process(target=_write_forever, args=(tmp_path,))
    process.start()
    while shared.head() is None:
        time.sleep(0.001)
    time.sleep(random.Random(seed).random() * 0.05)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    numbers = [one.number for one in shared.revisions()]
    plain = [name for name in os.listdir(shared.folder) if not is_temp(name)]
    assert numbers == list(range(len(plain), 0, -1))
    assert [(one.document or {})["n"] for one in shared.revisions()] == numbers
    assert shared.update(lambda before: {"n": (before or {})["n"] + 1}, "add").number == numbers[0] + 1
