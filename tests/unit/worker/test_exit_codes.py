"""What the end of an array task tells whoever started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.jobdir.sealed import seal

FAILING = """
import os, sys
def fail(path, *rest, **more):
    raise OSError({number}, os.strerror({number}), str(path))
from hpcbatch.worker.entry import main
os.mkdir = fail
raise SystemExit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(("number", "code"), [(28, 75), (122, 75), (5, 74)])
def test_a_full_disk_is_another_end_than_a_broken_one(tmp_path: Path, number: int, code: int) -> None:
    """75: trying at once again would end the same way; 74: it may not. The folder of the group cannot be made."""
    job = seal(tmp_path / "b1")
    command = [sys.executable, "-c", FAILING.format(number=number), str(job.root), job.sha256, "0", "0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done
    assert "ERROR: Cannot use" in done.stdout
