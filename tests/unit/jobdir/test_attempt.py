"""One attempt's files: bytes first, record second, one owner, nothing after a failure."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpcbatch.jobdir import attempt as attempt_module
from hpcbatch.jobdir.attempt import AttemptWriter
from hpcbatch.jobdir.ledgers import AttemptFiles, attempts_in
from hpcbatch.records.ledger import FLAG_FINAL, RECORD_BYTES, Kind

JOB = bytes(range(16))


def writer_in(folder: Path, epoch: int = 1) -> AttemptWriter:
    return AttemptWriter(folder, job=JOB, group=4, epoch=epoch, about={"host": "n1"})


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[AttemptWriter]:
    one = writer_in(tmp_path)
    yield one
    one.close()


def found(folder: Path) -> AttemptFiles:
    (one,) = attempts_in(folder, 0, 4)
    return one


def test_a_new_attempt_describes_itself_and_is_durable(writer: AttemptWriter, tmp_path: Path) -> None:
    """OPEN is the first record; its JSON is readable at the start of the segment."""
    one = found(tmp_path)
    (opened,) = one.scan(JOB)
    assert (opened.kind, opened.offset) == (Kind.OPEN, 0)
    assert one.reason(opened) == {"host": "n1"}
    assert json.loads(one.segment.read_bytes()) == {"host": "n1"}
    assert (one.epoch, one.nonce, one.group) == (1, writer.nonce, 4)
    assert one.segment.stat().st_mode & 0o777 == one.ledger.stat().st_mode & 0o777 == 0o600


def test_each_kind_of_record_is_read_back(writer: AttemptWriter, tmp_path: Path) -> None:
    """In the order in which it was written, with its payload."""
    writer.start(7)
    writer.commit(7, b"a,b\n", rows=1, failed_items=0, run_ms=5, then_start=8)
    writer.fail(8, {"message": "no"}, final=False, failed_items=0)
    writer.fail(8, {"message": "no more"}, final=True, failed_items=2)
    writer.commit(9, memoryview(b""), rows=0, failed_items=1, run_ms=5)
    writer.note(Kind.RELEASE)
    writer.sync()
    writer.note(Kind.END, {"completed": 2})
    one = found(tmp_path)
    records = list(one.scan(JOB))
    kinds = "OPEN START COMMIT START FAIL FAIL COMMIT RELEASE SYNC END"
    assert [Kind(r.kind).name for r in records] == kinds.split()
    assert [r.mini_batch for r in records[1:7]] == [7, 7, 8, 8, 8, 9]
    assert [one.payload(r) for r in records if r.kind == Kind.COMMIT] == [b"a,b\n", b""]
    assert [(one.reason(r)["message"], r.flags) for r in records if r.kind == Kind.FAIL] == [
        ("no", 0),
        ("no more", FLAG_FINAL),
    ]
    assert one.reason(records[-1]) == {"completed": 2}


def test_when_a_record_is_there_its_payload_is_there(writer: AttemptWriter, tmp_path: Path) -> None:
    """At every moment: also for whoever reads between any two writes."""
    one = found(tmp_path)
    for number in range(20):
        writer.commit(number, b"x" * number, rows=1, failed_items=0, run_ms=0)
        assert all(one.payload(r) is not None for r in one.scan(JOB))


def test_two_attempts_of_one_epoch_never_share_a_file(tmp_path: Path) -> None:
    """A requeued array task beside its zombie: the nonce keeps them apart."""
    first, second = writer_in(tmp_path), writer_in(tmp_path)
    assert first.stem != second.stem
    assert len(attempts_in(tmp_path, 0, 4)) == 2
    first.close()
    second.close()


def test_attempts_are_found_in_the_order_of_preference(tmp_path: Path) -> None:
    """Epoch, nonce; whatever else lies there is passed over."""
    for epoch in (2, 1, 10, 1):
        writer_in(tmp_path, epoch).close()
    (tmp_path / "e0001-short.led").touch()
    (tmp_path / ".tmp-e0001").touch()
    ordered = attempts_in(tmp_path, 0, 4)
    assert [one.epoch for one in ordered] == [1, 1, 2, 10]
    assert [(one.epoch, one.nonce) for one in ordered] == sorted((one.epoch, one.nonce) for one in ordered)
    assert all(one.ledger.exists() and one.segment.exists() for one in ordered)


def test_a_full_disk_poisons_the_attempt(
    writer: AttemptWriter, tmp_path: Path, file_limit: Callable[[int], None]
) -> None:
    """What was committed before stays readable; the torn write is no record; nothing more is ever appended."""
    writer.commit(1, b"y" * 100, rows=1, failed_items=0, run_ms=0)
    file_limit(2 * RECORD_BYTES + 50)
    with pytest.raises(OSError, match="large") as caught:
        writer.commit(2, b"z" * 200, rows=1, failed_items=0, run_ms=0)
    assert caught.value.errno == errno.EFBIG
    assert writer.poisoned
    for call in (writer.sync, lambda: writer.start(3), lambda: writer.note(Kind.END)):
        with pytest.raises(RuntimeError, match="never after a failure"):
            call()
    one = found(tmp_path)
    records = list(one.scan(JOB))
    assert [(r.kind, r.mini_batch) for r in records] == [(Kind.OPEN, 0), (Kind.COMMIT, 1)]
    assert one.payload(records[1]) == b"y" * 100


def test_a_failed_fsync_is_never_tried_again(writer: AttemptWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may have dropped the pages: a second fsync that succeeds would be a lie."""
    calls = []

    def broken(fd: int) -> None:
        calls.append(fd)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        writer.sync()
    with pytest.raises(RuntimeError):
        writer.sync()
    assert len(calls) == 1


def test_a_fork_can_neither_write_nor_close_the_files(writer: AttemptWriter, tmp_path: Path) -> None:
    """A DataLoader's child inherits the object, not the files."""
    pid = os.fork()
    if pid == 0:  # pragma: no cover - the child of the test
        code = 1
        try:
            writer.close()
            writer.start(1)
        except RuntimeError:
            code = 0 if writer._segment < 0 else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    writer.start(2)
    assert [r.mini_batch for r in found(tmp_path).scan(JOB) if r.kind == Kind.START] == [2]


def test_after_a_fork_the_files_are_closed_in_the_child(writer: AttemptWriter) -> None:
    """What the child's handler does, seen from inside; a second time it has nothing left to do."""
    fds = (writer._segment, writer._ledger)
    writer._forget()
    writer._forget()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def test_a_closed_attempt_is_not_written(writer: AttemptWriter) -> None:
    """Closing twice is fine; writing afterwards is a mistake of ours and says so."""
    writer.close()
    writer.close()
    with pytest.raises(RuntimeError):
        writer.start(1)


def test_an_error_of_close_is_raised_and_both_files_are_closed(writer: AttemptWriter) -> None:
    """A quota may be checked at close only."""
    ledger = writer._ledger
    os.close(writer._segment)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ledger)


def test_a_sync_is_due_by_bytes_by_time_or_when_told(writer: AttemptWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing waits for one, each minute as a sign of life; the interval follows the time that fsync takes."""
    now = [1000.0]
    monkeypatch.setattr(attempt_module, "SYNC_BYTES", 1000)
    writer.sync()
    assert not writer.sync_due()
    assert attempt_module.SYNC_MAX_S < writer.next_sync_s() <= attempt_module.HEARTBEAT_S
    writer.commit(1, b"x", rows=1, failed_items=0, run_ms=0)
    assert not writer.sync_due()
    assert 0 < writer.next_sync_s() <= attempt_module.SYNC_MAX_S
    writer.commit(2, b"x" * 1000, rows=1, failed_items=0, run_ms=0)
    assert writer.sync_due()
    writer.sync()
    assert not writer.sync_due()
    writer.fail(3, {}, final=True, failed_items=1)
    writer.sync_each = True
    assert writer.sync_due()
    writer.sync_each = False
    monkeypatch.setattr(attempt_module.time, "monotonic", lambda: now[0])
    now[0] += writer._synced_at
    assert writer.sync_due()
    assert writer.next_sync_s() == 0
    writer.sync()
    now[0] += attempt_module.HEARTBEAT_S
    assert writer.sync_due()


def test_the_sync_interval_keeps_fsync_at_a_twentieth(writer: AttemptWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two and thirty seconds, following the measured time of fsync."""
    now = [0.0]
    took_s = [0.125]
    monkeypatch.setattr(attempt_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(os, "fsync", lambda fd: now.__setitem__(0, now[0] + took_s[0]))
    intervals = []
    for took_s[0] in [0.25] * 40 + [60.0] + [0.0] * 60:  # two fsyncs in each sync
        writer.sync()
        writer.commit(1, b"x", rows=1, failed_items=0, run_ms=0)
        intervals.append(writer.next_sync_s())
    assert intervals[39] == pytest.approx(20 * 0.5, rel=0.01)
    assert intervals[40] == attempt_module.SYNC_MAX_S
    assert intervals[-1] == attempt_module.SYNC_MIN_S


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """The caller makes the folder; nothing is left behind."""
    with pytest.raises(FileNotFoundError):
        writer_in(tmp_path / "absent")
    assert os.listdir(tmp_path) == []
