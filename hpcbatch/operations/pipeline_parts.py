"""From a flat step to the step of a job: interpreter, compute, code and mini-batch settings, all looked up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpcbatch.environments.resolve import ResolvedEnvironment, built, resolve_environment
from hpcbatch.errors import FileDamaged, SpecError
from hpcbatch.fs import scan
from hpcbatch.ids import canonical, sha256
from hpcbatch.operations.assets import ANONYMOUS, find_environment, list_environment_maps
from hpcbatch.operations.pipeline_flatten import FlatStep
from hpcbatch.operations.resolve import resolve_compute
from hpcbatch.operations.versions import referred_by
from hpcbatch.operations.workspace import Workspace
from hpcbatch.pipeline.command import placeholders
from hpcbatch.records.job import CodePart, ComputePart
from hpcbatch.records.pipeline import ParallelPart, PipelineInput, PipelineStep, StepInput
from hpcbatch.registry.snapshots import code_file
from hpcbatch.spec.bindings import substituted
from hpcbatch.spec.component import bytes_of
from hpcbatch.spec.mltable import mltable_paths
from hpcbatch.spec.ports import LITERALS, LiteralProblem, check_literal
from hpcbatch.spec.refs import AssetRef

# Azure ML's words for "whatever there is": the site's default partition.
_ANY_COMPUTE = ("serverless",)
# Azure ML, parallel job: retry_settings {max_retries: 2, timeout: 60}, thresholds -1, one file for each mini-batch.
_MINI_BATCH_SIZE, _RETRIES, _TIMEOUT_S, _THRESHOLD = 1, 2, 60.0, -1


@dataclass
class Parts:
    """Looks up what steps name, each thing once."""

    ws: Workspace
    values: Mapping[str, PipelineInput]
    default_compute: str | None
    default_field: str = "settings.default_compute"  # that says the default
    pipeline_compute: str | None = None  # of the component
    codes: dict[str, bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    say: Callable[[str], None] | None = None
    _environments: dict[bytes, ResolvedEnvironment] = field(default_factory=dict)
    _computes: dict[bytes, ComputePart] = field(default_factory=dict)

    def step(self, flat: FlatStep) -> PipelineStep:
        """The step of the job. Raises SpecError, NotFound."""
        body = flat.body
        inputs = dict(flat.inputs)
        if body["type"] == "parallel":
            inputs |= self._cut_data(flat)
        environment = self._environment(body.get("environment"))
        timeout = (body.get("limits") or {}).get("timeout")
        return PipelineStep(
            name=flat.name,
            kind=body["type"],
            display_name=flat.display_name,
            component=flat.component,
            component_sha256=sha256(canonical(flat.identity)),
            command=str(body.get("command") or ""),
            code=self._code(body),
            python=environment.python,
            environment_name=environment.name,
            environment_origin=environment.origin,
            environment_variables=dict(body.get("environment_variables") or {}),
            inputs=inputs,
            outputs=dict(flat.outputs),
            optional_inputs=tuple(name for name, port in body["inputs"].items() if port.get("optional")),
            compute=self._compute(flat),
            instance_count=_instance_count(body),
            distribution=body.get("distribution"),
            is_deterministic=bool(body.get("is_deterministic", True)),
            timeout_s=float(timeout) if timeout is not None else None,
            parallel=self._parallel(flat) if body["type"] == "parallel" else None,
        )

    def _environment(self, found: Mapping[str, Any] | None) -> ResolvedEnvironment:
        key = canonical(found)
        if key not in self._environments:
            actual = found
            if actual is not None and not actual["registered"] and actual["name"] != ANONYMOUS:
                # it may have been registered since, which is how a user answers the warning about it
                now = find_environment(self.ws, AssetRef(str(actual["name"])))
                actual = now if now["registered"] else {**actual, **now}
            if actual is not None and actual["name"] == ANONYMOUS:
                actual = {**actual, "name": None}
            environment, warnings = resolve_environment(actual, list_environment_maps(self.ws), root=self.ws.root)
            if self.say is not None:
                environment = built(environment, self.ws.root, self.say)
            self._environments[key] = environment
            self.warnings += [one for one in warnings if one not in self.warnings]
        return self._environments[key]

    def _compute(self, flat: FlatStep) -> ComputePart:
        names = [*flat.computes, *([self.default_compute] if self.default_compute else [])]
        resources = flat.body.get("resources") or {}
        count = _instance_count(flat.body)
        overrides = (resources.get("properties") or {}).get("slurm") or {}
        key = canonical([names[:1], count, overrides])
        if key not in self._computes:
            name = names[0] if names else None
            if name in _ANY_COMPUTE and name not in self.ws.registry.names("computes"):
                name = None
            with referred_by(self._compute_field(flat)):
                found = resolve_compute(self.ws, name, overrides)
            throttle = min(count, found.max_instances or count)
            self._computes[key] = ComputePart(found.name, found.kind, found.tier, throttle, dict(found.slurm))
        return self._computes[key]

    def _compute_field(self, flat: FlatStep) -> str:
        """Where the pipeline says what the step runs on."""
        if not flat.computes:
            return self.default_field
        return "compute" if flat.computes == (self.pipeline_compute,) else f"jobs.{flat.name}.compute"

    def _code(self, body: Mapping[str, Any]) -> CodePart | None:
        found = body.get("code")
        if found is None:
            return None
        digest = str(found["digest"])
        if digest not in self.codes:
            self.codes[digest] = read_code(code_file(self.ws.root, digest), digest)
        script = str((body.get("task") or {}).get("entry_script") or "").removeprefix("file:")
        return CodePart(f"code/{digest}.zip", digest, script)

    def _parallel(self, flat: FlatStep) -> ParallelPart:
        body, task = flat.body, flat.body.get("task") or {}
        retry = body.get("retry_settings") or {}
        literals = {name: text for name, value in flat.inputs.items() if (text := self._literal(value)) is not None}

        def number(key: str, given: Any, default: float, least: float) -> float:
            return _number(flat.name, key, default if given is None else given, literals, least)

        size = body.get("mini_batch_size")
        if size is not None:
            size = substituted(str(size), {f"inputs.{name}": text for name, text in literals.items()})
        size_bytes = bytes_of(size)
        cut = _cut_input(flat)
        if flat.inputs[cut].type == "mltable" and (size_bytes or body.get("partition_keys")):
            key = "partition_keys" if body.get("partition_keys") else "mini_batch_size"
            self.warnings.append(
                f"Step {flat.name}: run() is given paths of whole files; in Azure ML an mltable with {key} is cut "
                "between rows, and run() is given a DataFrame."
            )
        written = str(task.get("append_row_to") or "")
        cpus = int(self._compute(flat).slurm.get("cpus_per_task") or 1)
        return ParallelPart(
            entry_script=str(task["entry_script"]).removeprefix("file:"),
            input=cut,
            program_arguments=str(task.get("program_arguments") or ""),
            append_row_to=next((name for _, name in placeholders(written)), None),
            mini_batch_size=1 if size_bytes else int(number("mini_batch_size", size, _MINI_BATCH_SIZE, 1)),
            mini_batch_bytes=size_bytes,
            partition_keys=tuple(body.get("partition_keys") or ()),
            mini_batch_error_threshold=int(
                number("mini_batch_error_threshold", body.get("mini_batch_error_threshold"), _THRESHOLD, -1)
            ),
            error_threshold=int(number("error_threshold", body.get("error_threshold"), _THRESHOLD, -1)),
            max_concurrency_per_instance=int(
                number("max_concurrency_per_instance", body.get("max_concurrency_per_instance"), cpus, 1)
            ),
            max_retries=int(number("retry_settings.max_retries", retry.get("max_retries"), _RETRIES, 0)),
            timeout_s=number("retry_settings.timeout", retry.get("timeout"), _TIMEOUT_S, 1),
            logging_level=str(body.get("logging_level") or "info"),
        )

    def _cut_data(self, flat: FlatStep) -> dict[str, StepInput]:
        """The input that is cut, where it is an mltable: what its one path names, for files are what is cut."""
        name = _cut_input(flat)
        found = flat.inputs[name]
        if found.type != "mltable" or found.kind == "step":
            return {}
        folder = self.values[found.value].value if found.kind == "input" else found.value
        entries = mltable_paths(Path(folder))
        if len(entries) != 1:
            raise SpecError(
                f"Step {flat.name}: the mltable {folder!r} has {len(entries)} paths; a parallel step is given one.",
                hint="Put the data into one folder, or write one `pattern:` into MLTable.",
                field=f"jobs.{flat.name}.inputs.{name}",
                found=len(entries),
                allowed="an mltable with one path",
            )
        ((kind, path),) = entries[0].items()
        return {name: StepInput("uri_file" if kind == "file" else "uri_folder", "path", path)}

    def _literal(self, value: Any) -> str | None:
        if value.kind == "literal":
            return str(value.value)
        if value.kind == "input" and value.type in LITERALS:
            return self.values[value.value].value
        return None


def read_code(path: Path, digest: str) -> bytes:
    """The code snapshot. Raises FileDamaged if it is not what was registered."""
    try:
        data = scan.read_document(path, 4 << 30)
    except FileNotFoundError:
        data = b""
    if sha256(data) != digest:
        raise FileDamaged(
            f"{path} is not the code that was registered.",
            hint="Register the component again: hpcbatch component create --file component.yml",
            path=str(path),
        )
    return data


def _instance_count(body: Mapping[str, Any]) -> int:
    return int((body.get("resources") or {}).get("instance_count") or 1)


def _cut_input(flat: FlatStep) -> str:
    """The input that is cut into mini-batches: what `input_data` names, else the only one that is data."""
    named = [name for _, name in placeholders(str(flat.body.get("input_data") or ""))]
    if not named:
        named = [name for name, value in flat.inputs.items() if value.type not in LITERALS]
    if len(named) != 1:
        raise SpecError(
            f"Step {flat.name} does not say which of its inputs is cut into mini-batches.",
            hint="Say: input_data: ${{inputs.NAME}}",
            field=f"jobs.{flat.name}.input_data",
            found=named,
            allowed="${{inputs.NAME}}",
        )
    return named[0]


def _number(step: str, key: str, given: Any, literals: Mapping[str, str], least: float) -> float:
    """The number *given*, which may be a binding to an input of the step. Raises SpecError."""
    field = f"jobs.{step}.{key}"
    text = substituted(str(given), {f"inputs.{name}": value for name, value in literals.items()})
    try:
        kind = "number" if key.endswith("timeout") else "integer"
        return float(check_literal({"type": kind, "min": least}, text))
    except LiteralProblem as problem:
        raise SpecError(
            f"{field}: {problem.message}.",
            hint=f"Allowed: {problem.allowed}.",
            field=field,
            found=text,
            allowed=problem.allowed,
        ) from problem
