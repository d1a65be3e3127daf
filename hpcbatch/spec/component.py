"""Components as users write them: a command, a parallel task, a pipeline, or a type that is kept and not run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from hpcbatch.errors import SpecError
from hpcbatch.spec.assets import Asset
from hpcbatch.spec.base import Count, Document, FreeMapping, Natural, Number, Text, Whole, lowered, parse
from hpcbatch.spec.deployment import EnvironmentField, Resources, Variables
from hpcbatch.spec.ports import InputPorts, OutputPorts
from hpcbatch.spec.preview import modern
from hpcbatch.spec.yamlfile import FieldPath, Loaded

# Azure ML runs these, hpcbatch does not: what to use instead is said where one would have to run.
NOT_RUN = {
    "sweep": "several steps of type command, one for each value (or one command that searches by itself)",
    "spark": "a step of type command, or of type parallel for many files",
    "automl": "a step of type command that trains the model",
    "import": "a step of type command that copies the data to the shared filesystem",
    "data_transfer": "a step of type command that copies the data on the shared filesystem",
    "finetuning": "a step of type command that trains the model",
    "if_else": "two deployments, or a step of type command that decides",
    "do_while": "a step of type command that loops",
    "parallel_for": "a step of type parallel, or one step for each item",
    "flow_parallel": "a step of type parallel",
}
KINDS = ("command", "parallel", "pipeline", *NOT_RUN)

Given = Annotated[str, Field(min_length=1)]


def _lower(value: Any) -> Any:
    """`PyTorch`, `pytorch`: Azure compares these without regard to case."""
    return value.lower() if isinstance(value, str) else value


class Limits(Document):
    """How long a step may take, in seconds; the rest belongs to sweeps."""

    timeout: Annotated[Number, Field(gt=0)] | None = None
    max_total_trials: Count | None = None
    max_concurrent_trials: Count | None = None
    trial_timeout: Annotated[Number, Field(gt=0)] | None = None


class Distribution(Document):
    """How a command is started on several nodes."""

    type: Annotated[Literal["mpi", "pytorch", "tensorflow", "ray"], BeforeValidator(_lower)]
    process_count_per_instance: Count | None = None
    worker_count: Count | None = None
    parameter_server_count: Natural | None = None
    port: Natural | None = None
    address: str | None = None
    include_dashboard: bool | None = None
    dashboard_port: Natural | None = None
    head_node_additional_args: str | None = None
    worker_node_additional_args: str | None = None


class ParallelRetry(Document):
    """How often a mini-batch of a parallel step is tried again, and how long it may take (Azure ML: 2 times, 60 s)."""

    max_retries: Natural | Given = 2
    timeout: Annotated[Number, Field(gt=0, le=259200)] | Given = 60.0


class ParallelTask(Document):
    """What a parallel step runs for each mini-batch."""

    type: Annotated[Literal["run_function", "function", "model"], BeforeValidator(lowered)] = "run_function"
    code: Given | None = None
    entry_script: Given | None = None
    program_arguments: str = ""
    append_row_to: str | None = None
    model: Any = None
    environment: EnvironmentField | None = None


def _size(value: Any) -> Any:
    return str(getattr(value, "source", value)) if isinstance(value, int) and not isinstance(value, bool) else value


_SIZE = re.compile(r"([0-9]+)([kmg])b\Z", re.ASCII | re.IGNORECASE)
_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def bytes_of(mini_batch_size: str | None) -> int:
    """The bytes that `10kb`, `5MB` or `1gb` are (azure-ai-ml: units of 1024); 0 for a number of items, or nothing."""
    match = _SIZE.match(str(mini_batch_size or ""))
    return int(match[1]) * _UNITS[match[2].lower()] if match else 0


def _script_level(value: Any) -> Any:
    return lowered(value).replace("warn", "warning") if lowered(value) == "warn" else lowered(value)


class ParallelFields(Document):
    """What a parallel component and a parallel step have in common."""

    task: ParallelTask | None = None
    input_data: str | None = None
    mini_batch_size: Annotated[Given | None, BeforeValidator(_size)] = None
    partition_keys: list[Text] | None = None
    mini_batch_error_threshold: Annotated[Whole, Field(ge=-1)] | Given | None = None
    error_threshold: Annotated[Whole, Field(ge=-1)] | Given | None = None
    max_concurrency_per_instance: Count | Given | None = None
    retry_settings: ParallelRetry | None = None
    logging_level: Annotated[
        Literal["warning", "info", "debug"] | None, BeforeValidator(_script_level)
    ] = None  # fmt: skip
    resources: Resources | None = None
    environment_variables: Variables = Field(default_factory=dict)


class CommandFields(Document):
    """What a command component and a command step have in common."""

    command: Given | None = None
    code: Given | None = None
    environment: EnvironmentField | None = None
    environment_variables: Variables = Field(default_factory=dict)
    resources: Resources | None = None
    distribution: Distribution | None = None
    limits: Limits | None = None
    additional_includes: list[Given] = Field(default_factory=list)
    queue_settings: FreeMapping = Field(default_factory=dict)


class Component(Asset):
    """What every component has."""

    type: str
    display_name: str | None = None
    is_deterministic: bool = True
    inputs: InputPorts = Field(default_factory=dict)
    outputs: OutputPorts = Field(default_factory=dict)
    intellectual_property: FreeMapping = Field(default_factory=dict)


class CommandComponent(Component, CommandFields):
    """A command with declared inputs and outputs."""

    type: Annotated[Literal["command"], BeforeValidator(lowered)] = "command"
    command: Given
    environment: EnvironmentField
    services: FreeMapping = Field(default_factory=dict)
    identity: FreeMapping = Field(default_factory=dict)


class ParallelComponent(Component, ParallelFields):
    """A script whose `run()` is called for one mini-batch after another."""

    type: Annotated[Literal["parallel"], BeforeValidator(lowered)] = "parallel"
    task: ParallelTask
    identity: FreeMapping = Field(default_factory=dict)


class PipelineComponent(Component):
    """A graph of steps. Each step is parsed on its own (spec/pipeline.py), by its type."""

    type: Annotated[Literal["pipeline"], BeforeValidator(lowered)] = "pipeline"
    jobs: Annotated[dict[str, dict[str, Any]], Field(min_length=1)]
    settings: FreeMapping = Field(default_factory=dict)
    compute: Given | None = None


class OtherComponent(Component):
    """A component of a type that Azure ML runs and hpcbatch does not: kept as it is written."""

    model_config = ConfigDict(extra="allow")


_MODELS: dict[str, type[Component]] = {
    "command": CommandComponent,
    "parallel": ParallelComponent,
    "pipeline": PipelineComponent,
}


def parse_component(loaded: Loaded) -> Component:
    """The component in *loaded*, by its `type`. Raises SpecError with every problem, its line and what is allowed."""
    loaded = modern(loaded)
    kind = component_type(loaded)
    model = _MODELS.get(kind, OtherComponent)
    return parse(model, replace(loaded, data={**loaded.data, "type": kind}))


def component_type(loaded: Loaded) -> str:
    """`command`, `parallel`, `pipeline` or a type of NOT_RUN: what the file says, or what its fields can only mean."""
    given = lowered(loaded.data.get("type"))
    if given is None:
        found = [kind for key, kind in (("jobs", "pipeline"), ("task", "parallel")) if key in loaded.data]
        return found[0] if found else "command"
    if isinstance(given, str) and given in KINDS:
        return given
    raise no_such_type(loaded, loaded.data["type"])


def no_such_type(loaded: Loaded, given: Any, at: FieldPath = ("type",)) -> SpecError:
    """The SpecError for a `type` that nothing has. v1 components say `CommandComponent`, `HDInsightComponent`."""
    written = (*loaded.written_as.get((), ()), *at)
    return SpecError(
        f"{'.'.join(map(str, written))}: {str(given)[:80]!r} is not a type of component or step.",
        hint=f"Allowed: {', '.join(KINDS)}. Correct {loaded.file}, and run the same command again.",
        file=loaded.file,
        line=next((loaded.lines[written[:n]] for n in range(len(written), 0, -1) if written[:n] in loaded.lines), None),
        field=".".join(map(str, written)),
        found=given,
        allowed=", ".join(KINDS),
    )


def part(loaded: Loaded, *path: str | int) -> Loaded:
    """The mapping at *path* of *loaded* as a document whose errors still name file, line and whole field."""
    at: Any = loaded.data
    for one in path:
        at = at[one]
    if not isinstance(at, Mapping):
        at = {}
    written = next(
        (to + path[len(below) :] for below, to in loaded.written_as.items() if path[: len(below)] == below), path
    )
    return replace(loaded, data=dict(at), written_as={(): written})
