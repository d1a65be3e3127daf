"""Computes: where a deployment runs. Every text that will reach sbatch is checked here."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from hpcbatch.spec.base import AssetName, Count, Document, FreeMapping, Natural, Text, TextMapping, lowered, wrong

_SLURM_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@,+=/\[\]*-]*\Z")
# sbatch(1), --constraint: features with counts, joined by & | , and in one level of [] and of ().
_FEATURE = r"[A-Za-z0-9][A-Za-z0-9_.:@+=/-]*(?:\*[0-9]+)?"
_FEATURES = rf"(?:{_FEATURE}|\({_FEATURE}(?:[&|]{_FEATURE})*\)(?:\*[0-9]+)?)"
_FEATURE_SET = rf"(?:{_FEATURES}|\[{_FEATURES}(?:[&|]{_FEATURES})*\])"
_CONSTRAINT = re.compile(rf"{_FEATURE_SET}(?:[&|,]{_FEATURE_SET})*\Z")
_SLURM_TIME = re.compile(r"(?:[0-9]{1,6}|[0-9]{1,4}(?::[0-9]{1,2}){1,2}|[0-9]{1,4}-[0-9]{1,2}(?::[0-9]{1,2}){0,2})\Z")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LINE_RULE = "one line of shell each, no #SBATCH, no control characters"
_WORD_RULE = "letters, digits and _.:@,+=/[]*- beginning with a letter or digit"


def _word(text: str) -> str:
    if not _SLURM_WORD.match(text) or len(text) > 1000:
        raise wrong(f"{text[:80]!r} may not be given to Slurm", _WORD_RULE)
    return text


def _constraint(text: str) -> str:
    return text if len(text) <= 1000 and _CONSTRAINT.match(text) else _word(text)


def _time(value: Any) -> int | str:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 1:
        return int(value)
    if isinstance(value, str) and _SLURM_TIME.match(value):
        return int(value) if re.fullmatch("[1-9][0-9]*", value) else value  # `--set time=60` is the number in a file
    raise wrong(f"{value!r} is not a time limit", "minutes, MM:SS, HH:MM:SS or D-HH:MM:SS")


def _setup(value: Any) -> Any:
    lines = value.splitlines() if isinstance(value, str) else value
    for line in lines if isinstance(lines, list) else []:
        if isinstance(line, str) and (line.lstrip().startswith("#SBATCH") or _CONTROL.search(line)):
            raise wrong(f"{line[:80]!r} is not a line of shell", _LINE_RULE)
    return lines


SlurmWord = Annotated[Text, AfterValidator(_word)]
Constraint = Annotated[Text, AfterValidator(_constraint)]
SlurmTime = Annotated[int | str, BeforeValidator(_time)]


class MergeSettings(Document):
    """Where the merge job runs if not where the array runs."""

    partition: SlurmWord | None = None
    account: SlurmWord | None = None
    qos: SlurmWord | None = None
    time: SlurmTime | None = None
    mem: SlurmWord | None = None


class SlurmSettings(Document):
    """What one array task asks Slurm for. Fields left out are the site's defaults."""

    partition: SlurmWord | None = None
    low_priority_partition: SlurmWord | None = None
    account: SlurmWord | None = None
    qos: SlurmWord | None = None
    constraint: Constraint | None = None
    gres: SlurmWord | None = None
    cpus_per_task: Count | None = None
    mem: SlurmWord | None = None
    mem_per_cpu: SlurmWord | None = None
    time: SlurmTime | None = None
    nodelist: SlurmWord | None = None
    exclude: SlurmWord | None = None
    reservation: SlurmWord | None = None
    setup: Annotated[list[str] | None, BeforeValidator(_setup)] = None
    max_array_tasks: Count | None = None
    merge: MergeSettings | None = None

    @model_validator(mode="after")
    def _one_way_to_ask_for_memory(self) -> Self:
        if self.mem and self.mem_per_cpu:
            raise wrong("mem and mem_per_cpu are both given", "one of mem and mem_per_cpu")
        return self


SLURM_FIELDS = tuple(SlurmSettings.model_fields)


class Compute(SlurmSettings):
    """A named place to run: `slurm` with its settings, `local` = this machine, or `amlcompute` as Azure ML has it."""

    name: AssetName
    type: Annotated[Literal["slurm", "local", "amlcompute"], BeforeValidator(lowered)] = "amlcompute"
    description: str | None = None
    tags: TextMapping = Field(default_factory=dict)
    properties: FreeMapping = Field(default_factory=dict)
    location: str | None = None
    size: Text | None = None
    tier: Annotated[Literal["dedicated", "low_priority"], BeforeValidator(lowered)] = "dedicated"
    min_instances: Natural = 0
    max_instances: Count | None = None
    idle_time_before_scale_down: Natural | None = None
    ssh_public_access_enabled: bool | None = None
    ssh_settings: FreeMapping = Field(default_factory=dict)
    network_settings: FreeMapping = Field(default_factory=dict)
    identity: FreeMapping = Field(default_factory=dict)
    enable_node_public_ip: bool | None = None
    created_on: str | None = None
    resource_id: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _priority_is_the_tier(cls, data: Any) -> Any:
        """`priority: LowPriority` was the word of the previews of 2021."""
        if isinstance(data, dict) and "priority" in data and "tier" not in data:
            return {**{key: value for key, value in data.items() if key != "priority"}, "tier": data["priority"]}
        return data

    @model_validator(mode="after")
    def _fields_belong_to_the_type(self) -> Self:
        given = [name for name in SLURM_FIELDS if getattr(self, name) is not None]
        if self.type != "slurm" and given:
            raise wrong(f"{', '.join(given)}: only a compute of `type: slurm` has this", "type: slurm")
        if self.max_instances is not None and self.min_instances > self.max_instances:
            raise wrong("min_instances is larger than max_instances", f"min_instances <= {self.max_instances}")
        return self
