"""Invoke an endpoint: resolve, list, plan, seal a job directory, and only then talk to the scheduler."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpcbatch.dataio.inputs import Items, list_items
from hpcbatch.errors import Conflict, FileDamaged, SchedulerError, SpecError
from hpcbatch.fs import publish, scan
from hpcbatch.ids import canonical, is_job_name, new_job_name, sha256
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import Draft, JobDir
from hpcbatch.operations.assets import show_data
from hpcbatch.operations.mlflow_models import builtin_code, check_items
from hpcbatch.operations.resolve import ResolvedCode, ResolvedDeployment, ResolvedSettings, resolve_deployment
from hpcbatch.operations.status import Status, describe
from hpcbatch.operations.workspace import Workspace
from hpcbatch.planning.plan import cut, group_count, mini_batch_count
from hpcbatch.records.job import CodePart, ComputePart, JobRecord, ModelPart, ScoringPart
from hpcbatch.records.plan import pack_manifest, pack_plan
from hpcbatch.rounds import local
from hpcbatch.spec.deployment import plain_file_name
from hpcbatch.spec.refs import is_ref, parse_ref

INIT_TIMEOUT_S = 3600.0
INPUT_TYPES = ("uri_folder", "uri_file")


@dataclass(frozen=True)
class InputRef:
    """A pointer to data; never the data."""

    path: str
    type: str = "uri_folder"


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


def invoke(ws: Workspace, request: InvokeRequest) -> dict[str, Any]:
    """Start a job and return at once; the dict is what `job show` says.

    With `job_name` the call is idempotent: the same request under the same name finds its job, and finishes
    submitting it
    if an earlier call died on the way; another request under that name is a Conflict. Nothing is submitted before the
    job directory is complete. Raises SpecError, NotFound, Conflict, FilesystemError, SchedulerError.
    """
    digest = _request_digest(request)
    folder = user_jobs(ws) / _checked_name(request.job_name or new_job_name())
    if request.job_name and folder.name in scan.names(folder.parent):
        return describe(_submitted(_same(jobdir.open_job(folder), digest)))
    resolved = resolve_deployment(ws, request.endpoint, request.deployment)
    settings, groups = _overridden(resolved.settings, request.overrides)
    given = _input(ws, request)
    items = list_items(given.path, given.type)
    if resolved.code is None:
        check_items(items)
    draft = _draft(_Decided(replace(request, input=given), resolved, settings, items, folder, groups, digest))
    _make_jobs_folder(ws)
    if not jobdir.create(folder, draft):
        return describe(_submitted(_same(jobdir.open_job(folder), digest)))
    return describe(
        _submitted(jobdir.open_job(folder)), Status("Preparing" if draft.record.compute.kind == "local" else "Queued")
    )


def user_jobs(ws: Workspace) -> Path:
    """The folder of this user's jobs."""
    return ws.jobs / pwd.getpwuid(os.getuid()).pw_name


def submit(job: JobDir, round_number: int) -> None:
    """Hand a round to the compute: Slurm, or a supervisor on this machine. Does nothing that was done before."""
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
        if not error.fields.get("transient") and not _has_submission(job):
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
    if request.input is not None and "://" not in request.input.path:
        document["input"]["path"] = os.path.abspath(os.path.expanduser(request.input.path))
    return sha256(canonical(document))


def _checked_name(name: str) -> str:
    if not is_job_name(name):
        raise SpecError(
            f"Job name {name!r} is not allowed.",
            hint="Use letters, digits, '-', '_' and '.', at most 255: --job-name my-run-1",
            field="job_name",
            found=name,
            allowed="letters, digits, '-', '_', '.'",
        )
    return name


def _input(ws: Workspace, request: InvokeRequest) -> InputRef:
    """The input as a path of this filesystem: a data asset is looked up, what cannot be read here is refused."""
    given = request.input
    if given is None:
        raise SpecError(
            "A model deployment needs an input.",
            hint="Name the data: --input PATH [--input-type uri_folder|uri_file]",
            field="input",
        )
    if is_ref(given.path) and "://" not in given.path:
        reference = parse_ref(given.path, field="input")
        asset = show_data(ws, reference.name, version=reference.version, label=reference.label)
        given = InputRef(str(asset["path"]), str(asset["type"]))
    if "://" in given.path and not given.path.startswith("file://"):
        raise SpecError(
            f"Input {given.path!r} is not on a filesystem that the cluster sees; other places cannot be read yet.",
            hint="Copy it to the shared filesystem and name that folder: --input /shared/data",
            field="input",
            found=given.path,
            allowed="a folder or file, or azureml:NAME:VERSION of a data asset",
        )
    if given.type not in INPUT_TYPES:
        raise SpecError(
            f"Input type {given.type!r} is not possible for a model deployment.",
            hint="Use --input-type uri_folder or --input-type uri_file",
            field="input_type",
            found=given.type,
            allowed=", ".join(INPUT_TYPES),
        )
    return InputRef(given.path.removeprefix("file://"), given.type)


_POSITIVE = ("mini_batch_size", "instance_count", "max_concurrency_per_instance", "groups")


def _overridden(settings: ResolvedSettings, overrides: Mapping[str, Any]) -> tuple[ResolvedSettings, int | None]:
    """The settings of this job, and how many groups were asked for. Raises SpecError for what is impossible."""
    values = dict(overrides)
    for key in _POSITIVE:
        if key in values:
            values[key] = _whole(key, values[key], least=1)
    for key, least in (("error_threshold", -1), ("max_retries", 0)):
        if key in values:
            values[key] = _whole(key, values[key], least=least)
    if "timeout_s" in values:
        values["timeout_s"] = _seconds(values["timeout_s"])
    if "output_file_name" in values:
        values["output_file_name"] = plain_file_name(str(values["output_file_name"]))
    if "environment_variables" in values:
        values["environment_variables"] = {**settings.environment_variables, **values["environment_variables"]}
    groups = values.pop("groups", None)
    known = set(asdict(settings))
    for key in values:
        if key not in known:
            raise SpecError(
                f"{key!r} cannot be set for one job.",
                hint=f"Settings that can: {', '.join(sorted(known | {'groups'}))}",
                field=key,
                allowed=", ".join(sorted(known)),
            )
    return replace(settings, **values), groups


def _whole(key: str, value: Any, *, least: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = least - 1
    if number < least:
        raise SpecError(
            f"{key} is {value!r}; it must be a whole number of at least {least}.",
            hint=f"For example: --set {key}={max(1, least)}",
            field=key,
            found=str(value),
            allowed=f">= {least}",
        )
    return number


def _seconds(value: Any) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if not 0 < number < 1e9:
        raise SpecError(
            f"timeout is {value!r}; it must be a number of seconds above 0.",
            hint="For example: --set retry_settings.timeout=300",
            field="retry_settings.timeout",
            found=str(value),
            allowed="> 0",
        )
    return number


@dataclass(frozen=True)
class _Decided:
    """Everything an invocation decided before it writes."""

    request: InvokeRequest
    resolved: ResolvedDeployment
    settings: ResolvedSettings
    items: Items
    folder: Path
    wanted_groups: int | None
    request_sha256: str


def _draft(decided: _Decided) -> Draft:
    request, resolved, settings, folder = decided.request, decided.resolved, decided.settings, decided.folder
    names = decided.items.names
    manifest = pack_manifest(names, root=decided.items.root, mini_batch_size=settings.mini_batch_size)
    mini_batches = mini_batch_count(len(names), settings.mini_batch_size)
    throttle = min(settings.instance_count, resolved.compute.max_instances or settings.instance_count)
    groups = group_count(mini_batches, at_once=throttle, wanted=decided.wanted_groups)
    assert request.input is not None
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
        input_path=os.path.abspath(os.path.expanduser(request.input.path)),
        input_type=request.input.type,
        output_folder=_output_folder(request, settings, folder),
        request_sha256=decided.request_sha256,
        scoring=_scoring(resolved, settings),
        compute=_compute(resolved, settings, throttle, folder),
        model=ModelPart(**asdict(resolved.model)) if resolved.model else None,
        code=code_part,
        warnings=resolved.warnings,
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


def _output_folder(request: InvokeRequest, settings: ResolvedSettings, folder: Path) -> str:
    if request.output_path is None:
        return str(folder / "out")
    if "://" in request.output_path or request.output_path.startswith("azureml:"):
        raise SpecError(
            f"Output path {request.output_path!r} is not a folder of a filesystem that the cluster sees.",
            hint="Give a folder: --output-path /shared/results/run-1",
            field="output_path",
            found=request.output_path,
            allowed="a folder",
        )
    target = Path(os.path.abspath(os.path.expanduser(request.output_path)))
    publish.make_directory(target, 0o755)
    if settings.output_file_name in scan.names(target):
        raise Conflict(
            f"{str(target / settings.output_file_name)!r} exists; nothing is overwritten.",
            hint="Choose another --output-path or --set output_file_name=NAME",
            path=str(target / settings.output_file_name),
        )
    return str(target)


def _scoring(resolved: ResolvedDeployment, settings: ResolvedSettings) -> ScoringPart:
    values = asdict(settings)
    values.pop("instance_count")
    return ScoringPart(
        python=resolved.environment.python,
        environment_name=resolved.environment.name,
        environment_origin=resolved.environment.origin,
        init_timeout_s=INIT_TIMEOUT_S,
        **values,
    )


def _compute(resolved: ResolvedDeployment, settings: ResolvedSettings, throttle: int, folder: Path) -> ComputePart:
    compute = resolved.compute
    slurm = dict(compute.slurm)
    if compute.kind == "slurm":
        _inert_for_sbatch(folder)
    if compute.kind == "slurm" and settings.max_concurrency_per_instance > 1:
        slurm.setdefault("cpus_per_task", settings.max_concurrency_per_instance)
    return ComputePart(compute.name, compute.kind, compute.tier, throttle, slurm)


def _inert_for_sbatch(folder: Path) -> None:
    """Refuse a job directory whose path sbatch, or its file name patterns (`%`), would read as something else."""
    if not re.fullmatch(r"[A-Za-z0-9_./@+=:,-]+", str(folder)):
        raise SpecError(
            f"The job directory {str(folder)!r} has characters that sbatch does not take in a path.",
            hint="Use a workspace whose path has letters, digits and ./_-@+=:, only: -w PATH",
            field="workspace",
            found=str(folder),
            allowed="letters, digits and ./_-@+=:,",
        )


def _make_jobs_folder(ws: Workspace) -> None:
    """`jobs` is everybody's, as /tmp is; each user's folder in it is private."""
    publish.make_directory(ws.root, 0o755)
    publish.make_directory(ws.jobs, 0o1777)
    publish.make_directory(user_jobs(ws), 0o700)
