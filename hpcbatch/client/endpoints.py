"""`client.batch_endpoints` and `client.batch_deployments`."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from hpcbatch.client.collection import Collection, Finished, Listing
from hpcbatch.client.entities import BatchEndpoint, ModelBatchDeployment
from hpcbatch.client.entity import PathLike
from hpcbatch.client.invocation import Given, Literal, document_of, input_of, literal_or_path, output_of, overrides_of
from hpcbatch.client.job import Job, Output
from hpcbatch.client.pipelines import PipelineComponentBatchDeployment
from hpcbatch.client.progress import said
from hpcbatch.errors import SpecError
from hpcbatch.operations import deployments, endpoints, jobs
from hpcbatch.operations.invoke import InvokeRequest, invoke
from hpcbatch.operations.pipeline_invoke import PipelineInvocation, invoke_pipeline
from hpcbatch.operations.resolve import deployment_type

Deployment = ModelBatchDeployment | PipelineComponentBatchDeployment
D = TypeVar("D", ModelBatchDeployment, PipelineComponentBatchDeployment)


class BatchEndpoints(Collection):
    """The endpoints of a workspace."""

    def create_or_update(self, endpoint: BatchEndpoint) -> BatchEndpoint:
        """Make the endpoint, or overwrite the one of that name; one that was got from here is changed where it differs.

        An existing endpoint keeps its default deployment unless another is given, which must exist.
        """
        before = endpoint.before(self._ws)
        if before is None:
            shown = endpoints.create_endpoint(self._ws, file=endpoint.loaded())
        else:
            shown = self._updated(endpoint, before)
        return BatchEndpoint.from_workspace(self._ws, shown)

    def begin_create_or_update(self, endpoint: BatchEndpoint) -> Finished[BatchEndpoint]:
        """`create_or_update` as Azure ML spells it."""
        return Finished(self.create_or_update(endpoint))

    def get(self, name: str) -> BatchEndpoint:
        """The endpoint *name*. Raises NotFound with those that there are."""
        return BatchEndpoint.from_workspace(self._ws, endpoints.show_endpoint(self._ws, name))

    def list(self) -> Listing[BatchEndpoint]:
        """Every endpoint, by name."""
        return self._entities(BatchEndpoint, endpoints.list_endpoints(self._ws))

    def delete(self, name: str) -> None:
        """Delete the endpoint and its deployments. Jobs, models and code stay."""
        endpoints.delete_endpoint(self._ws, name)

    def begin_delete(self, name: str) -> Finished[None]:
        """`delete` as Azure ML spells it."""
        self.delete(name)
        return Finished(None)

    def invoke(
        self,
        endpoint_name: str,
        *,
        deployment_name: str | None = None,
        input: Given | None = None,
        inputs: Mapping[str, Given | Literal] | None = None,
        outputs: Mapping[str, Output | PathLike] | None = None,
        output_path: PathLike | None = None,
        job_name: str | None = None,
        experiment_name: str | None = None,
        params_override: Iterable[Mapping[str, Any]] | None = None,
        **overrides: Any,
    ) -> Job:
        """Start a job that scores *input*, or a pipeline with *inputs* by name, and return at once.

        *overrides* are settings for this job alone: `mini_batch_size`, `instance_count`, `error_threshold`,
        `max_retries`, `timeout_s`, `output_file_name`, `output_header`,
        `output_input_column`, `max_concurrency_per_instance`, `logging_level`, `groups`,
        `environment_variables`. The same call with the same *job_name* finds its job and never starts a second one.
        Raises SpecError, NotFound, Conflict, SchedulerError; what the job was warned of is warned of here.
        """
        if deployment_type(self._ws, endpoint_name, deployment_name) == "pipeline":
            asked = PipelineInvocation(
                endpoint=endpoint_name,
                deployment=deployment_name,
                given=document_of(inputs, outputs, output_path),
                input=None if input is None else str(literal_or_path(input)["path"]),
                job_name=job_name,
                experiment_name=experiment_name,
                overrides=overrides_of(overrides, params_override),
            )
            return self._started(invoke_pipeline(self._ws, asked, say=said))
        request = InvokeRequest(
            endpoint=endpoint_name,
            deployment=deployment_name,
            input=input_of(input, inputs),
            job_name=job_name,
            experiment_name=experiment_name,
            output_path=output_of(output_path, outputs),
            overrides=overrides_of(overrides, params_override),
        )
        return self._started(invoke(self._ws, request, said))

    def _started(self, shown: dict[str, Any]) -> Job:
        for each in shown.get("warnings") or ():
            warnings.warn(each, stacklevel=3)
        return Job(self._ws, shown)

    def list_jobs(self, endpoint_name: str, *, max_results: int = 50) -> Listing[Job]:
        """The newest jobs of the endpoint first."""
        name = endpoints.endpoint_name(self._ws, endpoint_name)
        found = jobs.list_jobs(self._ws, endpoint=name, max_results=max_results)
        return Listing(Job(self._ws, one) for one in found)

    def _updated(self, endpoint: BatchEndpoint, before: Mapping[str, Any]) -> dict[str, Any]:
        given, gone = changes(before, endpoint.document())
        name = str(endpoint.name)
        shown = endpoints.show_endpoint(self._ws, name)
        removes = [path for path in gone if _has(shown, path)]
        if not (given or removes):
            return shown
        return endpoints.update_endpoint(self._ws, name, file=endpoint.loaded_part(given), removes=removes)


class BatchDeployments(Collection):
    """The deployments of the endpoints of a workspace."""

    def create_or_update(self, deployment: D, *, set_default: bool = False, skip_script_validation: bool = False) -> D:
        """Make the deployment, or overwrite the one of that name; one that was got from here is changed where it
        differs, and everything else of it stays, snapshots of code and model included.

        Raises NotFound for an endpoint or asset that is not there, SpecError for what is impossible.
        """
        before = deployment.before(self._ws)
        if before is None:
            self._refuse_a_snapshot_as_code(deployment)
            shown = deployments.create_deployment(
                self._ws,
                file=deployment.loaded(),
                set_default=set_default,
                skip_script_validation=skip_script_validation,
            )
        else:
            shown = self._updated(deployment, before, skip_script_validation)
            if set_default:
                endpoints.set_default_deployment(self._ws, shown["endpoint_name"], shown["name"])
        return type(deployment).from_workspace(self._ws, shown)

    def begin_create_or_update(self, deployment: D, *, skip_script_validation: bool = False) -> Finished[D]:
        """`create_or_update` as Azure ML spells it."""
        return Finished(self.create_or_update(deployment, skip_script_validation=skip_script_validation))

    def get(self, name: str, endpoint_name: str) -> Deployment:
        """The deployment *name* of the endpoint. Raises NotFound with those that there are."""
        return self._shown(deployments.show_deployment(self._ws, name, endpoint_name))

    def list(self, endpoint_name: str) -> Listing[Deployment]:
        """Every deployment of the endpoint, by name."""
        return Listing(self._shown(one) for one in deployments.list_deployments(self._ws, endpoint_name))

    def _shown(self, shown: dict[str, Any]) -> Deployment:
        kind = PipelineComponentBatchDeployment if shown["type"] == "pipeline" else ModelBatchDeployment
        return kind.from_workspace(self._ws, shown)

    def delete(self, name: str, endpoint_name: str) -> None:
        """Delete the deployment; its jobs stay. If it was the default, the endpoint has none afterwards."""
        deployments.delete_deployment(self._ws, name, endpoint_name)

    def begin_delete(self, name: str, endpoint_name: str) -> Finished[None]:
        """`delete` as Azure ML spells it."""
        self.delete(name, endpoint_name)
        return Finished(None)

    def list_jobs(self, endpoint_name: str, *, name: str | None = None, max_results: int = 50) -> Listing[Job]:
        """The newest jobs of the deployment *name* first, or of all deployments of the endpoint."""
        endpoint = endpoints.endpoint_name(self._ws, endpoint_name)
        found = jobs.list_jobs(self._ws, endpoint=endpoint, deployment=name, max_results=max_results)
        return Listing(Job(self._ws, one) for one in found)

    def _updated(
        self, deployment: Deployment, before: Mapping[str, Any], skip_script_validation: bool
    ) -> dict[str, Any]:
        name, endpoint = str(deployment.name), str(deployment.endpoint_name)
        given, gone = changes(before, deployment.document())
        written = deployments.deployment_document(self._ws, endpoint, name)["spec"]
        removes = [path for path in gone if _has(written, path)]
        if not (given or removes):
            return deployments.show_deployment(self._ws, name, endpoint)
        return deployments.update_deployment(
            self._ws,
            name,
            endpoint,
            file=deployment.loaded_part({"type": deployment.type, **given}),
            removes=removes,
            skip_script_validation=skip_script_validation,
        )

    def _refuse_a_snapshot_as_code(self, deployment: Deployment) -> None:
        was = deployment.shown.get("code_configuration")
        if was is not None and deployment.document().get("code_configuration") == was:
            raise SpecError(
                f"{deployment.name!r} was got as {deployment.shown['name']!r}; its code is a snapshot of that one.",
                hint="Give it code of its own: deployment.code_configuration = CodeConfiguration(FOLDER, SCRIPT)",
                field="code_configuration.code",
            )


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """What *now* says otherwise than *before*, nested, and the dotted names of what it says no longer."""
    given: dict[str, Any] = {}
    gone: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if old == new:
            continue
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            below, gone_below = changes(old, new)
            given.update({key: below} if below else {})
            gone += [f"{key}.{one}" for one in gone_below]
        elif new is None:
            gone.append(key)
        else:
            given[key] = new
    return given, gone


def _has(document: Mapping[str, Any], path: str) -> bool:
    at: Any = document
    for part in path.split("."):
        if not isinstance(at, Mapping) or part not in at:
            return False
        at = at[part]
    return True
