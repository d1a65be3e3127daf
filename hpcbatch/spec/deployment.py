"""Model deployments as users write them, in both generations of the YAML."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from hpcbatch.errors import SpecError
from hpcbatch.spec.assets import Environment, Model
from hpcbatch.spec.base import (
    Count,
    Document,
    FreeMapping,
    Natural,
    Number,
    RouteName,
    Text,
    TextMapping,
    Whole,
    lowered,
    parse,
    wrong,
)
from hpcbatch.spec.compute import SlurmSettings
from hpcbatch.spec.job_settings import VARIABLE, VARIABLE_RULE
from hpcbatch.spec.output_options import output_options
from hpcbatch.spec.yamlfile import FieldPath, Loaded

_IS_A_PIPELINE = "This describes a pipeline; a model deployment stays one, and a pipeline gets a deployment of its own."
_FILE_NAME_RULE = "a file name without '/', not beginning with '_' or '.', at most 200 bytes"


def _file_name_problem(name: str) -> tuple[str, str] | None:
    """What is wrong with *name* for the merged output, and what is allowed; None if nothing is."""
    bad = "/" in name or name.startswith(("_", ".")) or not name or any(ord(c) < 32 or ord(c) == 127 for c in name)
    if bad or len(name.encode("utf-8", "surrogatepass")) > 200:
        return f"{name[:80]!r} is not a plain file name", _FILE_NAME_RULE
    return None


def _file_name(name: str) -> str:
    if problem := _file_name_problem(name):
        raise wrong(*problem)
    return name


def plain_file_name(name: str) -> str:
    """*name* if it may be the `output_file_name` of a job. Raises SpecError."""
    if problem := _file_name_problem(name):
        raise SpecError(
            f"output_file_name: {problem[0]}.",
            hint="For example: --set output_file_name=predictions.csv",
            field="output_file_name",
            found=name,
            allowed=problem[1],
        )
    return name


def _variables(value: dict[str, str]) -> dict[str, str]:
    for name, text in value.items():
        if not VARIABLE.match(name) or "\0" in text:
            raise wrong(f"{name!r} cannot be an environment variable", VARIABLE_RULE)
    return value


def _properties(value: dict[str, Any]) -> dict[str, Any]:
    try:
        output_options(value)
    except SpecError as error:
        raise wrong(error.message.rstrip("."), str(error.fields["allowed"])) from error
    return value


def _text_or_mapping(value: Any) -> str:
    return "~text" if isinstance(value, str) else "~mapping"


FileName = Annotated[Text, AfterValidator(_file_name)]
Variables = Annotated[TextMapping, AfterValidator(_variables)]
Reference = Annotated[str, Field(min_length=1), Tag("~text")]
ModelField = Annotated[Reference | Annotated[Model, Tag("~mapping")], Discriminator(_text_or_mapping)]
EnvironmentField = Annotated[Reference | Annotated[Environment, Tag("~mapping")], Discriminator(_text_or_mapping)]


class CodeConfiguration(Document):
    """The folder that holds the scoring script, and the script in it."""

    code: Annotated[str, Field(min_length=1)]
    scoring_script: Annotated[str, Field(min_length=1)]


class RetrySettings(Document):
    """How often a mini-batch is tried again, and how many seconds one `run()` may take."""

    max_retries: Natural = 3
    timeout: Annotated[Number, Field(gt=0, le=259200)] = 30.0


class Settings(Document):
    """How the mini-batches of a model deployment are run."""

    instance_count: Count | None = None
    mini_batch_size: Count = 10
    max_concurrency_per_instance: Count = 1
    error_threshold: Annotated[Whole, Field(ge=-1)] = -1
    retry_settings: RetrySettings = Field(default_factory=RetrySettings)
    output_action: Annotated[Literal["append_row", "summary_only"], BeforeValidator(lowered)] = "append_row"
    output_file_name: FileName | None = None
    logging_level: Annotated[Literal["warning", "info", "debug"], BeforeValidator(lowered)] = "info"
    environment_variables: Variables = Field(default_factory=dict)

    @model_validator(mode="after")
    def _summary_has_no_file(self) -> Settings:
        if self.output_action == "summary_only" and self.output_file_name:
            message = "When output_action is set to summary_only, the output_file_name need not to be specified"
            raise wrong(message, "output_action: append_row, or no output_file_name")
        return self


class ResourceProperties(Document):
    """Free properties, of which `slurm` is ours: it overrides the compute's Slurm settings for this deployment."""

    model_config = ConfigDict(extra="allow")

    slurm: SlurmSettings | None = None


class Resources(Document):
    """What a deployment asks of its compute."""

    instance_count: Count | None = None
    instance_type: Text | None = None
    properties: ResourceProperties | None = None
    locations: list[str] | None = None
    shm_size: Text | None = None
    max_instance_count: Count | None = None
    docker_args: str | list[str] | None = None


class ModelBatchDeployment(Document):
    """One implementation behind an endpoint: a model, the script that runs it, where, and how."""

    name: RouteName
    endpoint_name: RouteName
    type: Literal["model"] = "model"
    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: Annotated[FreeMapping, AfterValidator(_properties)] = Field(default_factory=dict)
    model: ModelField | None = None
    code_configuration: CodeConfiguration | None = None
    environment: EnvironmentField | None = None
    compute: Annotated[str, Field(min_length=1)] | None = None
    resources: Resources | None = None
    error_threshold: Annotated[Whole, Field(ge=-1)] | None = None
    environment_variables: Variables = Field(default_factory=dict)
    settings: Annotated[Settings, BeforeValidator(lambda value: {} if value is None else value)] = Field(
        default_factory=Settings
    )

    @model_validator(mode="after")
    def _instance_count_once(self) -> ModelBatchDeployment:
        if self.resources and self.resources.instance_count and self.settings.instance_count:
            rule = "one of resources.instance_count and settings.instance_count"
            raise wrong("Can't set instance_count when resources is provided", rule)
        return self

    def effective(self) -> Settings:
        """The settings with what may also stand elsewhere (resources, the root) put in, and every default filled."""
        variables = {**self.environment_variables, **self.settings.environment_variables}
        changes: dict[str, Any] = {"environment_variables": variables}
        asked = self.resources.instance_count if self.resources else None
        changes["instance_count"] = self.settings.instance_count or asked or 1
        changes["output_file_name"] = self.settings.output_file_name or "predictions.csv"
        if self.error_threshold is not None and "error_threshold" not in self.settings.model_fields_set:
            changes["error_threshold"] = self.error_threshold
        return self.settings.model_copy(update=changes)


def is_pipeline(loaded_or_document: Mapping[str, Any]) -> bool:
    """Whether the YAML's data, or the registry's document, is that of a pipeline deployment."""
    given = loaded_or_document.get("type")
    if given is None:
        return bool({"component", "job_definition"} & loaded_or_document.keys())
    return str(given).lower() == "pipeline"


def parse_deployment(loaded: Loaded) -> ModelBatchDeployment:
    """The deployment in *loaded*, whichever generation of the YAML it is written in."""
    return parse(ModelBatchDeployment, normalised(loaded))


def normalised(loaded: Loaded) -> Loaded:
    """The same document in today's form: without `type`, the settings stood at the root."""
    kind = loaded.data.get("type")
    if kind is not None:
        if lowered(kind) == "pipeline":
            raise _refused(loaded, ("type",), _IS_A_PIPELINE, "pipeline", "model")
        if lowered(kind) != "model":
            raise _refused(loaded, ("type",), f"type: {kind!r} is not allowed.", kind, "'model' or 'pipeline'")
        return replace(loaded, data={**loaded.data, "type": lowered(kind)})
    for key in ("component", "job_definition"):
        if key in loaded.data:
            raise _refused(loaded, (key,), _IS_A_PIPELINE, key, "a model deployment")
    return _legacy(loaded)


def _legacy(loaded: Loaded) -> Loaded:
    given = loaded.data.get("settings")
    if given is not None and not isinstance(given, Mapping):
        return replace(loaded, data={**loaded.data, "type": "model"})
    settings = dict(given or {})
    data = {key: value for key, value in loaded.data.items() if key != "settings"}
    moved: dict[FieldPath, FieldPath] = {}
    for key in Settings.model_fields:
        if key not in data or key == "instance_count":
            continue
        if key in settings:
            text = f"{key} stands at the root and under settings."
            raise _refused(loaded, (key,), text, data[key], f"only settings.{key}")
        settings[key] = data.pop(key)
        moved["settings", key] = (key,)
    return replace(loaded, data={**data, "type": "model", "settings": settings}, written_as=moved)


def _refused(loaded: Loaded, path: FieldPath, text: str, found: Any, allowed: str) -> SpecError:
    return SpecError(
        text,
        hint=f"Allowed: {allowed}. Correct {loaded.file}, and run the same command again.",
        file=loaded.file,
        line=loaded.lines.get(path),
        field=".".join(map(str, path)),
        found=found,
        allowed=allowed,
    )
