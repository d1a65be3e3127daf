"""The generated reference says what the code does now, and its examples are understood."""

from __future__ import annotations

import re
import shlex

import pytest

from hpcbatch.cli.grammar import Verb, verb_parser
from hpcbatch.cli.invoke_request import Given, request_of
from hpcbatch.spec import base, component, deployment
from hpcbatch.spec.base import parse
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.pipeline import PipelineBatchDeployment, PipelineJob, input_value, parse_steps
from hpcbatch.spec.schema import KINDS_OF_DOCUMENTS
from hpcbatch.spec.yamlfile import Loaded, loads
from tests.docs import cli_page, yaml_page
from tests.docs.generate import COMMAND, PAGES, REFERENCE, generated, schema


@pytest.mark.parametrize("name", PAGES)
def test_a_generated_page_is_up_to_date(name: str) -> None:
    path = REFERENCE / name
    found = path.read_text("utf-8") if path.exists() else ""
    assert found == generated(name), f"docs/reference/{name} is stale. Run: {COMMAND}"


@pytest.mark.parametrize("kind", KINDS_OF_DOCUMENTS)
def test_a_schema_is_up_to_date(kind: str) -> None:
    path = REFERENCE / "schemas" / f"{kind}.json"
    found = path.read_text("utf-8") if path.exists() else ""
    assert found == schema(kind), f"docs/reference/schemas/{kind}.json is stale. Run: {COMMAND}"


@pytest.mark.parametrize(("noun", "verb", "line"), list(cli_page.examples()), ids=lambda each: each or None)
def test_an_example_is_understood_by_the_grammar(noun: str, verb: Verb, line: str) -> None:
    words = shlex.split(line)
    expected = ["hpcbatch", noun, *([verb.name] if verb.name else [])]
    assert words[: len(expected)] == expected
    verb_parser(noun, verb).parse_args(words[len(expected) :])


def test_the_meanings_are_of_fields_that_exist() -> None:
    """A field that was removed takes its sentence with it."""
    known = {f"{kind.__name__}.{name}" for kind in _subclasses(base.Document) for name in kind.model_fields}
    said = {f"{kind}.{name}" for kind, fields in yaml_page.MEANINGS.items() for name in fields}
    assert sorted(said - known) == []


def _subclasses(kind: type[base.Document]) -> list[type[base.Document]]:
    return [each for below in kind.__subclasses__() for each in (below, *_subclasses(below))]


def _documents(heading: str) -> list[Loaded]:
    page = (REFERENCE / "yaml.md").read_text("utf-8")
    section = re.split(r"^## ", page.partition(f"\n## {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"```yaml\n(.*?)```", section, re.DOTALL)
    assert found, heading
    return [loads(text.encode(), "yaml.md", REFERENCE) for text in found]


def test_the_yaml_of_the_page_is_read() -> None:
    [endpoint] = _documents("Endpoint")
    assert parse(BatchEndpoint, endpoint).name == "heart-batch"
    [compute] = _documents("Compute")
    assert parse(Compute, compute).partition == "short"


def test_the_yaml_of_the_page_about_pipelines_is_read() -> None:
    page = (REFERENCE / "yaml-pipelines.md").read_text("utf-8")
    texts = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    *components, job, graph, invocation = [loads(text.encode(), "page.yml", REFERENCE) for text in texts]
    assert [component.parse_component(one).type for one in components] == ["command", "parallel", "pipeline"]
    assert [one.name for one in parse_steps(components[2], components[2].data["jobs"])] == ["prepare", "score"]
    assert parse(PipelineJob, job).component == "./pipeline.yml"
    assert parse(PipelineBatchDeployment, graph).settings.default_compute == "azureml:short"
    assert {name: input_value(invocation, name, one).type for name, one in invocation.data["inputs"].items()} == {
        "raw": "uri_folder",
        "rate": "number",
    }


def test_both_forms_of_a_deployment_are_the_same_deployment() -> None:
    today, with_slurm, older = map(deployment.parse_deployment, _documents("Model deployment"))
    assert today == older
    assert "type" in _documents("Model deployment")[0].data
    assert "type" not in _documents("Model deployment")[2].data
    assert with_slurm.resources is not None
    assert with_slurm.resources.properties is not None
    assert with_slurm.resources.properties.slurm is not None


def test_the_invocation_of_the_page_is_read(tmp_path_factory: pytest.TempPathFactory) -> None:
    page = (REFERENCE / "yaml.md").read_text("utf-8").partition("\n## Invocation\n")[2]
    text = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    file = tmp_path_factory.mktemp("invocation") / "invocation.yml"
    file.write_text(text)
    request = request_of(Given(endpoint="heart-batch", file=str(file)))
    assert request.deployment == "first"
    assert request.input is not None
    assert request.input.path == str(file.parent / "data")
    assert request.output_path == "/shared/results/run-1"
    assert request.overrides == {"mini_batch_size": 5, "timeout_s": 600.0}
