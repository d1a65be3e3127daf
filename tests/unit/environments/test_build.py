"""Virtual environments: built once for each content, by real pip, from a wheel in a folder."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hpcbatch.environments import build as builder
from hpcbatch.environments.build import Base, base_for, build, digest_of, find_built
from hpcbatch.environments.requirements import Requirements
from hpcbatch.environments.resolve import built, resolve_environment
from hpcbatch.errors import SpecError
from hpcbatch.fs.living import process_note
from tests.unit.environments.wheels import wheel

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
BASE = Base(sys.executable, VERSION)


def tiny(folder: Path) -> Requirements:
    return Requirements("conda.yml", ("--no-index", str(wheel(folder))), VERSION)


def places(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("environments/*/*/*") if path.is_dir())


def value(python: str) -> str:
    command = [python, "-I", "-c", "import tiny; print(tiny.VALUE)"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.slow
def test_an_environment_is_built_once_whoever_is_killed_or_builds_it_too(
    tmp_path: Path, eventually: Callable[..., None]
) -> None:
    """A builder is killed when pip is done; of the next two, one inside the other, the first to be done counts."""
    requirements, root = tiny(tmp_path), tmp_path / "ws"
    script = (
        "import time\nfrom pathlib import Path\nfrom hpcbatch.environments.build import Base, build\n"
        "from hpcbatch.environments.requirements import Requirements\n"
        "def say(line):\n    if 'Successfully' in line:\n        time.sleep(600)\n"
        f"build(Path({str(root)!r}), Requirements('conda.yml', {requirements.lines!r}), "
        f"Base({sys.executable!r}, {VERSION!r}), say)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as killed:
        eventually(
            lambda: list(root.glob("environments/*/*/*/lib/python*/site-packages/tiny-1.0.dist-info/RECORD")), 120
        )
        killed.kill()
    (left,) = places(root)
    assert find_built(root, digest_of(requirements, BASE)) is None
    said, others = list[str](), list[str]()

    def meanwhile(line: str) -> None:
        said.append(line)
        if "Successfully" in line and not others:
            others.append("")
            others[0] = build(root, requirements, BASE, lambda _: None)

    python = build(root, requirements, BASE, meanwhile)
    assert python == others[0]
    assert value(python) == "7"
    assert said[0].startswith("Building the Python environment of conda.yml")
    assert "Successfully installed tiny-1.0" in said[-2]
    assert "Another process built the same environment first" in said[-1]
    (place,) = places(root)
    assert (str(place), place != left) == (os.path.dirname(os.path.dirname(python)), True)
    assert place.stat().st_mode & 0o055 == 0o055, "compute nodes and colleagues read it"
    assert {path.name for path in place.parent.glob("*.json")} == {"current.json", f"{place.name}.json"}
    assert build(root, requirements, BASE, said.append) == python
    assert places(root) == [place]
    wheel(tmp_path, body="VALUE = 8\n")
    assert find_built(root, digest_of(requirements, BASE)) is None, "another content under the same name"


@pytest.mark.slow
def test_a_failure_of_pip_has_its_last_words_the_file_and_the_way_out(tmp_path: Path) -> None:
    requirements = Requirements("conda.yml", ("--no-index", "no-such-package==1"), VERSION)
    with pytest.raises(SpecError) as caught:
        build(tmp_path / "ws", requirements, BASE, lambda _: None)
    assert "No matching distribution found for no-such-package==1" in caught.value.message
    assert caught.value.fields["file"] == "conda.yml"
    assert "PIP_FIND_LINKS" in caught.value.hint
    assert "hpcbatch environment map" in caught.value.hint
    assert places(tmp_path / "ws") == []


def test_the_builder_of_another_machine_may_be_at_work_and_its_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "abc").mkdir()
    here = process_note(os.getpid())
    (tmp_path / "abc.json").write_text(json.dumps({**here, "host": "elsewhere", "pid": 1, "started": 1}))
    builder._remove_left_over(tmp_path)
    assert (tmp_path / "abc").is_dir()
    (tmp_path / "abc.json").write_text(json.dumps(here))
    builder._remove_left_over(tmp_path)
    assert (tmp_path / "abc").is_dir(), "its builder lives"
    (tmp_path / "abc.json").write_text(json.dumps({**here, "started": 1}))
    builder._remove_left_over(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_interpreter_of_the_wanted_version_is_used_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = Requirements("c.yml", ("a",), "3.8.5")
    monkeypatch.setenv("PATH", str(tmp_path))
    chosen = base_for(wanted)
    assert (chosen.python, chosen.version) == (sys.executable, VERSION)
    assert "asks for Python 3.8.5" in chosen.warnings[0]
    other = tmp_path / "python3.8"
    other.write_text("#!/bin/sh\nexit 127\n")
    other.chmod(0o755)
    assert base_for(wanted) == chosen, "it is there and does not run"
    other.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    assert base_for(wanted) == Base(sys.executable, "3.8")
    assert base_for(Requirements("c.yml", ("a",), VERSION + ".99")) == BASE
    (warning,) = base_for(Requirements("c.yml", ("a",), None, ("cudatoolkit",))).warnings
    assert "asks conda for cudatoolkit" in warning


def test_the_choice_names_the_file_and_builds_nothing(tmp_path: Path) -> None:
    conda = {"name": "torch", "requirements": Requirements("conda.yml", ("torch",), None).document()}
    found, warnings = resolve_environment(conda, [], root=tmp_path)
    assert (found.python, found.origin, warnings) == ("", "built from conda.yml", ())
    assert list(tmp_path.iterdir()) == []
    mapped, _ = resolve_environment(conda, [{"glob": "*", "python": sys.executable}], root=tmp_path)
    assert mapped.origin == "map '*'"
    assert built(mapped, tmp_path, lambda _: None) is mapped
    (tmp_path / "requirements.txt").write_text("mlflow\n")
    model, _ = resolve_environment(None, [], root=tmp_path, model_name="m", mlflow_model=tmp_path)
    assert model.origin == f"built from {tmp_path}/requirements.txt"


def test_an_environment_that_lost_its_interpreter_is_named_with_what_to_type(tmp_path: Path) -> None:
    requirements = Requirements("c.yml", (), VERSION)
    folder = tmp_path / "environments" / pwd.getpwuid(os.getuid()).pw_name / digest_of(requirements, BASE)
    folder.mkdir(parents=True)
    (folder / "current.json").write_text(json.dumps({"python": "/nowhere/bin/python"}))
    with pytest.raises(SpecError, match="its interpreter is gone") as caught:
        build(tmp_path, requirements, BASE, lambda _: None)
    assert f"rm -r {folder}" in caught.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
def test_a_workspace_of_a_user_without_a_name_is_looked_into(tmp_path: Path) -> None:
    """In a container, where /etc/passwd does not have everybody, a user is a number."""
    nameless = 4_000_000_019
    folder = tmp_path / "environments" / str(nameless) / "d"
    folder.mkdir(parents=True)
    (folder / "current.json").write_text(json.dumps({"python": sys.executable}))
    for one in (tmp_path, folder):
        os.chown(one, nameless, -1)
    assert find_built(tmp_path, "d") == sys.executable
