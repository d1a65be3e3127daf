"""Which mini-batches of a job are done, from its ledgers alone."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from hpcbatch.jobdir.accounting import Accounting, AttemptTally, Spent, account
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.jobdir.ledgers import AttemptFiles, all_attempts
from hpcbatch.records.ledger import FLAG_FINAL, OF_INIT, Kind, Record
from hpcbatch.records.merge_plan import NO_SEGMENT, MergePlan, pack_merge_plan
from hpcbatch.records.plan import Range

_NOTHING, _FAILED, _COMMITTED = 0, 1, 2
MAX_REPORTS = 20
FEWER_ROWS = "fewer-rows"

Rejected = frozenset[tuple[str, int]]  # (segment file, offset) of payloads whose bytes turned out to be damaged


class Piece(NamedTuple):
    """Files that the script wrote, as they lie in a segment (`records.files`)."""

    segment: str
    offset: int
    length: int
    crc: int


_NO_FILES = Piece("", 0, 0, 0)


@dataclass
class Coverage:
    """One chosen result for each mini-batch; a COMMIT beats a FAIL, then the first attempt in the merge's order
    wins.
    """

    mini_batches: int
    states: bytearray
    segments: array[int]
    crcs: array[int]
    offsets: array[int]
    lengths: array[int]
    failed_items: array[int]
    rows: int = 0
    run_ms: int = 0
    attempts: int = 0
    released: int = 0  # attempts that noticed a preemption or their time limit
    duplicates: int = 0
    nondeterministic_duplicates: int = 0
    damaged_ledgers: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    failures: list[tuple[AttemptFiles, Record]] = field(default_factory=list)
    aborts: list[tuple[AttemptFiles, Record]] = field(default_factory=list)
    ended_groups: set[tuple[int, int]] = field(default_factory=set)  # (round, group) of which an attempt has its END
    last_wall_ms: int = 0
    longest_run_ms: int = 0  # of a mini-batch that was finished
    duplicate_ms: int = 0
    tallies: list[AttemptTally] = field(default_factory=list)

    written: array[int] = field(default_factory=lambda: array("Q"))  # (offset, length, crc) of files; empty if none
    written_by_init: list[Piece] = field(default_factory=list)

    def pieces(self) -> Iterator[Piece]:
        """The files of the chosen results, in input order."""
        for number in range(len(self.written) // 3):
            offset, length, crc = self.written[3 * number : 3 * number + 3]
            if length:
                yield Piece(self.files[self.segments[number]], offset, length, crc)

    def pieces_of_init(self) -> list[Piece]:
        """The files that init() wrote, of the attempts that have a chosen result, in the merge's order."""
        used = set(self.files)
        return [piece for piece in self.written_by_init if piece.segment in used]

    @property
    def output_bytes(self) -> int:
        """What is to be copied for the output."""
        return sum(self.lengths) + sum(self.written[1::3])

    @property
    def done(self) -> int:
        """How many mini-batches have a result, a final failure included."""
        return self.mini_batches - self.states.count(_NOTHING)

    @property
    def complete(self) -> bool:
        """Whether every mini-batch has a result."""
        return _NOTHING not in self.states

    @property
    def items_failed(self) -> int:
        """Failed items over the chosen results, as Azure ML counts them."""
        return sum(self.failed_items)

    def missing(self) -> list[Range]:
        """The mini-batches without a result, as ranges."""
        ranges: list[Range] = []
        at = self.states.find(_NOTHING)
        while at >= 0:
            stop = at
            while stop < self.mini_batches and self.states[stop] == _NOTHING:
                stop += 1
            ranges.append((at, stop))
            at = self.states.find(_NOTHING, stop)
        return ranges

    def items_done(self, job: JobDir) -> int:
        """How many items of *job*, whose coverage this is, have been run, failed ones included."""
        size, items = job.record.scoring.mini_batch_size, job.record.items
        if not size:
            count = job.manifest().item_count
            return sum(count(number) for number, state in enumerate(self.states) if state != _NOTHING)
        last_is_done = bool(self.mini_batches) and self.states[-1] != _NOTHING
        return self.done * size - (self.mini_batches * size - items if last_is_done else 0)

    def reports(self, limit: int = MAX_REPORTS) -> list[dict[str, Any]]:
        """Why items failed: tasks that gave up in init() first, then failed mini-batches in input order, then those
        with fewer rows than items.
        """
        gave_up = [{**attempt.reason(record), "group": attempt.group} for attempt, record in self.aborts[:limit]]
        found = [report for report in gave_up if report.get("kind") != "error_threshold"]
        chosen = {r.mini_batch: (a, r) for a, r in reversed(self.failures) if self.states[r.mini_batch] == _FAILED}
        for number in sorted(chosen)[: limit - len(found)]:
            attempt, record = chosen[number]
            found.append({"mini_batch": number, **attempt.reason(record)})
        return [*found, *islice(map(self._fewer_rows, self._with_fewer_rows()), max(0, limit - len(found)))]

    def _with_fewer_rows(self) -> Iterator[int]:
        """The mini-batches whose run() returned, and fewer rows than it got items."""
        failed = enumerate(self.failed_items) if any(self.failed_items) else ()
        return (number for number, items in failed if items and self.states[number] == _COMMITTED)

    def _fewer_rows(self, number: int) -> dict[str, Any]:
        words = f"run() returned fewer rows than it got files; failed items: {self.failed_items[number]}"
        return {"mini_batch": number, "kind": FEWER_ROWS, "type": "FewerRows", "message": words}

    def failures_by_cause(self) -> dict[str, int]:
        """Mini-batches that failed for good or gave too few rows, by kind; the reasons of at most 1,000 are read."""
        chosen = {r.mini_batch: (a, r) for a, r in reversed(self.failures) if self.states[r.mini_batch] == _FAILED}
        kinds = Counter(str(a.reason(r).get("kind", "unknown")) for a, r in list(chosen.values())[:1000])
        if len(chosen) > 1000:
            kinds["not read"] = len(chosen) - 1000
        fewer = sum(1 for _ in self._with_fewer_rows())
        return {**kinds, FEWER_ROWS: fewer} if fewer else dict(kinds)

    def accounting(self, *, over: bool) -> Accounting:
        """What the job has cost; of one that is not *over*, what runs now is not lost."""
        return account(self.tallies, self.states, Spent(self.run_ms, self.duplicate_ms, self.duplicates), over=over)

    def pack(self) -> bytes:
        """The frozen merge plan for this choice."""
        return pack_merge_plan(self.files, self.segments, self.crcs, self.offsets, self.lengths)


def read_coverage(job: JobDir, rejected: Rejected = frozenset(), frozen: MergePlan | None = None) -> Coverage:
    """What all attempts of all rounds accepted. Payload bytes are not read here; the merge checks each one it
    copies. With *frozen* only the commits that it names count: what came after it was frozen is a duplicate.
    """
    count = job.record.mini_batches
    zero = array("Q", bytes(8 * count))
    coverage = Coverage(
        mini_batches=count,
        states=bytearray(count),
        segments=array("I", [NO_SEGMENT]) * count,
        crcs=array("I", bytes(4 * count)),
        offsets=zero,
        lengths=array("Q", zero),
        failed_items=array("I", bytes(4 * count)),
    )
    digests = bytearray(16 * count)
    for attempt in sorted(all_attempts(job.paths)):
        _read_attempt(job, attempt, coverage, _Choice(digests, rejected, frozen))
    return coverage


@dataclass(frozen=True)
class _Choice:
    """What may be chosen, and the *digests* of what was."""

    digests: bytearray
    rejected: Rejected
    frozen: MergePlan | None


def _read_attempt(job: JobDir, attempt: AttemptFiles, coverage: Coverage, choice: _Choice) -> None:
    coverage.attempts += 1
    name = str(attempt.segment.relative_to(job.root))
    used = False
    scan = attempt.scan(job.record.uuid_bytes)
    size_bytes = _size(attempt)
    tally = AttemptTally(attempt)
    coverage.tallies.append(tally)
    waiting = _WaitingFiles(coverage)
    for record in scan:
        kind = record.kind
        tally.take(record)
        if kind == Kind.COMMIT:
            fits = record.mini_batch < coverage.mini_batches and record.offset + record.length <= size_bytes
            rejected = record.length and (name, record.offset) in choice.rejected
            whole = fits and not rejected and waiting.are_there(record.mini_batch)
            if whole and _take_commit(coverage, choice, name, record):
                waiting.take(record.mini_batch)
                used = True
        elif kind == Kind.FILES:
            there = record.offset + record.length <= size_bytes and (name, record.offset) not in choice.rejected
            waiting.add(record, Piece(name, record.offset, record.length, record.payload_crc) if there else None)
        elif kind == Kind.FAIL:
            _take_failure(coverage, attempt, record)
        elif kind == Kind.ABORT:
            coverage.aborts.append((attempt, record))
        elif kind == Kind.RELEASE:
            coverage.released += 1
        elif kind == Kind.END:
            coverage.ended_groups.add((attempt.round, attempt.group))
    coverage.last_wall_ms = max(coverage.last_wall_ms, tally.last_ms)
    if used:
        coverage.files.append(name)
    if scan.damaged:
        coverage.damaged_ledgers.append(str(attempt.ledger))


def _take_failure(coverage: Coverage, attempt: AttemptFiles, record: Record) -> None:
    if record.flags & FLAG_FINAL and record.mini_batch < coverage.mini_batches:
        coverage.failures.append((attempt, record))
        if coverage.states[record.mini_batch] == _NOTHING:
            coverage.states[record.mini_batch] = _FAILED
            coverage.failed_items[record.mini_batch] = record.failed_items


class _WaitingFiles:
    """Files of one attempt whose COMMIT comes next. Without those of init() no result of the attempt is whole."""

    def __init__(self, coverage: Coverage) -> None:
        self._coverage = coverage
        self._pieces: dict[int, Piece | None] = {}
        self._init_is_there = True

    def add(self, record: Record, piece: Piece | None) -> None:
        """The files of *record*; None: they are not there, or damaged."""
        if record.mini_batch != OF_INIT:
            self._pieces[record.mini_batch] = piece
        elif piece is None:
            self._init_is_there = False
        else:
            self._coverage.written_by_init.append(piece)

    def are_there(self, mini_batch: int) -> bool:
        """Whether nothing is missing that a COMMIT of *mini_batch* goes with."""
        return self._init_is_there and self._pieces.get(mini_batch, _NO_FILES) is not None

    def take(self, mini_batch: int) -> None:
        """The COMMIT of *mini_batch* was chosen, and so are its files."""
        coverage, piece = self._coverage, self._pieces.pop(mini_batch, None)
        if piece is not None:
            if not coverage.written:
                coverage.written = array("Q", bytes(24 * coverage.mini_batches))
            coverage.written[3 * mini_batch : 3 * mini_batch + 3] = array("Q", piece[1:])


def _take_commit(coverage: Coverage, choice: _Choice, name: str, record: Record) -> bool:
    number, digests = record.mini_batch, choice.digests
    if choice.frozen is not None:
        segment, crc, offset, _ = choice.frozen.entry(number)
        if segment == NO_SEGMENT or (choice.frozen.files[segment], offset) != (name, record.offset):
            _duplicate(coverage, record)
            coverage.nondeterministic_duplicates += segment == NO_SEGMENT or crc != record.payload_crc
            return False
    if coverage.states[number] == _COMMITTED:
        _duplicate(coverage, record)
        coverage.nondeterministic_duplicates += digests[16 * number : 16 * number + 16] != record.digest
        return False
    coverage.states[number] = _COMMITTED
    coverage.segments[number] = len(coverage.files)  # this attempt's, once it is done
    coverage.crcs[number] = record.payload_crc
    coverage.offsets[number] = record.offset
    coverage.lengths[number] = record.length
    coverage.failed_items[number] = record.failed_items
    coverage.rows += record.rows
    coverage.run_ms += record.run_ms
    coverage.longest_run_ms = max(coverage.longest_run_ms, record.run_ms)
    digests[16 * number : 16 * number + 16] = record.digest
    return True


def _duplicate(coverage: Coverage, record: Record) -> None:
    coverage.duplicates += 1
    coverage.duplicate_ms += record.run_ms


def _size(attempt: AttemptFiles) -> int:
    """Bytes of the segment by a fresh open: a path's own size may be a cached, older one."""
    try:
        fd = os.open(attempt.segment, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    try:
        return os.fstat(fd).st_size
    finally:
        os.close(fd)
