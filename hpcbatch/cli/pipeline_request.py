"""From the arguments of `invoke` to one invocation of a pipeline; reads the file and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpcbatch.cli import render
from hpcbatch.cli.invoke_request import Given, document_of, experiment_of
from hpcbatch.errors import SpecError

if TYPE_CHECKING:
    from hpcbatch.operations.pipeline_invoke import PipelineInvocation

_KNOWN = frozenset(
    (
        "inputs",
        "outputs",
        "deployment",
        "endpoint",
        "job_name",
        "experiment_name",
        "properties",
        "settings",
        "storage_options",
        "dependency",
        "$schema",
    )
)
_OF_MODELS = {
    "mini_batch_size": "--mini-batch-size",
    "instance_count": "--instance-count",
}


def pipeline_invocation(
    given: Given, endpoint: str, deployment: str | None, *, needs_slurm: bool = False
) -> PipelineInvocation:
    """The invocation that *given* asks for; *needs_slurm* if other Slurm jobs are to wait for it. Raises SpecError for
    what a pipeline does not take.
    """
    from hpcbatch.operations.pipeline_invoke import PipelineInvocation
    from hpcbatch.spec.base import COMMAND_LINE
    from hpcbatch.spec.yamlfile import Loaded, load, split_set

    said = {flag: getattr(given, key) for key, flag in _OF_MODELS.items()}
    said |= {f"--{key.replace('_', '-')}": value for key, value in given.settings.items()}
    for flag, value in said.items():
        if value is not None:
            raise SpecError(
                f"{flag} is for deployments of models, and this one is a pipeline.",
                hint="The steps of a pipeline say this themselves. Leave it out.",
                field=flag,
            )
    document = document_of(given)
    lines = load(Path(given.file)).lines if given.file is not None else {}
    sets = frozenset(split_set(one)[0] for one in given.sets)
    if given.output_path is not None:
        document["outputs"] = _one_output(given, document)
    return PipelineInvocation(
        endpoint=endpoint,
        deployment=deployment,
        given=Loaded(document, given.file or COMMAND_LINE, lines, Path.cwd(), overridden=sets),
        input=given.input,
        job_name=given.job_name or document.get("job_name"),
        experiment_name=given.experiment_name or experiment_of(document),
        overrides=_overrides(document, {one.partition("=")[0].strip() for one in given.sets}),
        dependency=given.dependency or document.get("dependency"),
        needs_slurm=needs_slurm,
    )


def _one_output(given: Given, document: Mapping[str, Any]) -> dict[str, Any]:
    """`--output-path` for the one output that the document names."""
    named = document.get("outputs") or {}
    if len(named) != 1:
        raise SpecError(
            "--output-path does not say which output of the pipeline it is for.",
            hint="Say it: --set outputs.NAME.path=FOLDER",
            field="output_path",
            found=given.output_path,
            allowed="outputs.NAME.path=FOLDER",
        )
    ((name, value),) = named.items()
    return {name: {**(value or {}), "path": given.output_path}}


def _overrides(document: Mapping[str, Any], asked: set[str]) -> dict[str, Any]:
    """Settings for this one job, be it at the root or under `settings`. Others are said, or refused if `--set` asks."""
    from hpcbatch.operations.pipeline_invoke import OVERRIDES

    settings = document.get("settings")
    found = dict(settings) if isinstance(settings, Mapping) else {}
    for key in document.keys() - _KNOWN:
        if key in OVERRIDES or any(one.split(".")[0] == key for one in asked):
            found[key] = document[key]
        else:
            render.warning(f"{key} is ignored: it cannot be changed for one job. What can: {', '.join(OVERRIDES)}.")
    return found
