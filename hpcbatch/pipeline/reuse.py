"""What makes two runs of a step the same run: one key for everything that its outputs can depend on."""

from __future__ import annotations

from collections.abc import Mapping

from hpcbatch.ids import canonical, sha256
from hpcbatch.records.pipeline import LITERAL_TYPES, PipelineRecord, PipelineStep, StepInput, split_binding


def literal(found: StepInput, record: PipelineRecord) -> str | None:
    """The text of an input that is a literal, given here or as an input of the pipeline; None for data."""
    if found.kind == "literal":
        return found.value
    if found.kind == "input" and record.inputs[found.value].type in LITERAL_TYPES:
        return record.inputs[found.value].value
    return None


def output_identity(step_key: str, output: str) -> str:
    """What identifies an output of the step run that has *step_key*."""
    return f"{step_key}/{output}"


def step_key(step: PipelineStep, identities: Mapping[str, str]) -> str:
    """The key of a run of *step* whose inputs have these *identities*: digests, texts, keys of the producers.

    Two runs with one key run the same command with the same code, environment and inputs. Names of steps, jobs and
    computes are not in it: they change nothing.
    """
    about = {
        "component": step.component_sha256,
        "command": step.command,
        "code": step.code.digest if step.code else None,
        "environment": [step.environment_name, step.python],
        "environment_variables": dict(step.environment_variables),
        "distribution": dict(step.distribution or {}),
        "instance_count": step.instance_count,
        "parallel": vars(step.parallel) if step.parallel else None,
        "inputs": dict(identities),
        "outputs": {name: output.type for name, output in step.outputs.items()},
    }
    return sha256(canonical(about))


def producer(found: StepInput) -> tuple[str, str] | None:
    """(step, output) that an input reads from; None if it reads from none."""
    return split_binding(found.value) if found.kind == "step" else None
