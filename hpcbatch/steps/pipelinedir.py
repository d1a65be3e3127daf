"""The directory of a pipeline job: where each thing lies, and what its files say about the steps.

pipeline.json  code/<digest>.zip               sealed before anything is submitted
rounds/r<k>/{PLAN.json,INTENT,unit-<n>.json}   the steps of round k, and the Slurm job of each of its submissions
rounds/r<k>/{UNITS*,finish*,held-<n>}.json     which steps are one submission; who goes on where a limit held some back
rounds/local-<n>.json                          who supervises the job on the local compute
steps/<step>.a<epoch>-<nonce>/                 one attempt: command.txt, std_log.txt, out/<output>, artifacts/
steps/<step>.e<k>/   steps/<step>.o<k>/         the mini-batch job of a parallel step and its outputs: for all attempts
results/<step>.<k>.json                        how the step ended in round k: the first to say so is right
out/<output>                                   the outputs of the pipeline
mlruns/                                        what steps logged with MLflow
verdict.<k>.json   graph.<k>.svg               how the job ended in round k, and a picture of that
slurm/                                         submission scripts, stdout and stderr of the Slurm jobs
CANCELED.json                                  somebody asked for the end
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpcbatch.errors import FileDamaged, NotFound
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.pipeline.graph import COMPLETED
from hpcbatch.records.pipeline import PipelineRecord, parse_pipeline

PIPELINE, CANCELED_FILE, PLAN, INTENT, FINISH = "pipeline.json", "CANCELED.json", "PLAN.json", "INTENT", "finish.json"
LOG = "std_log.txt"
_RESULT = re.compile(r"(.+)\.(\d+)\.json\Z", re.ASCII)
_ATTEMPT = re.compile(r"(.+)\.a(\d{4,})-([0-9a-f]{8})\Z", re.ASCII)


@dataclass(frozen=True)
class AttemptDir:
    """One attempt at a step."""

    step: str
    epoch: int
    path: Path

    @property
    def log(self) -> Path:
        """What the command printed."""
        return self.path / LOG

    @property
    def out(self) -> Path:
        """Where the command is told to put its outputs."""
        return self.path / "out"


@dataclass(frozen=True)
class PipelineDir:
    """An existing pipeline job: its record and what its files say."""

    root: Path
    record: PipelineRecord
    sha256: str  # of pipeline.json; travels with the submission so that every process checks what it reads

    @property
    def rounds_folder(self) -> Path:
        """The folder of the rounds."""
        return self.root / "rounds"

    @property
    def slurm(self) -> Path:
        """The folder of the submission scripts and of what the Slurm jobs print."""
        return self.root / "slurm"

    @property
    def out(self) -> Path:
        """Where outputs lie that no path was given for."""
        return self.root / "out"

    def round(self, number: int) -> Path:
        """The folder of one round."""
        return self.rounds_folder / f"r{number}"

    def rounds(self) -> list[int]:
        """The numbers of the rounds, ascending."""
        names = scan.names(self.rounds_folder)
        return sorted(int(n[1:]) for n in names if n[:1] == "r" and n[1:].isdecimal())

    def planned(self, round_number: int) -> list[str]:
        """The steps that round *round_number* runs."""
        document = self.document(self.round(round_number) / PLAN) or {}
        return [str(name) for name in document.get("steps", ())]

    def document(self, path: Path) -> dict[str, Any] | None:
        """A JSON document of the job; None if it is not there."""
        return scan.document(path)

    def results(
        self,
        known: dict[str, dict[str, Any]] | None = None,
        *,
        in_round: int | None = None,
        only: Collection[str] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """How each step (*only* these) ended that has: what it completed in any round, else its end in the newest round
        (*in_round*).

        One listing, and one read of each result that *known* (file name to document, updated here) does not have.
        """
        known = {} if known is None else known
        newest = self.rounds()[-1] if in_round is None else in_round
        found: dict[str, dict[str, Any]] = {}
        for name in scan.names(self.root / "results"):
            match = _RESULT.match(name)
            if not match or (only is not None and match[1] not in only):
                continue
            if name not in known:
                known[name] = json.loads(scan.read_document(self.root / "results" / name))
            document = known[name]
            if document["status"] == COMPLETED or (
                int(match[2]) == newest and found.get(match[1], {}).get("status") != COMPLETED
            ):
                found[match[1]] = document
        return found

    def have_results(self) -> set[str]:
        """The steps that have a result of any round, by one listing: a cheap look, for decisions that may be wrong."""
        return {match[1] for name in scan.names(self.root / "results") if (match := _RESULT.match(name))}

    def publish_result(self, step: str, round_number: int, document: Mapping[str, Any]) -> bool:
        """Say how *step* ended in this round; False if that was said before."""
        path = self.root / "results" / f"{step}.{round_number}.json"
        return publish_document(path, {"schema": "hpcbatch.step/1", "step": step, "round": round_number, **document})

    def attempts(self) -> dict[str, list[AttemptDir]]:
        """The attempts of each step that was begun, oldest first."""
        found: dict[str, list[AttemptDir]] = {}
        for name in scan.names(self.root / "steps"):
            if match := _ATTEMPT.match(name):
                found.setdefault(match[1], []).append(AttemptDir(match[1], int(match[2]), self.root / "steps" / name))
        return {step: sorted(each, key=lambda a: (a.epoch, a.path.name)) for step, each in found.items()}

    def new_attempt(self, step: str) -> AttemptDir:
        """A folder for the next attempt at *step*, which nobody else has."""
        epoch = 1 + max((a.epoch for a in self.attempts().get(step, ())), default=0)
        path = self.root / "steps" / f"{step}.a{epoch:04d}-{os.urandom(4).hex()}"
        publish.make_directory(path / "out")
        return AttemptDir(step, epoch, path)

    def verdict(self) -> dict[str, Any] | None:
        """How the job ended in its newest round; None while it has not."""
        return self.document(self.root / f"verdict.{self.rounds()[-1]}.json")

    def canceled(self) -> bool:
        """Whether somebody asked for the end of this job."""
        return CANCELED_FILE in scan.names(self.root)


def is_pipeline(folder: Path) -> bool:
    """Whether the job directory *folder* is that of a pipeline."""
    return PIPELINE in scan.names(folder)


def create(folder: Path, record: PipelineRecord, codes: Mapping[str, bytes]) -> bool:
    """Seal a whole job directory at *folder* in one step; False, and nothing changed, if that name is taken."""
    plan = {"steps": [s.name for s in record.steps]}

    def fill(temp: Path) -> None:
        for sub in ("code", "rounds", "rounds/r0", "steps", "results", "out", "slurm", "mlruns"):
            os.mkdir(temp / sub, 0o700)
        for digest, data in codes.items():
            publish.write_durably(temp / "code" / f"{digest}.zip", data)
        publish.write_durably(temp / "rounds" / "r0" / PLAN, canonical(plan))
        publish.write_durably(temp / PIPELINE, record.to_bytes())

    publish.make_directory(folder.parent)
    return publish.publish_directory(folder, fill)


def add_round(job: PipelineDir, number: int, steps: list[str]) -> None:
    """Plan round *number*: these *steps* run. The first plan for a round stands."""

    def fill(temp: Path) -> None:
        publish.write_durably(temp / PLAN, canonical({"steps": steps}))

    publish.publish_directory(job.round(number), fill)


def open_pipeline(folder: Path, expected_sha256: str | None = None) -> PipelineDir:
    """The pipeline job at *folder*. Raises NotFound, or FileDamaged if its record is not the expected one."""
    path = folder / PIPELINE
    try:
        data = scan.read_document(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFound(
            f"There is no pipeline job at {str(folder)!r}.", hint="List the jobs: hpcbatch job list", path=str(folder)
        ) from error
    found = sha256(data)
    if expected_sha256 is not None and found != expected_sha256:
        raise FileDamaged(f"{path} is not the record that was submitted.", hint="Create the job again.")
    return PipelineDir(folder, parse_pipeline(data, str(path)), found)


def publish_document(path: Path, document: Mapping[str, Any]) -> bool:
    """Publish a JSON document of the job once; False if it is there already."""
    return publish.create_once(path, canonical(document))
