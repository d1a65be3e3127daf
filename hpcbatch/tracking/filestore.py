"""MLflow's file store, written and read without MLflow: nothing of it need be installed where we run.

Each attempt at a step and each scoring process logs into a store of its own, with one experiment and one run that is
there already. Nothing in it is shared while it is written, so any number of them log at once, on any filesystem, and no
server runs. The layout is that of MLflow 1.x to 3.x: `<store>/<experiment>/<run>/{meta.yaml,params,metrics,tags}`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hpcbatch.fs import own, publish, scan

_RUNNING, _FINISHED, _FAILED = 1, 3, 4
_LOGGED = ("params", "metrics", "inputs", "outputs", "artifacts")


@dataclass(frozen=True)
class Run:
    """A run to begin. `parent_id` makes it a nested one; `artifacts` is where its files go, by default below it."""

    run_id: str  # 32 hex digits
    name: str
    experiment: str
    user: str
    parent_id: str = ""
    artifacts: Path | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RegisteredModel:
    """A model version that user code registered, and the folder with its files."""

    name: str
    version: int
    path: Path


def experiment_id(name: str) -> str:
    """The id of the experiment *name*: the same in every store, so that their runs can be put together."""
    return "0" if name == "Default" else str(int(hashlib.sha256(name.encode()).hexdigest()[:15], 16))


def begin(store: Path, run: Run) -> None:
    """Make the store with its experiment and the running run."""
    publish.make_directory(store / ".trash")
    experiment = store / experiment_id(run.experiment)
    _fill(experiment, run, run.artifacts or experiment)


def _fill(experiment: Path, run: Run, artifacts: Path) -> None:
    """Make *experiment*, whose files go below *artifacts*, with the running run."""
    folder = experiment / run.run_id
    for sub in ("params", "metrics", "tags", "artifacts"):  # MLflow 3 wants to see all of them
        publish.make_directory(folder / sub)
    _put(experiment / "meta.yaml", experiment_meta(run.experiment, artifacts, _now_ms()))
    _put(folder / "meta.yaml", run_meta(run, artifacts, _now_ms()))
    for name, value in _tags(run).items():
        _put(folder / "tags" / name, value)


def _tags(run: Run) -> dict[str, str]:
    """The tags that the run begins with."""
    parent = {"mlflow.parentRunId": run.parent_id} if run.parent_id else {}
    return {
        "mlflow.runName": run.name, "mlflow.user": run.user, "mlflow.source.type": "JOB", **run.tags, **parent
    }  # fmt: skip


def _now_ms() -> int:
    return int(time.time() * 1000)


def environment(store: Path, run: Run) -> dict[str, str]:
    """The variables that make user code log into *run*: `start_run()` continues it, a nested one is below it."""
    return {
        "MLFLOW_TRACKING_URI": store.as_uri(),
        "MLFLOW_REGISTRY_URI": store.as_uri(),
        "MLFLOW_ALLOW_FILE_STORE": "true",  # since 3.17 it has to be said
        "MLFLOW_EXPERIMENT_ID": experiment_id(run.experiment),
        "MLFLOW_RUN_ID": run.run_id,
    }


def was_used(store: Path, run: Run) -> bool:
    """Whether user code logged anything: in the run, in another run, or a model."""
    experiment = store / experiment_id(run.experiment)
    folder = experiment / run.run_id
    artifacts = (run.artifacts or experiment) / run.run_id / "artifacts"
    others = set(scan.names(store)) - {experiment.name, ".trash"}
    runs = set(scan.names(experiment)) - {"meta.yaml", run.run_id}
    tags = set(scan.names(folder / "tags")) - set(_tags(run))
    return bool(others or runs or tags or scan.names(artifacts) or any(scan.names(folder / sub) for sub in _LOGGED))


def end(store: Path, run: Run, *, succeeded: bool) -> None:
    """Say that the run has ended, unless the code that logged did."""
    path = store / experiment_id(run.experiment) / run.run_id / "meta.yaml"
    text = path.read_text("utf-8")
    if not text:  # whoever wrote it last was killed while it did
        experiment = store / experiment_id(run.experiment)
        text = run_meta(run, run.artifacts or experiment, _now_ms())
    ended = text.replace(f"status: {_RUNNING}\n", f"status: {_FINISHED if succeeded else _FAILED}\n")
    if ended != text:
        ended = re.sub(r"^end_time: null$", f"end_time: {_now_ms()}", ended, flags=re.MULTILINE)
        with publish.staged(path.parent) as (temp, file):
            publish.write_all(file.fileno(), ended.encode())
            own.replace_private(temp, path)


def collect(together: Path, store: Path, root: Run, *, copy: bool = False) -> None:
    """Show the runs of *store* in the store *together*, below the run *root*: by links, or by a *copy* if *store* will
    not stay. The first to do so says when *root* began.
    """
    publish.make_directory(together / ".trash")
    ours = experiment_id(root.experiment)
    for experiment in scan.names(store):
        if experiment not in (".trash", "models", ours):
            _show(store / experiment, together / experiment, copy=copy)
    folder = together / ours
    publish.publish_directory(folder, lambda temp: _fill(temp, root, root.artifacts or folder))
    for name in scan.names(store / ours):
        if name != "meta.yaml" and _is_whole(store / ours / name):
            _show(store / ours / name, folder / name, copy=copy)


def _is_whole(folder: Path) -> bool:
    """Whether *folder* is no run, or one whose description was not cut off by a kill."""
    return "meta.yaml" not in scan.names(folder) or bool((folder / "meta.yaml").read_text("utf-8"))


def _show(source: Path, target: Path, *, copy: bool) -> None:
    if copy:
        publish.publish_directory(target, lambda temp: publish.copy_tree(source, temp))
    else:
        publish.symlink_once(target, os.path.relpath(source, target.parent))


def registered_models(store: Path) -> list[RegisteredModel]:
    """The model versions that were registered in *store* and whose files are there."""
    found = []
    for name in scan.names(store / "models"):
        for version in scan.names(store / "models" / name):
            if not version.startswith("version-"):
                continue
            text = (store / "models" / name / version / "meta.yaml").read_text("utf-8")
            path = _location(text)
            if path is not None and path.is_dir():
                found.append(RegisteredModel(name, int(version.partition("-")[2]), path))
    return found


def _location(meta: str) -> Path | None:
    """The folder that a model version's meta.yaml names; MLflow 3 has it apart from the source, `models:/…`."""
    for key in ("storage_location", "source"):
        match = re.search(rf"^{key}: (.+)$", meta, re.MULTILINE)
        if match:
            value = match[1].strip().strip("'\"")
            if value.startswith("file://"):
                from urllib.parse import unquote

                return Path(unquote(value.removeprefix("file://")))
            if value.startswith("/"):
                return Path(value)
    return None


def experiment_meta(name: str, artifacts: Path, now_ms: int) -> str:
    """The meta.yaml of an experiment."""
    return _yaml(
        {"artifact_location": artifacts.as_uri(), "creation_time": now_ms, "experiment_id": experiment_id(name),
         "last_update_time": now_ms, "lifecycle_stage": "active", "name": name}
    )  # fmt: skip


def run_meta(run: Run, artifacts: Path, now_ms: int) -> str:
    """The meta.yaml of a run that is running."""
    return _yaml(
        {"artifact_uri": f"{artifacts.as_uri()}/{run.run_id}/artifacts", "end_time": None, "entry_point_name": "",
         "experiment_id": experiment_id(run.experiment), "lifecycle_stage": "active", "run_id": run.run_id,
         "run_name": run.name, "run_uuid": run.run_id, "source_name": "", "source_type": 4, "source_version": "",
         "start_time": now_ms, "status": _RUNNING, "tags": [], "user_id": run.user}
    )  # fmt: skip


def _yaml(values: Mapping[str, object]) -> str:
    """JSON's scalars are YAML's; ids are quoted, so that they stay text."""
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())


def _put(path: Path, text: str) -> None:
    fd = publish.create_exclusive(path)
    try:
        publish.write_all(fd, text.encode())
    finally:
        os.close(fd)
