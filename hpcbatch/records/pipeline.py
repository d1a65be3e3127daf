"""The sealed description of one pipeline job: every step resolved, nothing left to look up."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from hpcbatch.errors import FileDamaged
from hpcbatch.ids import canonical
from hpcbatch.records.job import CodePart, ComputePart, known_fields

SCHEMA = "hpcbatch.pipeline/1"

#: The types whose value is text; every other type is a file or a folder.
LITERAL_TYPES = ("string", "integer", "number", "boolean")


@dataclass(frozen=True)
class StepInput:
    """Where one input of a step comes from.

    `kind` is `literal` (`value` is the text), `path` (an absolute path or a URL), `input` (the name of an input of
    the pipeline) or `step` (`"<step>.<output>"`). An optional input without a value is absent from the step.
    `digest` is the content of a path where it is known beforehand (a registered version), else empty. A URL is fetched
    on the node, with `options` (credentials by reference), unless it is `direct`: then the program reads it.
    """

    type: str
    kind: str
    value: str
    digest: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False


@dataclass(frozen=True)
class StepOutput:
    """Where one output of a step goes: an output of the pipeline, an explicit path, or (neither) the job directory.

    `register_as` is `name` or `name:version` where the output becomes a registered asset.
    """

    type: str
    pipeline_output: str | None = None
    path: str | None = None
    register_as: str = ""


@dataclass(frozen=True)
class ParallelPart:
    """How a parallel step cuts and scores its input: `input` and `append_row_to` name inputs/outputs of the step.

    Mini-batches are the partitions of `partition_keys` where there are some, hold `mini_batch_bytes` where that is not
    0, else `mini_batch_size` items.
    """

    entry_script: str
    input: str
    program_arguments: str
    append_row_to: str | None
    mini_batch_size: int
    mini_batch_error_threshold: int
    error_threshold: int
    max_concurrency_per_instance: int
    max_retries: int
    timeout_s: float
    logging_level: str
    mini_batch_bytes: int = 0
    partition_keys: tuple[str, ...] = ()


@dataclass(frozen=True)
class PipelineStep:
    """One node of the graph. A step of a nested pipeline component is named `outer.inner`.

    `command` is the template as written: `${{inputs.x}}`, `${{outputs.y}}` and `$[[ ]]` groups are still in it.
    `component` is `name:version` or `anonymous`; `component_sha256` identifies what the component says.
    `code.file` is relative to the job directory (`code/<digest>.zip`).
    """

    name: str
    kind: str  # "command" or "parallel"
    display_name: str
    component: str
    component_sha256: str
    command: str
    code: CodePart | None
    python: str
    environment_name: str
    environment_origin: str
    environment_variables: Mapping[str, str]
    inputs: Mapping[str, StepInput]
    outputs: Mapping[str, StepOutput]
    optional_inputs: tuple[str, ...]
    compute: ComputePart
    instance_count: int = 1
    distribution: Mapping[str, Any] | None = None
    is_deterministic: bool = True
    timeout_s: float | None = None
    parallel: ParallelPart | None = None

    @property
    def dependencies(self) -> tuple[str, ...]:
        """The names of the steps whose outputs this one reads, each once, sorted."""
        return tuple(sorted({split_binding(i.value)[0] for i in self.inputs.values() if i.kind == "step"}))


@dataclass(frozen=True)
class PipelineInput:
    """One input of the pipeline: a literal's text, or an absolute path or URL."""

    type: str
    value: str
    digest: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    direct: bool = False


@dataclass(frozen=True)
class PipelineOutput:
    """One output of the pipeline: an absolute folder or file, or a URL that is written with `options`."""

    type: str
    path: str
    register_as: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PipelineRecord:
    """`pipeline.json`. Written once before anything is submitted and never changed; steps are in topological order."""

    name: str
    uuid: str  # 32 hex digits
    endpoint: str | None
    deployment: str | None
    deployment_revision: int
    display_name: str
    experiment_name: str
    created: str  # UTC, ISO 8601; information only
    user: str
    inputs: Mapping[str, PipelineInput]
    outputs: Mapping[str, PipelineOutput]
    steps: tuple[PipelineStep, ...]
    continue_on_step_failure: bool
    force_rerun: bool
    request_sha256: str  # digest of what was asked: the same job name with another request is a conflict
    warnings: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    travelling: tuple[str, ...] = ()  # names of environment variables that fetching and putting need
    secrets: tuple[str, ...] = ()  # those of them that hold secrets: not for user code
    dependency: str = ""  # what Slurm waits for before the first steps, as sbatch(1) has it

    @property
    def slurm_name(self) -> str:
        """The prefix of the Slurm job names of the steps: the job's identity in the queue."""
        return f"hb-{self.uuid[:12]}"

    def step(self, name: str) -> PipelineStep:
        """The step called *name*; KeyError where there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        raise KeyError(name)

    def to_bytes(self) -> bytes:
        """The canonical file content."""
        return canonical({"schema": SCHEMA, **asdict(self)})


def split_binding(value: str) -> tuple[str, str]:
    """`("outer.inner", "model")` of `"outer.inner.model"`: a step, whose name may hold dots, and its output."""
    step, _, output = value.rpartition(".")
    return step, output


def parse_pipeline(data: bytes, source: str) -> PipelineRecord:
    """The record in *data*; unknown keys are ignored, another schema version is refused with FileDamaged."""
    hint = "The job directory is damaged or was written by a newer hpcbatch; create the job again."
    try:
        document = json.loads(data)
        if document.get("schema") != SCHEMA:
            raise FileDamaged(f"{source}: schema {document.get('schema')!r}, expected {SCHEMA!r}.", hint=hint)
        values = known_fields(PipelineRecord, document)
        values["inputs"] = {k: _built(PipelineInput, v) for k, v in values["inputs"].items()}
        values["outputs"] = {k: _built(PipelineOutput, v) for k, v in values["outputs"].items()}
        values["steps"] = tuple(_step(step) for step in values["steps"])
        for key in ("warnings", "travelling", "secrets"):
            values[key] = tuple(values.get(key, ()))
        return PipelineRecord(**values)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        raise FileDamaged(f"{source} is not a pipeline record: {error}", hint=hint) from error


def _step(document: Mapping[str, Any]) -> PipelineStep:
    values = known_fields(PipelineStep, document)
    values["inputs"] = {k: _built(StepInput, v) for k, v in values["inputs"].items()}
    values["outputs"] = {k: _built(StepOutput, v) for k, v in values["outputs"].items()}
    values["optional_inputs"] = tuple(values["optional_inputs"])
    values["compute"] = _built(ComputePart, values["compute"])
    for key, kind in (("code", CodePart), ("parallel", ParallelPart)):
        if values.get(key) is not None:
            values[key] = _built(kind, values[key])
    if values.get("parallel") is not None:
        values["parallel"] = replace(values["parallel"], partition_keys=tuple(values["parallel"].partition_keys))
    return PipelineStep(**values)


def _built(kind: Any, document: Mapping[str, Any]) -> Any:
    return kind(**known_fields(kind, document))
