"""The sealed description of one job: everything resolved, nothing left to look up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical

SCHEMA = "hpcbatch.job/1"


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


@dataclass(frozen=True)
class ComputePart:
    """Where the job runs. `slurm` holds checked sbatch settings; `throttle` array tasks run at once."""

    name: str
    kind: str
    tier: str
    throttle: int
    slurm: Mapping[str, Any]


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
        parts = {"scoring": ScoringPart, "compute": ComputePart, "model": ModelPart, "code": CodePart}
        values = _known(JobRecord, document)
        for key, kind in parts.items():
            if values.get(key) is not None:
                values[key] = kind(**_known(kind, values[key]))
        values["warnings"] = tuple(values.get("warnings", ()))
        return JobRecord(**values)
    except (ValueError, TypeError, AttributeError) as error:
        raise FileDamaged(f"{source} is not a job record: {error}", hint=hint) from error


def _known(kind: Any, document: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name for f in fields(kind)}
    return {key: value for key, value in document.items() if key in known}
