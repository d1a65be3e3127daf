"""Put something that a job made into the workspace's registry, from a node: by the command that a person would type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODELS = ("mlflow_model", "custom_model", "triton_model")
DEADLINE_S = 600.0


def register(workspace: Path, wanted: str, kind: str, path: str, deadline_s: float = DEADLINE_S) -> str:
    """Register *path* as the model or data asset *wanted* (`name` or `name:version`); one sentence about what came of
    it, which begins with `ERROR` if it could not be registered.
    """
    name, _, version = wanted.partition(":")
    noun = "model" if kind in MODELS else "data"
    command = [sys.executable, "-I", "-m", "hpcbatch", noun, "create", "--name", name, "--type", kind, "--path", path,
               "--workspace-name", str(workspace), *(["--version", version] if version else []),
               "--query", "version", "--output", "tsv"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=deadline_s)
    except subprocess.TimeoutExpired:
        return f"ERROR: {noun} {name!r} could not be registered: it took longer than {deadline_s:g} s"
    if done.returncode:
        return f"ERROR: {noun} {name!r} could not be registered: {done.stderr.strip()}"
    return f"registered {noun} {name}:{done.stdout.strip()}"
