"""What pip has to install, read from conda files and from what MLflow saves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcbatch.environments.requirements import Requirements, of_conda, of_document, of_model
from hpcbatch.errors import SpecError
from tests.unit.environments.wheels import wheel


def conda(*dependencies: Any) -> dict[str, Any]:
    return {"name": "e", "channels": ["conda-forge"], "dependencies": list(dependencies)}


@pytest.mark.parametrize(
    ("text", "version"),
    [("python=3.8.5", "3.8.5"), ("python==3.10", "3.10"), ("python>=3.9", "3.9"), ("python = 3.11", "3.11"),
     ("python", None)],
)  # fmt: skip
def test_the_python_of_a_conda_file_is_read(tmp_path: Path, text: str, version: str | None) -> None:
    found = of_conda(conda(text, {"pip": ["numpy"]}), tmp_path, "c.yml")
    assert found == Requirements("c.yml", ("numpy",), version)
    assert found is not None
    assert of_document(found.document()) == found


def test_what_only_conda_can_install_is_named_and_the_tools_of_pip_are_not(tmp_path: Path) -> None:
    names = ("pip", "pip=21.2", "setuptools<60", "conda-forge::cudatoolkit=11", "numpy>=1.2", "python=3.9")
    found = of_conda(conda(*names, {"pip": ["a"]}), tmp_path, "c.yml")
    assert found is not None
    assert found.not_pip == ("conda-forge::cudatoolkit=11", "numpy>=1.2")


def test_a_conda_file_without_a_pip_part_asks_for_nothing(tmp_path: Path) -> None:
    assert of_conda(conda("numpy", {"pip": []}), tmp_path, "c.yml") is None
    assert of_conda({}, tmp_path, "c.yml") is None
    assert of_document(None) is None


def test_options_comments_and_local_paths_become_complete_lines(tmp_path: Path) -> None:
    """Whoever reads the lines later needs neither the folder nor the files that were included."""
    made = wheel(tmp_path / "wheels")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "base.txt").write_text("# first\nb==1 # why\n-r deeper.txt\nc \\\n  >= 2\n")
    (tmp_path / "more" / "deeper.txt").write_text("--index-url https://example.org/simple\nd\n")
    (tmp_path / "bounds.txt").write_text("b<2\n")
    lines = [
        "--find-links=wheels", "-f wheels", f"./wheels/{made.name}", "-r more/base.txt", "-c bounds.txt", "-e more",
        "x @ https://example.org/x.whl", "git+https://example.org/y.git", "-e git+https://example.org/z.git",
        "--no-binary=b", "e[extra]>=1; python_version > '3.7'",
    ]  # fmt: skip
    found = of_conda(conda({"pip": lines}), tmp_path, "c.yml")
    assert found is not None
    assert found.lines == (
        f"--find-links {tmp_path}/wheels", f"-f {tmp_path}/wheels", str(made), "b==1",
        "--index-url https://example.org/simple", "d", "c   >= 2", f"-c {tmp_path}/bounds.txt", f"-e {tmp_path}/more",
        *lines[6:],
    )  # fmt: skip


def test_a_path_that_is_not_there_and_files_that_include_each_other_are_errors(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="does not exist") as caught:
        of_conda(conda({"pip": ["-r nowhere.txt"]}), tmp_path, "c.yml")
    assert caught.value.fields["file"] == "c.yml"
    (tmp_path / "a.txt").write_text("-r a.txt\n")
    with pytest.raises(SpecError, match="included more than"):
        of_conda(conda({"pip": ["-r a.txt"]}), tmp_path, "c.yml")


def test_a_models_requirements_come_from_the_first_file_that_has_them(tmp_path: Path) -> None:
    assert of_model(tmp_path) is None
    (tmp_path / "python_env.yaml").write_text(
        "python: 3.10.4\nbuild_dependencies: [pip]\ndependencies: [mlflow==2.9]\n"
    )
    found = of_model(tmp_path)
    assert found == Requirements(str(tmp_path / "python_env.yaml"), ("mlflow==2.9",), "3.10.4")
    (tmp_path / "conda.yaml").write_text("dependencies:\n- python=3.8.5\n- pip:\n  - mlflow==2.8\n")
    found = of_model(tmp_path)
    assert found is not None
    assert (found.lines, found.source) == (("mlflow==2.8",), str(tmp_path / "conda.yaml"))
    (tmp_path / "requirements.txt").write_text("mlflow==2.7\n")
    assert of_model(tmp_path) == Requirements(str(tmp_path / "requirements.txt"), ("mlflow==2.7",), "3.10.4")
    (tmp_path / "python_env.yaml").unlink()
    found = of_model(tmp_path)
    assert found is not None
    assert found.python == "3.8.5"
    (tmp_path / "requirements.txt").write_text("# nothing\n")
    assert of_model(tmp_path) is None
