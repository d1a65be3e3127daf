"""What the command of a step finds in its environment."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hpcbatch.fs import publish
from hpcbatch.records.pipeline import PipelineStep
from hpcbatch.steps.pipelinedir import PipelineDir

# `PYTHON…` would lead another interpreter astray, the others are ours, or say which environment we run in.
_NOT_FOR_USER_CODE = ("PYTHON", "HPCBATCH_", "SUBMITIT_", "MLFLOW_")
_OURS = ("VIRTUAL_ENV", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "CONDA_SHLVL")


@dataclass(frozen=True)
class Given:
    """What differs from step to step: resolved paths and literals by name, and variables that we add."""

    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    more: Mapping[str, str]


def step_environment(
    job: PipelineDir, step: PipelineStep, given: Given, shims: Path, environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment of *step*'s command.

    `python` and `python3` are the interpreter of the step's environment: its folder leads PATH, and where a name is
    missing or is another one, a program in *shims*. Then come AZUREML_* as Azure ML's own jobs see them, then the
    variables of the component.
    """
    hidden = {*_OURS, *job.record.secrets}
    found = {k: v for k, v in environ.items() if not k.startswith(_NOT_FOR_USER_CODE) and k not in hidden}
    folder = Path(step.python).parent
    front = [str(folder)]
    if _shim(step.python, shims):
        front.insert(0, str(shims))
    found["PATH"] = os.pathsep.join([*front, found.get("PATH", os.defpath)])
    if (folder.parent / "pyvenv.cfg").is_file():
        found["VIRTUAL_ENV"] = str(folder.parent)
    elif (folder.parent / "conda-meta").is_dir():
        found["CONDA_PREFIX"] = str(folder.parent)
    found |= {
        "AZUREML_RUN_ID": f"{job.record.name}.{step.name}",
        "AZUREML_ROOT_RUN_ID": job.record.name,
        "AZUREML_EXPERIMENT_NAME": job.record.experiment_name,
        "AZUREML_NODE_COUNT": str(step.instance_count),
        "AZUREML_JOB_NAME": f"{job.record.name}.{step.name}",
    }
    found |= {f"AZURE_ML_INPUT_{name}": text for name, text in given.inputs.items()}
    found |= {f"AZURE_ML_OUTPUT_{name}": text for name, text in given.outputs.items()}
    return found | dict(given.more) | dict(step.environment_variables)


def _shim(python: str, folder: Path) -> bool:
    """Programs `python` and `python3` in *folder* that are *python*, where the folder of *python* has others."""
    wanted = [name for name in ("python", "python3") if not _is_same(Path(python).parent / name, python)]
    for name in wanted:
        publish.make_directory(folder)
        publish.write_program(folder / name, f'#!/bin/sh\nexec {shlex.quote(python)} "$@"\n'.encode())
    return bool(wanted)


def _is_same(path: Path, python: str) -> bool:
    return os.path.realpath(path) == os.path.realpath(python)
