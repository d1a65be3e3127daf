"""What there is to say about a job, as plain text: for errors, notebooks and lines of progress."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hpcbatch.words import counted

if TYPE_CHECKING:
    from hpcbatch.operations.progress import Progress

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_QUOTED_LINES = 20
_LONG = 120
_EXCEPTION = re.compile(r"[A-Za-z_][\w.]*: ")
_TIMES = (("useful", "useful"), ("lost", "lost"), ("failed", "failed"), ("start_up", "start-up"))
_EVENTS = (
    ("preemptions", "preemption", "preemptions"),
    ("time_limits", "time limit", "time limits"),
    ("deaths", "lost attempt", "lost attempts"),
    ("memory_kills", "kill for memory", "kills for memory"),
    ("recomputed_mini_batches", "mini-batch run again", "mini-batches run again"),
)


def clean(text: str) -> str:
    """*text* without what could steer a terminal or a page: escape sequences, control characters, bidi overrides."""
    return _CONTROLS.sub("", _ESCAPES.sub("", text))


def told(progress: Progress) -> str:
    """Rate, time left and failures in words: `12.5 items/s, 2:05 left, 3 failed`."""
    words = []
    if progress.rate_per_s > 0:
        words.append(f"{_rate(progress.rate_per_s)} items/s")
    if progress.eta_s is not None and progress.items_done < progress.items:
        words.append(f"{clock(progress.eta_s)} left")
    return ", ".join([*words, f"{progress.items_failed} failed"])


def clock(seconds: float) -> str:
    """`0:07`, `12:30`, `3:00:05`, `2 d 04:00`."""
    minutes, second = divmod(round(max(0.0, seconds)), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour:02}:{minute:02}"
    return f"{hour}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def cost(accounting: Mapping[str, Any]) -> str:
    """What a job has cost: `12:30 useful, 0:12 lost, 0:40 start-up; 1.25 core hours; 2 preemptions`."""
    spent = [(float(accounting.get(f"{key}_s") or 0), word) for key, word in _TIMES]
    times = [f"{clock(seconds)} {word}" for seconds, word in spent if seconds >= 0.5 or word == "useful"]
    hours = [f"{float(accounting.get('core_h') or 0):.3g} core hours"]
    hours += [f"{float(accounting['gpu_h']):.3g} GPU hours"] if accounting.get("gpu_h") else []
    counts = [(int(accounting.get(key) or 0), one, many) for key, one, many in _EVENTS]
    events = [counted(count, one, many) for count, one, many in counts if count]
    return "; ".join(", ".join(part) for part in (times, hours, events) if part)


def items_done(job: Mapping[str, Any]) -> int:
    """Items of a shown job that have a result, good or bad."""
    progress = job.get("progress") or {}
    return int(progress.get("items_succeeded") or 0) + int(progress.get("items_failed") or 0)


def failures(job: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The first failures of a shown job, in input order."""
    return [each for each in (job.get("progress") or {}).get("failures") or () if isinstance(each, Mapping)]


def failure_line(failure: Mapping[str, Any]) -> str:
    """Where and what: `mini-batch 3, try 2 of 4: ValueError: not a table`."""
    where = f"mini-batch {failure['mini_batch']}" if "mini_batch" in failure else f"group {failure.get('group')}"
    tries = f", try {failure['try']} of {failure.get('of')}" if "try" in failure else ""
    what = ": ".join(str(failure[key]) for key in ("type", "message") if failure.get(key))
    return clean(f"{where}{tries}: {what or failure.get('kind')}")


def failure_quotes(failure: Mapping[str, Any]) -> str:
    """The end of what the scoring script printed, and its traceback; empty if it said nothing."""
    parts = []
    for key, said in quoted_parts(failure).items():
        if said:
            cut = [f"... {len(said) - _QUOTED_LINES} lines before"] if len(said) > _QUOTED_LINES else []
            parts += [f"{key}:", *(f"  {line}" for line in [*cut, *said[-_QUOTED_LINES:]])]
    return "\n".join(parts)


def quoted_parts(failure: Mapping[str, Any]) -> dict[str, list[str]]:
    """The lines of stdout, stderr and traceback; a long message, which the failure's own line says, is not repeated."""
    said = {key: clean(str(failure.get(key) or "")).splitlines() for key in ("stdout", "stderr", "traceback")}
    message = clean(str(failure.get("message") or ""))
    if is_long(message):
        said["traceback"] = list(_without(message, said["traceback"]))
    return said


def is_long(message: str) -> bool:
    """Whether reading *message* twice is a nuisance."""
    return len(message) > _LONG


def _without(message: str, lines: Iterable[str]) -> Iterator[str]:
    """The *lines* of a traceback; of an exception whose words are (in) *message* only the type."""
    again = False
    for line in lines:
        if begins := _EXCEPTION.match(line):
            again = line[begins.end() :] in message
            yield f"{begins[0]}(see above)" if again else line
        elif not (again and line.strip() and line in message):
            again = False
            yield line


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 100 else f"{per_s:.1f}" if per_s >= 1 else f"{per_s:.2g}"
