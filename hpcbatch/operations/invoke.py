"""Invoke an endpoint: resolve, list, plan, seal a job directory, and only then talk to the scheduler."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcbatch.dataio import credentials
from hpcbatch.dataio.inputs import Items
from hpcbatch.environments.build import Say
from hpcbatch.environments.resolve import built
from hpcbatch.errors import Conflict, FileDamaged, SchedulerError, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, is_job_name, new_job_name, sha256
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.operations.dependencies import checked_dependency
from hpcbatch.operations.inputs import InputRef, left_out, list_input, resolve_input, shown_path
from hpcbatch.operations.mlflow_models import builtin_code, check_items
from hpcbatch.operations.outputs import OutputPlace, from_anywhere, make_output_folder, output_place
from hpcbatch.operations.overrides import overridden
from hpcbatch.operations.places import kept_path, make_datastore
from hpcbatch.operations.resolve import ResolvedCode, ResolvedDeployment, ResolvedSettings, resolve_deployment
from hpcbatch.operations.status import Status, describe
from hpcbatch.operations.workspace import Workspace, make_jobs_folder, refuse_for_sbatch, user_jobs
from hpcbatch.planning.plan import cut, group_count, mini_batch_count
from hpcbatch.records.job import CodePart, ComputePart, JobRecord, ModelPart, ScoringPart
from hpcbatch.records.plan import pack_manifest, pack_plan
from hpcbatch.rounds import local
from hpcbatch.scheduler.environment import require

__all__ = ["InputRef", "InvokeRequest", "draft_of", "invoke", "submit"]

INIT_TIMEOUT_S = 3600.0


def _quietly(_: str) -> None:
    pass


@dataclass(frozen=True)
class InvokeRequest:
    """One invocation as asked for. `overrides` are settings of the deployment, for this job only."""

    endpoint: str
    deployment: str | None = None
    input: InputRef | None = None
    job_name: str | None = None
    experiment_name: str | None = None
    output_path: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    output_options: Mapping[str, Any] = field(default_factory=dict)  # fsspec's, for an output_path that is an address
    dependency: str | None = None  # what Slurm is to wait for before the first array, as sbatch(1) has it


def invoke(ws: Workspace, request: InvokeRequest, say: Say = _quietly) -> dict[str, Any]:
    """Start a job and return at once; the dict is what `job show` says.

    With `job_name` the call is idempotent: the same request under the same name finds its job, and finishes
    submitting it
    if an earlier call died on the way; another request under that name is a Conflict. Nothing is submitted before the
    job directory is complete. Raises SpecError, NotFound, Conflict, FilesystemError, SchedulerError.
    """
    digest = _request_digest(request)
    folder = user_jobs(ws) / checked_name(request.job_name or new_job_name())
    if request.job_name and folder.name in scan.names(folder.parent):
        return describe(_submitted(_same(jobdir.open_job(folder), digest)))
    draft, place = draft_of(ws, request, folder, say)
    make_datastore(ws, str(place.folder))
    make_output_folder(place)
    make_jobs_folder(ws)
    if not jobdir.create(folder, draft):
        return describe(_submitted(_same(jobdir.open_job(folder), digest)))
    return describe(
        _submitted(jobdir.open_job(folder)), Status("Preparing" if draft.record.compute.kind == "local" else "Queued")
    )


def draft_of(ws: Workspace, request: InvokeRequest, folder: Path, say: Say | None = None) -> tuple[Draft, OutputPlace]:
    """The job that *request* would make at *folder*, and the place for its output; raises as `invoke`, but for what the
    scheduler says. Writes nothing without *say*; with it, it builds the Python environment if need be, and tells it.
    """
    resolved = resolve_deployment(ws, request.endpoint, request.deployment)
    settings, groups = overridden(resolved.settings, request.overrides)
    dependency = checked_dependency(request.dependency, resolved.compute.kind)
    given = resolve_input(ws, request.input)
    items = list_input(given)
    if resolved.code is None:
        check_items(items)
    where = None if request.output_path is None else kept_path(ws, request.output_path)
    place = output_place(where, request.output_options, settings.output_file_name, folder)
    if say is not None:
        resolved = replace(resolved, environment=built(resolved.environment, ws.root, say))
    decided = _Decided(
        request, given, resolved, settings, items, place, folder, groups, _request_digest(request), dependency
    )  # fmt: skip
    return _draft(decided), place


def submit(job: JobDir, round_number: int) -> None:
    """Hand a round to the compute: Slurm, or a supervisor on this machine. Does nothing that was done before.

    Raises SpecError if an environment variable that the job needs is not set here.
    """
    require(job.record.name, job.record.travelling)
    if job.record.compute.kind == "local":
        local.start(job)
        return
    from hpcbatch.rounds.submission import submit_round  # submitit, only where Slurm is used

    submit_round(job, round_number)


def _submitted(job: JobDir) -> JobDir:
    if job.verdict() is not None or job.canceled():
        return job
    try:
        submit(job, job.rounds()[-1])
    except SchedulerError as error:
        resume = f"The job is sealed; submit it with: hpcbatch job resume --name {job.record.name}"
        may_work_later = error.fields.get("transient") or error.fields.get("limit")
        if not may_work_later and not _has_submission(job):
            publish.remove_tree(job.root)  # nobody has seen it: Slurm refused it before anything was accepted
            raise
        raise SchedulerError(error.message, hint=f"{error.hint}\n{resume}", **error.fields) from error
    return job


def _has_submission(job: JobDir) -> bool:
    return any(name.startswith("array-") for name in scan.names(job.paths.round(0)))


def _same(job: JobDir, digest: str) -> JobDir:
    if job.record.request_sha256 != digest:
        raise Conflict(
            f"A job named {job.record.name!r} exists and was invoked with something else.",
            hint=f"Choose another --job-name, or look at it: hpcbatch job show --name {job.record.name}",
            name=job.record.name,
        )
    return job


def _request_digest(request: InvokeRequest) -> str:
    document = asdict(request)
    if request.input is not None:
        document["input"]["path"] = from_anywhere(request.input.path)
    if request.output_path is not None:
        document["output_path"] = from_anywhere(request.output_path)
    return sha256(canonical(document))


def checked_name(name: str) -> str:
    if not is_job_name(name):
        raise SpecError(
            f"Job name {name!r} is not allowed.",
            hint="Use letters, digits, '-', '_' and '.', at most 255: --job-name my-run-1",
            field="job_name",
            found=name,
            allowed="letters, digits, '-', '_', '.'",
        )
    return name


@dataclass(frozen=True)
class _Decided:
    """Everything an invocation decided before it writes."""

    request: InvokeRequest
    given: InputRef
    resolved: ResolvedDeployment
    settings: ResolvedSettings
    items: Items
    place: OutputPlace
    folder: Path
    wanted_groups: int | None
    request_sha256: str
    dependency: str


def _draft(decided: _Decided) -> Draft:
    request, resolved, settings, folder = decided.request, decided.resolved, decided.settings, decided.folder
    names, stamps = decided.items.names, decided.items.stamps
    manifest = pack_manifest(names, root=decided.items.root, mini_batch_size=settings.mini_batch_size, stamps=stamps)
    mini_batches = mini_batch_count(len(names), settings.mini_batch_size)
    throttle = min(settings.instance_count, resolved.compute.max_instances or settings.instance_count)
    groups = group_count(mini_batches, at_once=throttle, wanted=decided.wanted_groups)
    places = [part.options for part in (decided.items.remote, decided.place.remote) if part is not None]
    travelling, secret = credentials.travelling_variables(places)
    code, code_part = _code(resolved.code) if resolved.code else builtin_code(resolved)
    record = JobRecord(
        name=folder.name,
        uuid=secrets.token_hex(16),
        endpoint=resolved.endpoint,
        deployment=resolved.deployment,
        deployment_revision=resolved.revision,
        experiment_name=request.experiment_name or resolved.endpoint,
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        user=folder.parent.name,
        manifest_sha256=sha256(manifest),
        items=len(names),
        mini_batches=mini_batches,
        groups=groups,
        input_path=shown_path(decided.given),
        input_type=decided.given.type,
        output_folder=str(decided.place.folder),
        request_sha256=decided.request_sha256,
        scoring=_scoring(resolved, settings),
        compute=_compute(resolved, settings, throttle, folder),
        model=ModelPart(**asdict(resolved.model)) if resolved.model else None,
        code=code_part,
        warnings=(*resolved.warnings, *left_out(decided.items)),
        remote_input=decided.items.remote,
        remote_output=decided.place.remote,
        travelling=travelling,
        secrets=secret,
        dependency=decided.dependency,
    )
    return Draft(record, manifest, pack_plan(0, cut([(0, mini_batches)], groups)), code)


def _code(code: ResolvedCode) -> tuple[bytes, CodePart]:
    """The code snapshot, and how the job names it. Raises FileDamaged if it is not what was deployed."""
    data = scan.read_document(Path(code.path), 4 << 30)
    if sha256(data) != code.digest:
        raise FileDamaged(
            f"{code.path} is not the code that was registered.",
            hint="Create the deployment again: hpcbatch batch-deployment create --file deployment.yml",
            path=code.path,
        )
    return data, CodePart("code.zip", code.digest, code.scoring_script)


def _scoring(resolved: ResolvedDeployment, settings: ResolvedSettings) -> ScoringPart:
    values = asdict(settings)
    values.pop("instance_count")
    return ScoringPart(
        python=resolved.environment.python or "(built when invoked)",
        environment_name=resolved.environment.name,
        environment_origin=resolved.environment.origin,
        init_timeout_s=INIT_TIMEOUT_S,
        **values,
    )


def _compute(resolved: ResolvedDeployment, settings: ResolvedSettings, throttle: int, folder: Path) -> ComputePart:
    compute = resolved.compute
    slurm = dict(compute.slurm)
    if compute.kind == "slurm":
        refuse_for_sbatch(folder)
    if compute.kind == "slurm" and settings.max_concurrency_per_instance > 1:
        slurm.setdefault("cpus_per_task", settings.max_concurrency_per_instance)
    return ComputePart(compute.name, compute.kind, compute.tier, throttle, slurm)
