"""Pipelines as users write them: the steps of a graph, pipeline jobs, and deployments of pipelines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from hpcbatch.errors import SpecError
from hpcbatch.spec.base import (
    Document,
    FreeMapping,
    Problem,
    RouteName,
    Text,
    TextMapping,
    lowered,
    not_allowed,
    parse,
    spec_error,
    wrong,
)
from hpcbatch.spec.component import (
    KINDS,
    CommandFields,
    Given,
    ParallelFields,
    no_such_type,
    part,
)
from hpcbatch.spec.ports import InputMode, OutputMode, PortType
from hpcbatch.spec.preview import modern
from hpcbatch.spec.yamlfile import Loaded

_VALUES = "a value, a ${{ }} binding, or a mapping with type and path"
_STEP_RULE = "letters, digits and '_', beginning with a letter or '_'"
ComponentRef = Annotated[str | dict[str, Any], Field(union_mode="left_to_right")]


class InputValue(Document):
    """What an input is given, if it is a mapping: a path with its type, or a literal in `value` or `default`."""

    type: PortType | None = None
    path: Text | None = None
    mode: InputMode = None
    value: Any = None
    default: Any = None
    min: Any = None
    max: Any = None
    enum: list[Text] | None = None
    optional: bool | None = None
    description: str | None = None
    datastore: str | None = None
    path_on_compute: str | None = None
    name: Text | None = None
    storage_options: FreeMapping = Field(default_factory=dict)


class OutputValue(Document):
    """What is said about an output: where it goes, and under which name it is registered."""

    type: PortType | None = None
    path: Text | None = None
    mode: OutputMode = None
    name: Text | None = None
    version: Text | None = None
    description: str | None = None
    datastore: str | None = None
    path_on_compute: str | None = None
    storage_options: FreeMapping = Field(default_factory=dict)


class Step(Document):
    """What every step of a pipeline has. Values of inputs and outputs are read by `input_value` and `output_value`."""

    type: str
    component: ComponentRef | None = None
    name: Text | None = None
    display_name: str | None = None
    description: str | None = None
    comment: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)
    inputs: FreeMapping = Field(default_factory=dict)
    outputs: FreeMapping = Field(default_factory=dict)
    compute: Given | None = None
    identity: FreeMapping = Field(default_factory=dict)
    services: FreeMapping = Field(default_factory=dict)
    is_deterministic: bool | None = None
    experiment_name: str | None = None


class CommandStep(Step, CommandFields):
    """A command: of a component, or written in the step."""

    type: Literal["command"] = "command"

    @model_validator(mode="after")
    def _says_what_to_run(self) -> CommandStep:
        if self.component is None and self.command is None:
            raise wrong("this step says neither component nor command", "component: or command:")
        if self.component is not None and (self.command or self.code):
            raise wrong("this step says component, and command or code as well", "only one of them")
        return self


class ParallelStep(Step, ParallelFields):
    """Mini-batches: of a component, or with the task written in the step."""

    type: Literal["parallel"] = "parallel"

    @model_validator(mode="after")
    def _says_what_to_run(self) -> ParallelStep:
        if self.component is None and self.task is None:
            raise wrong("this step says neither component nor task", "component: or task:")
        return self


class PipelineStep(Step):
    """A pipeline component as a step."""

    type: Literal["pipeline"] = "pipeline"
    component: ComponentRef
    settings: FreeMapping = Field(default_factory=dict)
    resources: FreeMapping = Field(default_factory=dict)
    environment_variables: TextMapping = Field(default_factory=dict)


class OtherStep(Step):
    """A step of a type that Azure ML runs and hpcbatch does not: kept as it is written."""

    model_config = ConfigDict(extra="allow")

    component: Any = None
    inputs: Any = None
    outputs: Any = None


_STEPS: dict[str, type[Step]] = {"command": CommandStep, "parallel": ParallelStep, "pipeline": PipelineStep}


@dataclass(frozen=True)
class StepDocument:
    """A step and the part of the file it is from."""

    name: str
    step: Step
    loaded: Loaded


def parse_steps(loaded: Loaded, jobs: Mapping[str, Any]) -> list[StepDocument]:
    """The steps below `jobs` of *loaded*, in the order of the file.

    Raises one SpecError with the problems of all of them.
    """
    found: list[StepDocument] = []
    problems: list[Problem] = []
    for name in jobs:
        one = modern(part(loaded, "jobs", name))
        try:
            found.append(StepDocument(_step_name(one, name), _parse_step(one), one))
        except SpecError as error:
            given = error.fields.get("problems")
            if not given:
                raise
            problems += [Problem(**each) for each in given]
    if problems:
        raise spec_error(problems, file=loaded.file)
    return found


def _parse_step(loaded: Loaded) -> Step:
    kind = _step_type(loaded)
    data = dict(loaded.data)
    for key in ("inputs", "outputs"):
        if isinstance(data.get(key), Mapping):
            data[key] = dict(data[key])
    return parse(_STEPS.get(kind, OtherStep), replace(loaded, data={**data, "type": kind}))


def _step_type(loaded: Loaded) -> str:
    data = loaded.data
    given = lowered(data.get("type"))
    if given is not None:
        if given not in KINDS:
            raise no_such_type(loaded, data["type"])
        return str(given)
    component = data.get("component")
    inner = component if isinstance(component, Mapping) else data
    if lowered(inner.get("type")) in KINDS:
        return str(lowered(inner["type"]))
    if "jobs" in inner:
        return "pipeline"
    if "task" in inner:
        return "parallel"
    return "sweep" if "trial" in inner else "command"


def _step_name(loaded: Loaded, name: str) -> str:
    if not name.replace("-", "_").isidentifier() or not name.isascii():
        raise SpecError(
            f"jobs.{name}: this cannot name a step.",
            hint=f"Allowed: {_STEP_RULE}. Correct {loaded.file}, and run the same command again.",
            file=loaded.file,
            line=loaded.lines.get((*loaded.written_as.get((), ()),)),
            field=f"jobs.{name}",
            found=name,
            allowed=_STEP_RULE,
        )
    return name


class PipelineSettings(Document):
    """How a pipeline is run. Azure ML ignores what it does not know here, and so do we."""

    model_config = ConfigDict(extra="allow")

    default_compute: Given | None = None
    default_datastore: Given | None = None
    continue_on_step_failure: bool | None = None
    force_rerun: bool | None = None


class PipelineJob(Document):
    """A pipeline job: a graph (its own `jobs`, or those of a `component`) with values for its inputs."""

    type: Annotated[Literal["pipeline"], BeforeValidator(lowered)] = "pipeline"
    name: Text | None = None
    display_name: str | None = None
    experiment_name: str | None = None
    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)
    compute: Given | None = None
    component: ComponentRef | None = None
    jobs: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] | None = None
    inputs: FreeMapping = Field(default_factory=dict)
    outputs: FreeMapping = Field(default_factory=dict)
    settings: Annotated[PipelineSettings, BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=PipelineSettings
    )
    identity: FreeMapping = Field(default_factory=dict)
    services: FreeMapping = Field(default_factory=dict)
    version: Text | None = None  # of no meaning for a job; files that are both job and component have it
    is_deterministic: bool | None = None

    @model_validator(mode="after")
    def _one_graph(self) -> PipelineJob:
        if self.component is not None and self.jobs is not None:
            raise wrong("'jobs' and 'component' are mutually exclusive fields in pipeline job", "one of them")
        if self.component is None and self.jobs is None:
            raise wrong("this pipeline job has no steps", "jobs: or component:")
        return self


class PipelineBatchDeployment(Document):
    """A pipeline component behind an endpoint."""

    name: RouteName
    endpoint_name: RouteName
    type: Literal["pipeline"] = "pipeline"
    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)
    component: ComponentRef | None = None
    job_definition: ComponentRef | None = None
    compute: Given | None = None
    settings: Annotated[PipelineSettings, BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=PipelineSettings
    )

    @model_validator(mode="after")
    def _one_origin(self) -> PipelineBatchDeployment:
        if (self.component is None) == (self.job_definition is None):
            said = "neither component nor" if self.component is None else "both component and"
            raise wrong(f"it says {said} job_definition", "one of them")
        return self


def input_value(loaded: Loaded, name: str, given: Any) -> InputValue:
    """What the input *name* of *loaded* is given, be it a scalar or a mapping. Raises SpecError."""
    if isinstance(given, Mapping):
        return parse(InputValue, part(loaded, "inputs", name))
    if isinstance(given, list):
        raise not_allowed(loaded, ("inputs", name), given, _VALUES)
    return InputValue.model_construct(value=given)


def output_value(loaded: Loaded, name: str, given: Any) -> OutputValue:
    """What is said about the output *name* of *loaded*: nothing, a binding or path, or a mapping. Raises SpecError."""
    if given is None:
        return OutputValue()
    if isinstance(given, Mapping):
        return parse(OutputValue, part(loaded, "outputs", name))
    if isinstance(given, str):
        return OutputValue(path=given)
    raise not_allowed(loaded, ("outputs", name), given, _VALUES)
