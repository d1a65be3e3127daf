"""Write the generated pages of docs/reference: `python -m tests.docs.generate`."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from hpcbatch.spec.schema import KINDS_OF_DOCUMENTS, schema_of
from tests.docs import cli_page, errors_page, pipeline_page, python_page, yaml_page

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
COMMAND = "python -m tests.docs.generate"
NOTE = f"<!-- Generated: change {{origin}}, then run `{COMMAND}`. -->\n\n"
PAGES: Mapping[str, tuple[Callable[[], str], str]] = {
    "cli.md": (cli_page.page, "hpcbatch/cli"),
    "yaml.md": (yaml_page.page, "hpcbatch/spec, tests/docs/meanings.toml or tests/docs/templates/yaml.md"),
    "yaml-pipelines.md": (
        pipeline_page.page,
        "hpcbatch/spec, tests/docs/meanings.toml or tests/docs/templates/yaml-pipelines.md",
    ),
    "python.md": (python_page.page, "hpcbatch/client"),
    "exit-codes.md": (errors_page.page, "hpcbatch/errors.py or tests/docs/templates/exit-codes.md"),
}


def generated(name: str) -> str:
    """What the page must be."""
    page, origin = PAGES[name]
    return NOTE.format(origin=origin) + page()


def schema(kind: str) -> str:
    """What `schemas/KIND.json` must be: what `hpcbatch schema KIND` prints."""
    return json.dumps(schema_of(kind), indent=2) + "\n"


def main() -> None:
    """Write every page, and the schemas."""
    (REFERENCE / "schemas").mkdir(exist_ok=True)
    for kind in KINDS_OF_DOCUMENTS:
        (REFERENCE / "schemas" / f"{kind}.json").write_text(schema(kind), "utf-8")
    for name in PAGES:
        (REFERENCE / name).write_text(generated(name), "utf-8")
        print(REFERENCE / name)


if __name__ == "__main__":
    main()
