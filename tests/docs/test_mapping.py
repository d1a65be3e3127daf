"""The page about Azure ML says *not yet* of nothing that is there, and *same* of nothing that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from hpcbatch.cli.grammar import Verb
from hpcbatch.cli.invoke_request import _OTHER_KEYS
from hpcbatch.cli.not_here import instead_of
from hpcbatch.spec.assets import Data, Environment, Model
from hpcbatch.spec.base import READ_ONLY, Document, _document_in
from hpcbatch.spec.component import CommandComponent, ParallelComponent, PipelineComponent
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.deployment import ModelBatchDeployment
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.job_settings import SETTINGS
from hpcbatch.spec.pipeline import CommandStep, InputValue, OutputValue, PipelineBatchDeployment, PipelineJob
from hpcbatch.spec.ports import InputPort, OutputPort
from hpcbatch.spec.schema import KINDS_OF_DOCUMENTS
from tests.docs.cli_page import grammar
from tests.docs.places import ROOT

PAGE = ROOT / "docs" / "explanation" / "azure-ml-mapping.md"
ABSENT = {"not yet", "no"}
WORDS = {"same", "differs", "accepted", "refused", *ABSENT}
KINDS = {"data": Data, "environment": Environment, "model": Model, "compute": Compute}
PIPELINES: dict[str, type[Document]] = {
    "component": CommandComponent,
    "parallel": ParallelComponent,
    "pipeline": PipelineComponent,
    "input": InputPort,
    "output": OutputPort,
    "step": CommandStep,
    "value": InputValue,
    "target": OutputValue,
    "job": PipelineJob,
}


def rows(heading: str) -> list[list[str]]:
    """The cells of every table row under *heading*, its header left out."""
    section = PAGE.read_text("utf-8").partition(f"\n## {heading}\n")[2].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]
    assert found, heading
    return found


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def has(model: type[Document], path: str) -> bool:
    """Whether a document of *model* may have the field `a.b`."""
    first, _, rest = path.partition(".")
    if first in READ_ONLY:
        return True
    if first not in model.model_fields:
        return False
    below = _document_in(model.model_fields[first].annotation)
    return not rest or (below is not None and has(below, rest))


def fields() -> Iterator[tuple[type[Document], str, str]]:
    for heading, model in (
        ("Endpoint YAML", BatchEndpoint),
        ("Model deployment YAML", ModelBatchDeployment),
        ("Pipeline deployment YAML", PipelineBatchDeployment),
    ):
        yield from ((model, path, word) for names, word, _ in rows(heading) for path in named(names))
    headings = {"Data, environments, models, computes": KINDS, "Components, steps, pipeline jobs": PIPELINES}
    for heading, kinds in headings.items():
        for names, word, _ in rows(heading):
            kind, _, paths = names.partition(":")
            yield from ((kinds[kind], path, word) for path in named(paths))


@pytest.mark.parametrize(("model", "path", "word"), list(fields()), ids=lambda each: getattr(each, "__name__", each))
def test_a_field_is_there_unless_the_page_says_not(model: type[Document], path: str, word: str) -> None:
    assert word in WORDS
    assert has(model, path) == (word not in ABSENT)


def every_field(model: type[Document], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        below = _document_in(field.annotation)
        if below is None or below in KINDS.values():
            yield prefix + name
        else:
            yield from every_field(below, f"{prefix}{name}.")


@pytest.mark.parametrize("model", [BatchEndpoint, ModelBatchDeployment, PipelineBatchDeployment, *PIPELINES.values()])
def test_every_field_of_ours_has_its_row(model: type[Document]) -> None:
    said = {path for kind, path, _ in fields() if kind is model}
    ours = {"kind"} | {f for f in every_field(model) if f.startswith("resources.properties.")}
    parts = said if model in PIPELINES.values() else set()  # there, a row may be about a whole part
    told = {field for field in every_field(model) if any(field.startswith(f"{part}.") for part in parts)}
    assert sorted(set(every_field(model)) - said - told - ours) == []


VERBS: dict[str, Verb] = {f"{noun} {verb.name}".strip(): verb for noun, verbs in grammar() for verb in verbs}


@pytest.mark.parametrize("row", rows("Commands"), ids=lambda row: row[0])
def test_a_verb_and_its_options_are_there_unless_the_page_says_not(row: list[str]) -> None:
    _, word, there, missing, _ = row
    assert word in WORDS
    for command in named(row[0]):
        assert (command in VERBS) == (word not in ABSENT)
        flags = {flag for option in VERBS[command].options for flag in option.flags} if command in VERBS else set()
        assert sorted(set(named(there)) - flags) == []
        assert sorted(set(named(missing)) & flags) == []


def test_every_verb_that_az_has_too_is_told_of() -> None:
    ours = {
        "job resume",
        "job logs",
        "environment map",
        "environment build",
        "configure",
        "completion bash",
        "completion zsh",
        "completion words",
        *(f"schema {kind}" for kind in KINDS_OF_DOCUMENTS),
    }
    told = {name for row in rows("Commands") for name in named(row[0])}
    assert sorted(set(VERBS) - told - ours) == []


def test_what_an_invocation_may_change_is_what_the_page_says() -> None:
    known = {*SETTINGS, *_OTHER_KEYS}
    for names, word, _ in rows("Invocation: `--file` and `--set`"):
        assert word in WORDS
        if not names.startswith(("`inputs.", "`outputs.")):
            assert [key for key in named(names) if (key in known) == (word == "refused")] == []


@pytest.mark.parametrize("heading", ["The scoring script", "Items, failures, output", "MLflow models without a script"])
def test_a_test_that_is_named_exists(heading: str) -> None:
    for _, word, _, tests in rows(heading):
        assert word in WORDS
        path, *cases = re.findall(r'`([^`]+)`|"([^"]+)"', tests) or [("", "")]
        if path[0]:
            text = (ROOT / path[0]).read_text("utf-8")
            assert [name for _, name in cases if f'"{name}"' not in text] == []
        assert path[0] or word in {"differs", *ABSENT}


def test_what_the_page_says_is_not_here_says_what_to_do_instead() -> None:
    absent = {name for names, word, *_ in rows("Commands") if word in ABSENT for name in named(names)}
    assert absent
    for name in absent:
        assert "hpcbatch " in instead_of(*name.split()) or "srun " in instead_of(*name.split()), name
