"""`${{parent.inputs.x}}` and its relatives: what a step says about where its data comes from and goes to."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_EXPRESSION = re.compile(r"\$\{\{\s*([^{}]*?)\s*\}\}")
_INPUT = re.compile(rf"(?:parent\.)?inputs\.({_NAME}(?:\.{_NAME})*?)(?:\.(?:path|result))?\Z")
_OUTPUT = re.compile(rf"(?:parent\.)?outputs\.({_NAME})(?:\.path)?\Z")
_STEP = re.compile(rf"(?:parent\.)?jobs\.({_NAME})\.(inputs|outputs)\.({_NAME})(?:\.path)?\Z")

FORMS = "${{parent.inputs.NAME}}, ${{parent.jobs.STEP.outputs.NAME}}, ${{parent.jobs.STEP.inputs.NAME}}"
OUTPUT_FORMS = "${{parent.outputs.NAME}}, a path, or nothing"


@dataclass(frozen=True)
class Binding:
    """A reference inside a pipeline: `kind` is `input`, `output` (of the pipeline), `step_input` or `step_output`."""

    kind: str
    name: str
    step: str = ""


def expressions(text: str) -> list[str]:
    """What stands inside each `${{ }}` of *text*."""
    return [match[1] for match in _EXPRESSION.finditer(text)]


def whole_expression(text: str) -> str | None:
    """What stands inside the `${{ }}` that *text* is; None if it is anything else."""
    match = _EXPRESSION.fullmatch(text.strip())
    return match[1] if match else None


def binding_of(expression: str) -> Binding | None:
    """The reference that *expression* is, `parent.` or not (the preview of 2021 had none); None if it is none."""
    if match := _STEP.match(expression):
        return Binding("step_output" if match[2] == "outputs" else "step_input", match[3], match[1])
    if match := _INPUT.match(expression):
        return Binding("input", match[1])
    if match := _OUTPUT.match(expression):
        return Binding("output", match[1])
    return None


def substituted(text: str, values: dict[str, str]) -> str:
    """*text* with each `${{KEY}}` of *values* replaced; others stay."""
    return _EXPRESSION.sub(lambda match: values.get(match[1], match[0]), text)
