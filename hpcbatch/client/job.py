"""One job in Python: look at it, wait for it, read its output."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.client import html
from hpcbatch.client.progress import SHOWS, silent
from hpcbatch.dataio import tables
from hpcbatch.errors import HpcBatchError, IncompleteError, JobCanceled, JobError, NotFound
from hpcbatch.operations import jobs, story
from hpcbatch.operations.progress import Progress
from hpcbatch.operations.status import TERMINAL
from hpcbatch.operations.workspace import Workspace
from hpcbatch.pipeline.drawing import Node, as_svg

_POLL_S = 0.5


@dataclass(frozen=True)
class Output:
    """Where results lie, or are to lie: a folder, of which `path` is the path. `open` and `Path` take it as it is."""

    path: str | os.PathLike[str]
    type: str = "uri_folder"

    def __fspath__(self) -> str:
        return os.fspath(self.path)


class Job:
    """One invocation of an endpoint, as it was when last looked at; `refresh` looks again.

    It lives in its files: `client.jobs.get(name)` finds it again in another process, a week later.
    """

    def __init__(self, ws: Workspace, shown: Mapping[str, Any]) -> None:
        self._ws = ws
        self._shown = dict(shown)

    @property
    def name(self) -> str:
        """Its name, which finds it again."""
        return str(self._shown["name"])

    @property
    def status(self) -> str:
        """The status word at the last look: `Queued`, `Running`, `Completed`, `Failed`, ..."""
        return str(self._shown["status"])

    @property
    def detail(self) -> str:
        """What explains the status; empty if nothing has to be explained."""
        return story.clean(str(self._shown.get("detail") or ""))

    @property
    def endpoint(self) -> str:
        """The endpoint that was invoked; empty for a job that none started, and for a step."""
        return str(self._shown.get("endpoint") or "")

    @property
    def deployment(self) -> str:
        """The deployment that answers; empty where there is none."""
        return str(self._shown.get("deployment") or "")

    @property
    def shown(self) -> Mapping[str, Any]:
        """All that `hpcbatch job show` says, as of the last look."""
        return self._shown

    @property
    def failures(self) -> list[Mapping[str, Any]]:
        """The first failures in input order, each with the exception, its traceback and what the script printed."""
        return story.failures(self._shown)

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The folders of the outputs by name; a model deployment has one, `score`."""
        return {name: Output(one["path"], one["type"]) for name, one in self._shown["outputs"].items()}

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not, as of the last look."""
        return self.status in TERMINAL or self.status == "NotStarted"

    def refresh(self) -> Job:
        """Look again; returns this job."""
        self._shown = jobs.show_job(self._ws, self.name)
        return self

    def wait(self, timeout_s: float | None = None, *, progress: bool = True, raise_on_error: bool = True) -> Job:
        """Block until the job has ended; returns this job, Completed.

        Otherwise raises JobError (JobCanceled, IncompleteError) with the first failure, unless *raise_on_error* is
        False, and TimeoutError after *timeout_s*. Leaving, by Ctrl-C too, never ends the job.
        """
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        show = SHOWS[-1] if progress else silent
        with show(self.name) as look:

            def on_progress(now: Progress) -> None:
                look(now)
                if deadline is not None and time.monotonic() >= deadline and now.status not in TERMINAL:
                    raise TimeoutError(
                        f"Job {self.name!r} is {now.status} after {timeout_s} s; it goes on without you.\n"
                        f"Wait for it again: client.jobs.get({self.name!r}).wait()"
                    )

            poll_s = _POLL_S if timeout_s is None else min(_POLL_S, max(timeout_s, 0.01))
            self._shown = jobs.wait_job(self._ws, self.name, on_progress=on_progress, poll_s=poll_s)
        if raise_on_error and self.status != "Completed":
            raise self._error()
        return self

    def stream(self) -> Job:
        """Write the job's log to stdout as it grows, until it has ended; raises as `wait` does."""

        def emit(line: str) -> None:
            sys.stdout.write(f"{story.clean(line)}\n")
            sys.stdout.flush()

        self._shown = jobs.stream_job(self._ws, self.name, emit)
        if self.status != "Completed":
            raise self._error()
        return self

    def logs(self) -> str:
        """What array tasks and the merge have logged until now, with what the scoring script printed."""
        return story.clean("\n".join(jobs.job_log(self._ws, self.name)))

    def cancel(self) -> Job:
        """End it. What it finished stays; a job that has ended is left as it is."""
        jobs.cancel_job(self._ws, self.name)
        return self.refresh()

    def resume(self) -> Job:
        """Go on where it stopped: only what is missing runs. Raises Conflict for a canceled or a complete one."""
        jobs.resume_job(self._ws, self.name)
        return self.refresh()

    def download(
        self, path: str | os.PathLike[str] = ".", *, output_name: str | None = None, all: bool = False
    ) -> Path:
        """Copy the outputs of an ended job to `<path>/named-outputs/<output>/`, with *all* its logs; returns *path*."""
        found = jobs.download_job(self._ws, self.name, download_path=os.fspath(path), output_name=output_name, all=all)
        return Path(found["download_path"])

    @property
    def output_file(self) -> Path:
        """The merged output of a Completed job. Raises JobError, IncompleteError or NotFound if there is none."""
        if not self.is_done or self._shown.get("progress") is None:
            self.refresh()
        if not self.is_done:
            raise IncompleteError(
                f"Job {self.name!r} is {self.status}; it has no output yet.", hint="Wait for it: job.wait()"
            )
        if self.status != "Completed":
            raise self._error()
        output = (self._shown.get("progress") or {}).get("output")
        if not output and "mini_batches" not in self._shown:
            raise NotFound(
                f"Job {self.name!r} is a pipeline, which merges no file. It has: {', '.join(self.outputs) or 'none'}.",
                hint="Each output is a place of its own: job.outputs, and job.download() copies them.",
            )
        if not output:
            folder = os.fspath(self.outputs["score"])
            raise NotFound(
                f"Job {self.name!r} merged no file: its deployment says output_action: summary_only.",
                hint=f"What the scoring script wrote is in {folder!r}, and job.download() copies it.",
            )
        return Path(output["path"])

    def to_pandas(self, names: Sequence[str] | None = None, *, sep: str = " ", **options: Any) -> tables.Frame:
        """The merged output as a DataFrame with the columns *names* (0, 1, ... without).

        What the file is, its ending says, and nothing is guessed: `.parquet`, `.pqt`, `.jsonl`, or else lines, whose
        fields *sep* separates: a space, as Azure ML and we write append_row; under a header if the job was to write
        one. *options* go to pandas' reader.
        """
        file = self.output_file
        if self._has_header():
            options = {"header": 0, **options}
        return tables.read_pandas(file, names, sep=sep, **options)

    def to_arrow(self, names: Sequence[str] | None = None, *, sep: str = " ", header: bool = False) -> tables.Table:
        """The merged output as an Arrow table with the columns *names* (f0, f1, ... without); see `to_pandas`."""
        file = self.output_file
        return tables.read_arrow(file, names, sep=sep, header=header or self._has_header())

    def _has_header(self) -> bool:
        return bool(jobs.find_job(self._ws, self.name).record.scoring.output_header)

    def _error(self) -> HpcBatchError:
        """What to raise for a job that ended without its promised result."""
        lines = [f"Job {self.name!r} ended as {self.status}. {self.detail}".rstrip()]
        for failure in self.failures[:1]:
            lines += [*self._unsaid(failure), story.failure_quotes(failure)]
        fields = {"name": self.name, "status": self.status, "failures": self.failures}
        message = "\n".join(line for line in lines if line)
        if self.status in ("NotResponding", "NotStarted"):
            return IncompleteError(message, hint="Go on where it stopped: job.resume().wait()", **fields)
        kind = JobCanceled if self.status == "Canceled" else JobError
        return kind(message, hint=f"See more: job.logs(), job.failures, hpcbatch job show --name {self.name}", **fields)

    def _unsaid(self, failure: Mapping[str, Any]) -> list[str]:
        """The line about *failure*, unless the detail ends in it."""
        message = story.clean(str(failure.get("message") or ""))
        return [] if message and self.detail.endswith(message) else [story.failure_line(failure)]

    def __repr__(self) -> str:
        return f"Job(name={self.name!r}, status={self.status!r}, endpoint={self.endpoint!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._shown["id"] == other._shown["id"]

    def __hash__(self) -> int:
        return hash(self._shown["id"])

    def _repr_html_(self) -> str:
        return html.card("Job", self.name, self._pairs(), status=self.status, body=self._body())

    def _body(self) -> str:
        is_alarm = self.status in ("Failed", "NotResponding")
        parts = []
        if self._shown.get("progress"):
            failed = self._shown["progress"].get("items_failed") or 0
            done, total = story.items_done(self._shown), int(self._shown["items"])
            parts.append(html.bar(done, total, status=self.status, told=f"{failed} failed"))
        if self.detail:
            parts.append(html.alarm(self.detail) if is_alarm else html.remark(self.detail))
        if "jobs" in self._shown:
            parts.append(html.picture(_picture(self._shown)))
        for number, failure in enumerate(self.failures[:5]):
            quoted = story.failure_quotes(failure) if number == 0 else ""
            parts.append(html.alarm("".join(self._unsaid(failure)), quoted))
        return "".join(parts)

    def _pairs(self) -> html.Pairs:
        shown = self._shown
        output = ((shown.get("progress") or {}).get("output") or {}).get("path")
        created = shown["creation_context"]
        pairs = [
            ("deployment", " / ".join(filter(None, (self.endpoint, self.deployment)))),
            ("compute", shown.get("compute")),
            ("created", f"{created['created_at']} by {created['created_by']}"),
            *((f"input {name}".removesuffix(" input"), _place(one)) for name, one in shown["inputs"].items()),
            *(
                (f"output {name}".removesuffix(" score"), output or _place(one))
                for name, one in shown["outputs"].items()
            ),
            ("directory", shown.get("job_directory")),
            *(("warning", one) for one in shown.get("warnings") or ()),
        ]
        return [(label, value) for label, value in pairs if value]


def _place(one: Mapping[str, Any]) -> Any:
    """Where an input or output lies, or the value that it has."""
    return one.get("path") or one.get("value")


def _picture(shown: Mapping[str, Any]) -> str:
    """The graph of a pipeline job with the states of its steps, as SVG."""
    nodes = [
        Node(name, str(step.get("status")), "reused" if step.get("reused") else "", tuple(step.get("depends_on") or ()))
        for name, step in shown["jobs"].items()
    ]
    return as_svg(str(shown["name"]), nodes)
