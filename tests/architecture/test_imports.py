"""What importing costs, and which names are public: a thousand array tasks import from one filesystem at once."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys

import pytest

from tests.architecture.tree import PACKAGE, ROOT, report, syntax

HEAVY = {
    "pydantic",
    "yaml",
    "fsspec",
    "submitit",
    "cloudpickle",
    "mlflow",
    "pyarrow",
    "numpy",
    "pandas",
    "mpi4py",
    "pathspec",
}
LOGIN_NODE = {"hpcbatch.operations", "hpcbatch.registry", "hpcbatch.spec", "hpcbatch.cli", "hpcbatch.client"}


def modules_after(statement: str) -> set[str]:
    """The names in sys.modules of a fresh interpreter that ran *statement*."""
    code = f"{statement}\nimport json, sys\nsys.stdout.write(json.dumps(sorted(sys.modules)))"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("COV_", "COVERAGE"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=False, timeout=60
    )
    assert done.returncode == 0, f"{statement} failed:\n{done.stderr}"
    return set(json.loads(done.stdout))


def _below(loaded: set[str], names: set[str]) -> list[str]:
    return sorted(m for m in loaded if any(m == name or m.startswith(name + ".") for name in names))


@pytest.mark.parametrize("module", ["hpcbatch.worker.entry", "hpcbatch.merge.entry"])
def test_the_node_side_imports_nothing_heavy(module: str) -> None:
    """Neither YAML nor models nor remote storage nor submission is loaded by an array task or a merge."""
    report(_below(modules_after(f"import {module}"), HEAVY | LOGIN_NODE | {"rich", "jmespath"}), f"{module} loads:")


@pytest.mark.parametrize("module", ["hpcbatch.worker.entry", "hpcbatch.merge.entry"])
def test_the_node_side_imports_no_more_of_the_standard_library_than_it_uses(module: str) -> None:
    """Every array task and every merge pays for each of these, from one filesystem."""
    unused = {"secrets", "hmac", "concurrent", "logging", "asyncio", "http", "email"}
    report(_below(modules_after(f"import {module}") - modules_after("pass"), unused), f"{module} loads:")


@pytest.mark.parametrize("module", ["hpcbatch.operations.invoke", "hpcbatch.operations.resolve"])
def test_invoking_a_model_imports_neither_pipelines_nor_what_only_some_jobs_use(module: str) -> None:
    """The documents of pipelines are a third of what `invoke` would import; submitit is imported to submit."""
    loaded = modules_after(f"import {module}")
    pipelines = [name for name in loaded if name.startswith("hpcbatch.") and "pipeline" in name]
    rooms = _below(loaded, {"hpcbatch.steps", "hpcbatch.spec.component", "hpcbatch.operations.components"})
    report(sorted(pipelines) + rooms, f"{module} loads:")
    report(_below(loaded, HEAVY - {"pydantic", "yaml"} | {"rich", "jmespath"}), f"{module} loads:")


def test_importing_the_package_loads_no_room_of_it() -> None:
    """`import hpcbatch` is lazy: public names are loaded when first used."""
    loaded = _below(modules_after("import hpcbatch"), {"hpcbatch", *HEAVY, "rich"})
    assert loaded == ["hpcbatch"]


def test_the_command_line_starts_with_argparse_alone() -> None:
    """`hpcbatch --help` answers before the eye notices, because nothing heavy is loaded for it."""
    code = "from hpcbatch.cli.main import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n    pass"
    code = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    exec({code!r})"
    heavy = HEAVY | {"rich", "jmespath", "hpcbatch.operations", "hpcbatch.registry", "hpcbatch.spec"}
    report(_below(modules_after(code), heavy), "hpcbatch --help loads:")


def test_public_names_are_exact_sorted_and_there() -> None:
    """`__all__` is what we promise to keep: each name exists, and no other public name does."""
    import hpcbatch

    names = list(getattr(hpcbatch, "__all__", []))
    assert names == sorted(names)
    assert len(names) == len(set(names)) <= 20
    for name in names:
        assert getattr(hpcbatch, name) is not None
    report(sorted(_defined_in_package() - set(names) - {"annotations"}), "Public in hpcbatch but not in __all__:")


def _defined_in_package() -> set[str]:
    """Names that `hpcbatch/__init__.py` itself binds, without the private ones."""
    found: set[str] = set()
    for node in syntax(PACKAGE / "__init__.py").body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
    return {name for name in found if not name.startswith("_")}
