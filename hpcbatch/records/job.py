"""The sealed description of one job: everything resolved, nothing left to look up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical
from hpcbatch.records.rows import FROM_ROWS, row_format

SCHEMA = "hpcbatch.job/1"
OUTPUT_FILES, CAPTURED, SHARED = "HPCBATCH_OUTPUT_FILES", "captured", "shared"  # an environment variable of scripts


@dataclass(frozen=True)
class ModelPart:
    """The model's snapshot: `path` becomes AZUREML_MODEL_DIR once its content has been checked."""

    name: str
    version: str
    type: str
    path: str
    digest: str
    basename: str
    size_bytes: int
    file_count: int


@dataclass(frozen=True)
class CodePart:
    """The code snapshot in the job directory: a zip file whose bytes have `digest` as SHA-256."""

    file: str
    digest: str
    scoring_script: str


@dataclass(frozen=True)
class ScoringPart:
    """How mini-batches are scored (Azure ML's deployment settings, after all overrides)."""

    python: str
    environment_name: str
    environment_origin: str
    mini_batch_size: int
    max_concurrency_per_instance: int
    error_threshold: int
    max_retries: int
    timeout_s: float
    init_timeout_s: float
    output_action: str
    output_file_name: str
    logging_level: str
    environment_variables: Mapping[str, str]
    output_header: str = ""  # of text: the line itself, or `rows.FROM_ROWS`
    output_input_column: str = ""  # the name of the column that names the file of each row

    @property
    def row_format(self) -> tuple[str, ...]:
        """What `row_formats.RowFormat` takes; () for rows as Azure ML writes them."""
        kind = row_format(self.output_file_name)
        plain = kind == "text" and self.output_header != FROM_ROWS and not self.output_input_column
        return () if plain else (kind, self.output_header, self.output_input_column)


@dataclass(frozen=True)
class ComputePart:
    """Where the job runs. `slurm` holds checked sbatch settings; `throttle` array tasks run at once."""

    name: str
    kind: str
    tier: str
    throttle: int
    slurm: Mapping[str, Any]


@dataclass(frozen=True)
class RemotePart:
    """A place that is not on a filesystem of the cluster. `options` are fsspec's, with references for what is secret:
    `{"env": NAME}` or `{"file": PATH}`, never the secret itself.
    """

    protocol: str
    root: str  # without protocol; an input's items are below it, an output's file is put there
    query: str = ""  # what follows the path of a single item's address
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class JobRecord:
    """`job.json`. Written once before anything is submitted and never changed."""

    name: str
    uuid: str  # 32 hex digits
    endpoint: str
    deployment: str
    deployment_revision: int
    experiment_name: str
    created: str  # UTC, ISO 8601; information only
    user: str
    manifest_sha256: str
    items: int
    mini_batches: int
    groups: int
    input_path: str
    input_type: str
    output_folder: str  # where the merged output is published
    request_sha256: str  # digest of what was asked: the same job name with another request is a conflict
    scoring: ScoringPart
    compute: ComputePart
    model: ModelPart | None = None
    code: CodePart | None = None
    warnings: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    remote_input: RemotePart | None = None  # where the items are fetched from; None: they are read in place
    remote_output: RemotePart | None = None  # where the merged output is put after it is in `output_folder`
    travelling: tuple[str, ...] = ()  # names of environment variables that fetching and putting need
    secrets: tuple[str, ...] = ()  # those of them that hold secrets: not for user code
    dependency: str = ""  # what Slurm waits for before the first array, as sbatch(1) has it

    @property
    def uuid_bytes(self) -> bytes:
        """The identity that every ledger record carries."""
        return bytes.fromhex(self.uuid)

    @property
    def slurm_name(self) -> str:
        """The Slurm job name of the job: its identity in the queue, whatever ids Slurm hands out."""
        return f"hb-{self.uuid[:12]}"

    def to_bytes(self) -> bytes:
        """The canonical file content."""
        return canonical({"schema": SCHEMA, **asdict(self)})


def parse_job(data: bytes, source: str) -> JobRecord:
    """The record in *data*; unknown keys are ignored, another schema version is refused with FileDamaged."""
    hint = "The job directory is damaged or was written by a newer hpcbatch; invoke the endpoint again."
    try:
        document = json.loads(data)
        if document.get("schema") != SCHEMA:
            raise FileDamaged(f"{source}: schema {document.get('schema')!r}, expected {SCHEMA!r}.", hint=hint)
        parts = {"scoring": ScoringPart, "compute": ComputePart, "model": ModelPart, "code": CodePart,
                 "remote_input": RemotePart, "remote_output": RemotePart}  # fmt: skip
        values = known_fields(JobRecord, document)
        for key, kind in parts.items():
            if values.get(key) is not None:
                values[key] = kind(**known_fields(kind, values[key]))
        for key in ("warnings", "travelling", "secrets"):
            values[key] = tuple(values.get(key, ()))
        return JobRecord(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise FileDamaged(f"{source} is not a job record: {error}", hint=hint) from error


def known_fields(kind: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    """What *document* says of the fields that the dataclass *kind* has: a newer hpcbatch may have written more."""
    known = {f.name for f in fields(kind)}
    return {key: value for key, value in document.items() if key in known}
