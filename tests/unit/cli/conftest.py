"""A command line to call: its own workspace, nothing of the user's."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.cli.main import main


@dataclass(frozen=True)
class Ran:
    """What one command did."""

    exit_code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """stdout as data."""
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace that every command of the test uses."""
    monkeypatch.setenv("HPCBATCH_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "ws"


@pytest.fixture
def cli(workspace: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run one command in this process: its words, or one line of them."""

    def run(*argv: str) -> Ran:
        exit_code = main(shlex.split(argv[0]) if len(argv) == 1 else argv)
        captured = capsys.readouterr()
        return Ran(exit_code, captured.out, captured.err)

    return run
