"""Any history of attempts, kills, power cuts, zombies, stale views, rotten bits and merges ends in one output."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule

from hpcbatch.errors import HpcBatchError
from hpcbatch.fs import probe, scan
from hpcbatch.jobdir.ledgers import all_attempts
from hpcbatch.merge import entry
from hpcbatch.merge.entry import merge_job
from hpcbatch.records.ledger import Kind
from tests.faults.filesystem import ERRORS, SHORT, between, faulty
from tests.faults.finishing import attempt, check, finish
from tests.unit.jobdir.sealed import Size, flip, seal

GROUPS = 3
SMALL = Size(items=18, mini_batch_size=2, groups=GROUPS)


class PausedMerge:
    """A merge in a thread of its own that makes one call of the filesystem for each `step`."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._may, self._did = threading.Semaphore(0), threading.Semaphore(0)
        self.over = self._freed = False
        self._thread = threading.Thread(target=self._main, args=(run,), daemon=True)
        self._thread.start()

    def step(self) -> None:
        if not self.over:
            self._may.release()
            self._did.acquire()

    def go_on(self) -> None:
        """To its end."""
        self._freed = True
        self._may.release()
        self._thread.join(300)
        assert not self._thread.is_alive()

    def _main(self, run: Callable[[], object]) -> None:
        self._may.acquire()
        with between(self._around), contextlib.suppress(OSError, HpcBatchError):
            run()
        self.over = True
        self._did.release()

    def _around(self, _: str, real: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if not self._freed:
            self._did.release()
            self._may.acquire()
        return real(*arguments, **options)


class Histories(RuleBasedStateMachine):
    """The attempts of one job: each is a process that goes on, stands still, or is gone."""

    attempts = Bundle("attempts")

    @initialize()
    def begin(self) -> None:
        self.patches = contextlib.ExitStack()
        self.patches.enter_context(mock.patch.object(probe, "visibility_timeout_s", return_value=0.0))
        for budget in ("MAX_ROUNDS", "MAX_BARREN_ROUNDS"):  # any number of merges in a row is a history too
            self.patches.enter_context(mock.patch.object(entry, budget, 10_000))
        self.folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
        self.job = seal(self.folder / "job", SMALL)
        self.running: dict[int, Iterator[str]] = {}
        self.paused: list[PausedMerge] = []
        self.count = self.rot = 0

    @rule(target=attempts, group=st.integers(0, GROUPS - 1))
    def start(self, group: int) -> int:
        """An array task starts: the first one, a requeued one, or a twin."""
        self.count += 1
        rounds = self.job.rounds()
        last = rounds[-1]
        self.running[self.count] = attempt(self.job, last, group % self.job.plan(last).groups)
        return self.count

    @rule(which=attempts, steps=st.integers(1, 9))
    def work(self, which: int, steps: int) -> None:
        for _ in range(steps):
            if next(self.running.get(which, iter(())), "over") == "over":
                self.running.pop(which, None)

    @rule(which=attempts, call=st.integers(0, 12), error=st.sampled_from((*ERRORS, SHORT)))
    def work_with_a_fault(self, which: int, call: int, error: int) -> None:
        if which in self.running:
            with faulty({call: error}), contextlib.suppress(OSError, RuntimeError, HpcBatchError):
                next(self.running[which], None)
                return
            self.kill(which)

    @rule(which=attempts)
    def kill(self, which: int) -> None:
        """The process ends where it stands; what it wrote reaches the disk."""
        if which in self.running:
            self.running.pop(which).close()  # type: ignore[attr-defined]

    @rule(which=attempts, share=st.floats(0, 1))
    def power_cut(self, which: int, share: float) -> None:
        """A node goes: of one segment, what came since the last sync is gone in part; the ledger may know of it."""
        self.kill(which)
        found = sorted(all_attempts(self.job.paths))
        if found:
            victim = found[which % len(found)]
            records = list(victim.scan(self.job.record.uuid_bytes))
            last = max((r.seq for r in records if r.kind == Kind.SYNC), default=0)
            synced = max((r.offset + r.length for r in records if r.seq < last), default=0)
            size = os.stat(victim.segment).st_size
            os.truncate(victim.segment, synced + int((size - synced) * share))

    # Counts what was asked for, and knows no verdict: files have random names, so the same choices may end in another
    # state, and hypothesis wants the same rules to be open then.
    @precondition(lambda self: self.rot < 2)
    @rule(which=st.integers(0, 99), at=st.floats(0, 0.999), bit=st.integers(0, 7), ledger=st.booleans())
    def rotten_bit(self, which: int, at: float, bit: int, ledger: bool) -> None:
        self.rot += 1
        found = sorted(all_attempts(self.job.paths))
        if found and self.job.verdict() is None:
            path = found[which % len(found)].ledger if ledger else found[which % len(found)].segment
            if size := os.stat(path).st_size:
                flip(path, int(at * size), bit)

    @rule()
    def merge(self) -> None:
        merge_job(self.job)

    @rule(call=st.integers(0, 60), error=st.sampled_from((*ERRORS, SHORT)))
    def merge_with_a_fault(self, call: int, error: int) -> None:
        with faulty({call: error}), contextlib.suppress(OSError, HpcBatchError):
            merge_job(self.job)

    @precondition(lambda self: len(self.paused) < 3)
    @rule()
    def merge_step_by_step(self) -> None:
        self.paused.append(PausedMerge(lambda: merge_job(self.job)))

    @precondition(lambda self: self.paused)
    @rule(which=st.integers(0, 2), steps=st.integers(1, 30))
    def step_a_merge(self, which: int, steps: int) -> None:
        for _ in range(steps):
            self.paused[which % len(self.paused)].step()

    @rule(hidden=st.integers(0, 3))
    def merge_with_a_stale_view(self, hidden: int) -> None:
        """Another node's listing does not show the newest attempts yet."""
        newest = {a.ledger.name for a in sorted(all_attempts(self.job.paths), key=lambda a: a.epoch)[-hidden or None :]}
        real = scan.names
        with mock.patch.object(scan, "names", lambda path: [n for n in real(path) if n not in newest or not hidden]):
            merge_job(self.job)

    @invariant()
    def what_is_published_is_whole(self) -> None:
        if hasattr(self, "job"):
            check(self.job)

    def teardown(self) -> None:
        try:
            for merge in self.paused:
                merge.go_on()
            for which in list(self.running):
                self.work(which, 100)  # zombies finish too
            check(self.job)
            finish(self.job)
        finally:
            shutil.rmtree(self.folder)
            self.patches.close()


@pytest.mark.slow
class TestHistories(Histories.TestCase):  # type: ignore[misc,name-defined]
    settings = settings(
        max_examples=500, stateful_step_count=60, deadline=None, derandomize=False, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


def test_a_paused_merge_makes_no_call_before_it_may(tmp_path: Path) -> None:
    merge = PausedMerge(lambda: os.mkdir(tmp_path / "a") or os.mkdir(tmp_path / "b"))
    assert not list(tmp_path.iterdir())
    merge.step()
    merge.step()
    assert len(list(tmp_path.iterdir())) <= 1
    merge.go_on()
    assert len(list(tmp_path.iterdir())) == 2
