"""docs/reference/yaml-pipelines.md from the models in hpcbatch/spec: components, steps, jobs, deployments."""

from __future__ import annotations

from collections.abc import Iterable

from hpcbatch.spec.base import Document
from hpcbatch.spec.component import (
    NOT_RUN,
    CommandComponent,
    CommandFields,
    Component,
    Distribution,
    Limits,
    ParallelFields,
    ParallelRetry,
    ParallelTask,
    PipelineComponent,
)
from hpcbatch.spec.pipeline import (
    InputValue,
    OutputValue,
    PipelineBatchDeployment,
    PipelineJob,
    PipelineSettings,
    Step,
)
from hpcbatch.spec.ports import RESERVED, InputPort, OutputPort
from tests.docs.markdown import code, filled, table
from tests.docs.yaml_page import HEADER, row_list


def page() -> str:
    """The page, without the note that it is generated."""
    own = [name for name in CommandComponent.model_fields if name not in CommandFields.model_fields]
    return filled(
        "yaml-pipelines.md",
        component=_fields(Component),
        command=_fields(CommandComponent, [*own[len(Component.model_fields) :], *CommandFields.model_fields]),
        limits="\n".join([_fields(Limits, prefix="limits."), *_below(Distribution, "distribution.")]),
        inputs=_fields(InputPort),
        outputs=_fields(OutputPort),
        parallel=_fields(ParallelFields),
        task="\n".join([_fields(ParallelTask, prefix="task."), *_below(ParallelRetry, "retry_settings.")]),
        pipeline=_fields(PipelineComponent, ["jobs", "settings", "compute"]),
        step=_fields(Step),
        value=_fields(InputValue),
        target=_fields(OutputValue),
        job=_fields(PipelineJob),
        settings=_fields(PipelineSettings, prefix="settings."),
        deployment=_fields(PipelineBatchDeployment),
        not_run=table(("type", "use instead"), [(code(kind), instead) for kind, instead in NOT_RUN.items()]),
        reserved=", ".join(map(code, sorted(RESERVED))),
    )


def _fields(model: type[Document], names: Iterable[str] | None = None, *, prefix: str = "") -> str:
    chosen = {name: field for name, field in model.model_fields.items() if names is None or name in names}
    return table(HEADER, row_list(model, chosen, prefix))


def _below(model: type[Document], prefix: str) -> list[str]:
    return _fields(model, prefix=prefix).splitlines()[2:]
