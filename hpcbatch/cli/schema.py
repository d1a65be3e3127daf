"""`hpcbatch schema`: the JSON schema of a kind of YAML file, for editors."""

from __future__ import annotations

import json

from hpcbatch.cli import render
from hpcbatch.cli.grammar import Call, Verb

_FILES = {
    "batch-endpoint": "endpoint.yml",
    "batch-deployment": "deployment.yml, of a model or of a pipeline",
    "component": "a component",
    "job": "a pipeline job",
    "model": "a model",
    "data": "a data asset",
    "environment": "an environment",
    "compute": "a compute",
}


def _print(kind: str) -> Verb:
    def run(call: Call) -> None:  # noqa: ARG001  # the signature of a handler
        from hpcbatch.spec.schema import schema_of

        render.text(json.dumps(schema_of(kind), indent=2) + "\n")

    return Verb(
        kind,
        f"Print the JSON schema of {_FILES[kind]}.",
        run,
        f"hpcbatch schema {kind}",
        details=f"In the first line of the file: # yaml-language-server: $schema=PATH/{kind}.json",
    )


VERBS = tuple(map(_print, _FILES))
