"""The same tests on every compute."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.cases import STATE_MODULE, Case
from tests.site import Site

SLURM_COMPUTES = (
    {"name": "slurm", "type": "slurm", "partition": "normal"},
    {
        "name": "spot",
        "type": "slurm",
        "partition": "normal",
        "low_priority_partition": "preempt",
        "tier": "low_priority",
    },
)


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with nothing in it, not even pip."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


@pytest.fixture(scope="session", params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A workspace on the compute."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-tell")
        folder = tmp_path_factory.mktemp(request.param)
        if request.param == "local":
            yield Site(folder, "local").set_up()
        else:
            patch.setenv("SLURM_CONF", str(request.getfixturevalue("devcluster").conf))
            yield Site(folder, "slurm").set_up(*SLURM_COMPUTES)


class Runner:
    """Starts the jobs of cases; on Slurm, where each waits for the scheduler, those of all selected tests at once."""

    def __init__(self, site: Site, bare_python: Path, selected: list[Case]) -> None:
        self._site = site
        self._bare_python = bare_python
        self._names: dict[str, str] = {}
        if site.compute != "local":
            for case in selected:
                self.start(case)

    def start(self, case: Case) -> str:
        """The name of the case's one job."""
        if case.name not in self._names:
            python = self._bare_python if case.bare else sys.executable
            settings = dict(case.settings)
            variables = {"STATE": str(self.state(case)), **settings.pop("environment_variables", {})}
            deployment = self._site.deploy(
                case.script,
                python=python,
                files={"state.py": STATE_MODULE},
                model=case.model,
                environment_variables=variables,
                **settings,
            )
            self.state(case).mkdir()
            data = self._site.data(case.items, case.names)
            self._names[case.name] = self._site.start(deployment, data, **case.overrides)
        return self._names[case.name]

    def state(self, case: Case) -> Path:
        """A folder that the case's script shares with the test."""
        return self._site.folder / f"state of {case.name}".replace(" ", "_")


@pytest.fixture(scope="session")
def runner(request: pytest.FixtureRequest, site: Site, bare_python: Path) -> Runner:
    selected = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    return Runner(site, bare_python, [p["case"] for p in selected if p.get("site") == site.compute and "case" in p])
