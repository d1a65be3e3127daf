"""Every path of a job directory, once.

job.json  manifest.bin  code.zip         sealed before anything is submitted
rounds/r<k>/plan.bin                     the plan of round k
rounds/local-<n>.json                    who supervises the job on the local compute
rounds/r<k>/suspects.json                of a repair round: mini-batches that workers died of
rounds/r<k>/lessons.json                 of a repair round: memory to ask for, nodes to do without, durations
rounds/r<k>/INIT_FAILED.<digest>.<n>     how init() failed on the first nodes; INIT_OK: on some it did not
rounds/r<k>/{INTENT,array-<first group>.json,merge.json,merge-<n>.json}
rounds/r<k>/REFUSED.json                 why a compute node could not submit the round
g/r<k>.<group // 1000>/<group>/e<epoch>-<nonce>.{seg,led}
merge/PLAN.<n>   INCOMPLETE.<n>.json     the frozen merge plans; what was missing
merge/UNSENT.<n>                         why the outputs could not be sent to another place
out/<file>  _SUCCESS.json                the one published output and what it holds
out/_FAILED.<k>.json                     the verdict of round k; a later round supersedes it
out/_FILES.json                          which files the scoring script wrote
score/                                   those files; with HPCBATCH_OUTPUT_FILES=shared AZUREML_BI_OUTPUT_PATH itself
mlruns/  mlartifacts/                    what scoring scripts logged with MLflow, if they did
slurm/                                   submission scripts, stdout and stderr of array tasks and merges
CANCELED.json                            somebody asked for the end
NOTES.<n>.json                           tags, a display name, archived or not: the highest number counts
"""

from __future__ import annotations

import re
from pathlib import Path

JOB, MANIFEST, CODE, CANCELED = "job.json", "manifest.bin", "code.zip", "CANCELED.json"
PLAN, INTENT, MERGE_ID, REFUSED = "plan.bin", "INTENT", "merge.json", "REFUSED.json"
SUSPECTS, LESSONS = "suspects.json", "lessons.json"
INIT_FAILED, INIT_OK = "INIT_FAILED", "INIT_OK"
SUCCESS, FILES = "_SUCCESS.json", "_FILES.json"
SEGMENT, LEDGER = ".seg", ".led"
_ATTEMPT = re.compile(r"e(\d{4,})-([0-9a-f]{32})\.led\Z", re.ASCII)
_MERGE = re.compile(r"merge(?:-(\d+))?\.json\Z", re.ASCII)
_BUCKET = re.compile(r"r(\d+)\.\d+\Z", re.ASCII)
_GROUPS_PER_FOLDER = 1000


class Layout:
    """Paths below one job directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.job = root / JOB
        self.manifest = root / MANIFEST
        self.code = root / CODE
        self.canceled = root / CANCELED
        self.groups = root / "g"
        self.rounds = root / "rounds"
        self.merge = root / "merge"
        self.out = root / "out"
        self.score = root / "score"
        self.slurm = root / "slurm"

    def round(self, number: int) -> Path:
        """The folder of one round."""
        return self.rounds / f"r{number}"

    def group(self, round_number: int, group: int) -> Path:
        """The folder of one group's attempts."""
        return self.groups / f"r{round_number}.{group // _GROUPS_PER_FOLDER}" / f"{group:05d}"


def parse_bucket(name: str) -> int | None:
    """The round in the name of a folder below g/; None if it is none."""
    match = _BUCKET.match(name)
    return int(match[1]) if match else None


def attempt_stem(epoch: int, nonce: str) -> str:
    """The file name of an attempt without its ending."""
    return f"e{epoch:04d}-{nonce}"


def parse_attempt(name: str) -> tuple[int, str] | None:
    """(epoch, nonce) of a ledger's file name; None if it is none."""
    match = _ATTEMPT.match(name)
    return (int(match[1]), match[2]) if match else None


def failed_name(round_number: int) -> str:
    """The name of the verdict that round *round_number* ended the job with."""
    return f"_FAILED.{round_number}.json"


def unsent_name(number: int) -> str:
    """The name of the note that the outputs could not be sent, for the *number*-th time."""
    return f"UNSENT.{number}"


def merge_plan_name(number: int) -> str:
    """The name of the *number*-th frozen merge plan, from 1."""
    return f"PLAN.{number}"


def merge_plan_number(name: str) -> int:
    """The number in the name of a merge plan; 0 if it is none."""
    head, _, tail = name.partition(".")
    return int(tail) if head == "PLAN" and tail.isdecimal() else 0


def array_name(first_group: int) -> str:
    """The note of the array whose first task has group *first_group*: which Slurm job it is."""
    return f"array-{first_group}.json"


def merge_name(number: int) -> str:
    """The note of the *number*-th merge of a round, from 0: which Slurm job it is."""
    return f"merge-{number}.json" if number else MERGE_ID


def merge_number(name: str) -> int | None:
    """The number in the name of a merge's note; None if it is none."""
    match = _MERGE.match(name)
    return int(match[1] or 0) if match else None
