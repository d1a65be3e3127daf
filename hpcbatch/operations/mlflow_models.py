"""Deployments of MLflow models without a script: what they need, and the script of ours that the job carries instead.

No model is loaded on the login node.
"""

from __future__ import annotations

import io
import json
import os
import shlex
import zipfile
from pathlib import Path
from typing import Any

from hpcbatch.dataio.inputs import Items
from hpcbatch.errors import SpecError
from hpcbatch.ids import sha256
from hpcbatch.operations.resolve import ResolvedDeployment
from hpcbatch.records.job import CodePart
from hpcbatch.scoring import mlflow_model
from hpcbatch.words import counted

_SUPPORTED = (*mlflow_model.TABULAR, *mlflow_model.IMAGES)
_MAX_NAMED = 20


def check_items(items: Items) -> None:
    """Raises SpecError that names all files of a type that is not supported."""
    wrong = [name for name in map(os.fsdecode, items.names) if mlflow_model.file_type(name) not in _SUPPORTED]
    if not wrong:
        return
    named = ", ".join(repr(name) for name in wrong[:_MAX_NAMED])
    more = f" and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
    types = ", ".join(repr(kind) for kind in sorted({mlflow_model.file_type(name)[1:] for name in wrong})[:_MAX_NAMED])
    away = f"mv {shlex.quote(items.root + wrong[0])} ELSEWHERE"
    files = counted(len(items.names), "file")
    raise SpecError(
        f"{len(wrong)} of {files} cannot be scored: {named}{more}. File type {types} is not supported "
        f"without a scoring script; supported: {', '.join(_SUPPORTED)}.",
        hint=f"Take them out of the input (the first: {away}), or read them in a script of your own: "
        "add code_configuration and environment to the deployment.",
        field="input",
        found=[*wrong[:1000]],
        allowed=", ".join(_SUPPORTED),
    )


def builtin_code(resolved: ResolvedDeployment) -> tuple[bytes, CodePart]:
    """The zip with the script for models that have none, and how the job names it."""
    script = Path(mlflow_model.__file__)
    contents = {script.name: script.read_bytes(), mlflow_model.ABOUT: json.dumps(_about(resolved)).encode()}
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    data = target.getvalue()
    return data, CodePart("code.zip", sha256(data), script.name)


def _about(resolved: ResolvedDeployment) -> dict[str, Any]:
    """What to say where the environment cannot load the model."""
    model, environment = resolved.model, resolved.environment
    assert model is not None
    python = environment.python
    pattern = "*" if environment.name == "none" else environment.name
    choose = f", or choose a Python that has it, and invoke again: hpcbatch environment map '{pattern}' --python PATH"
    if environment.origin == "registered":
        choose = ""
    requirements = Path(model.path) / model.basename / "requirements.txt"
    install = f"-r {requirements}" if requirements.is_file() else "PACKAGE"
    return {
        "without_mlflow": f"The Python {python} of this deployment cannot load the MLflow model {model.name}. "
        f"Install mlflow there: {python} -m pip install mlflow{choose}",
        "without_package": f"The MLflow model {model.name} needs a package that the Python {python} does not have. "
        f"Install it there: {python} -m pip install {install}{choose}",
    }
