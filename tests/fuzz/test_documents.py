"""Whatever a YAML file or a name holds: it is understood, or there is one clean error. Nothing is ever executed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hpcbatch.cli.main import main
from hpcbatch.errors import SpecError
from hpcbatch.ids import is_job_name
from hpcbatch.operations.job_create import as_pipeline
from hpcbatch.operations.workspace import Workspace
from hpcbatch.registry.store import Registry
from hpcbatch.spec.assets import Data, Environment, Model
from hpcbatch.spec.base import Document, parse
from hpcbatch.spec.component import parse_component
from hpcbatch.spec.compute import Compute
from hpcbatch.spec.deployment import parse_deployment, plain_file_name
from hpcbatch.spec.endpoint import BatchEndpoint
from hpcbatch.spec.pipeline import PipelineJob
from hpcbatch.spec.refs import parse_ref
from hpcbatch.spec.yamlfile import Loaded, loads
from tests.fuzz.documents import damaged, hostile_text

PARSERS: dict[str, Callable[[Loaded], Document]] = {
    "deployment": parse_deployment,
    "endpoint": lambda loaded: parse(BatchEndpoint, loaded),
    "model": lambda loaded: parse(Model, loaded),
    "data": lambda loaded: parse(Data, loaded),
    "environment": lambda loaded: parse(Environment, loaded),
    "compute": lambda loaded: parse(Compute, loaded),
    "component": parse_component,
    "job": lambda loaded: parse(PipelineJob, as_pipeline(loaded)),
}
SEEDS = st.integers(0, 2**48)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@pytest.fixture(scope="module")
def nowhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty current folder: whatever appears in it was put there by something that should not have run."""
    folder = tmp_path_factory.mktemp("nowhere")
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)
    assert list(folder.iterdir()) == []


def parsed(seed: int) -> bool:
    """Whether the document with this number is one; asserts that otherwise one SpecError says all about it."""
    kind, raw = damaged(seed)
    started = time.process_time()
    refused = None
    try:
        PARSERS[kind](loads(raw, "x.yml", Path("/nowhere")))
    except SpecError as error:
        refused = error
    assert time.process_time() - started < 5, seed
    if refused is None:
        return True
    assert refused.fields["file"] == "x.yml", (seed, refused.fields)
    assert refused.hint, (seed, str(refused))
    assert refused.fields.get("line") is None or refused.fields["line"] <= raw.count(b"\n") + raw.count(b"\r") + 2
    assert len(str(refused)) < 100_000
    return False


@settings(max_examples=250, **QUIET)
@given(SEEDS)
def test_a_damaged_document_is_understood_or_one_error(nowhere: Path, seed: int) -> None:
    parsed(seed)


@pytest.mark.slow
def test_five_thousand_damaged_documents(nowhere: Path) -> None:
    """As above, many; and both answers occur often, so that the damage is of the right size."""
    found: list[bool] = []

    @settings(max_examples=5000, **QUIET)
    @given(SEEDS)
    def each(seed: int) -> None:
        found.append(parsed(seed))

    each()
    assert len(found) >= 4500
    assert 0.05 < sum(found) / len(found) < 0.95


def names(seed: int) -> None:
    """A name of anything stays inside its folder, and is one harmless word, or is refused."""
    text = hostile_text(seed)
    for check in (
        lambda: parse(BatchEndpoint, {"name": text}),
        lambda: parse(Model, {"name": text, "path": "x"}),
        lambda: parse(Compute, {"name": text}),
        lambda: Registry(Path("/r")).stream("models", text),
        lambda: parse_ref(text),
        lambda: plain_file_name(text),
    ):
        try:
            found: Any = check()
        except SpecError:
            continue
        name = getattr(found, "name", found)
        if hasattr(found, "folder"):
            assert os.path.normpath(found.folder) == f"/r/registry/models/{text}"
        elif isinstance(found, str):
            assert os.path.normpath(os.path.join("/out", found)) == f"/out/{found}"
        assert not {"/", "\0", "\n", "\x1b"} & set(name.removeprefix("model ")) or hasattr(found, "folder")
    if is_job_name(text):
        assert os.path.normpath(os.path.join("/jobs", text)) == f"/jobs/{text}"


@settings(max_examples=150, **QUIET)
@given(SEEDS)
def test_a_name_stays_in_its_folder_or_is_refused(seed: int) -> None:
    names(seed)


@pytest.mark.slow
@settings(max_examples=2000, **QUIET)
@given(SEEDS)
def test_two_thousand_names(seed: int) -> None:
    names(seed)


COMMANDS = """
batch-endpoint create -n
batch-endpoint show -n
model show -n
job show -n
job archive -n
compute create --type slurm -n
batch-endpoint create -f
data create --name d --path
model create --name m --path
environment create -n e --python
batch-deployment list -e
compute show --query
batch-endpoint create -n fine --set
batch-endpoint update -n fine --add
batch-endpoint invoke -n fine --input
batch-endpoint invoke -n fine --inputs
batch-endpoint invoke -n fine --job-name
configure --defaults
model list -w
job update -n x --set
model update -n x --remove
completion words --
batch-deployment create -e fine -f
""".strip().splitlines()


@pytest.mark.slow
def test_arguments_of_any_text_end_in_an_answer_or_a_documented_exit_code(
    nowhere: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Six hundred strings through the command line; nothing outside its own folders appears, no code 1 (a bug)."""
    root = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / "config"))
    monkeypatch.setenv("HPCBATCH_WORKSPACE", str(root / "ws"))
    main(["batch-endpoint", "create", "-n", "fine"])
    for seed in range(600):
        text = os.fsdecode(
            hostile_text(seed).encode("utf-8", "surrogatepass").replace(b"\0", b"")
        )  # as a shell gives it
        argv = [*COMMANDS[seed % len(COMMANDS)].split(), text]
        if "-w" in argv and ("/" in text or text in (".", "..", "~")):
            continue  # a path is a path: it may be anywhere
        code = main(argv)
        said = capsys.readouterr()
        assert code in (0, 2, 3, 4, 6, 7), (code, argv, said.err)
        assert "\x1b" not in said.err, argv
    assert {path.name for path in root.iterdir()} <= {".hpcbatch", "config", "ws"}


@pytest.mark.slow
def test_damaged_deployments_through_create_leave_the_registry_whole(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Two hundred files through `create -f`; afterwards every list still works."""
    monkeypatch.setenv("HPCBATCH_WORKSPACE", str(tmp_path / "ws"))
    for name in ("model", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "MLmodel").write_text("flavors: {python_function: {}}\n")
    nouns = {"deployment": "batch-deployment", "endpoint": "batch-endpoint"}
    for seed in range(200):
        kind, raw = damaged(seed)
        if kind == "job":
            continue  # it would run
        (tmp_path / "x.yml").write_bytes(raw)
        code = main([nouns.get(kind, kind), "create", "-f", str(tmp_path / "x.yml")])
        assert code in (0, 2, 3, 6), (seed, capsys.readouterr().err)
    capsys.readouterr()
    for noun in ("batch-endpoint", "model", "data", "environment", "compute"):
        assert main([noun, "list", "-o", "none"]) == 0
    assert capsys.readouterr().err == ""
    assert Workspace(tmp_path / "ws").registry.names("models")


@pytest.mark.slow
def test_damaged_pipelines_are_validated_or_one_error(
    nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Three hundred through `job validate`: nothing is started, nothing is written, no command runs."""
    monkeypatch.setenv("HPCBATCH_WORKSPACE", str(tmp_path / "ws"))
    found = []
    for seed in range(3000):
        kind, raw = damaged(seed)
        if kind == "job":
            (tmp_path / "x.yml").write_bytes(raw)
            found.append(main(["job", "validate", "-f", str(tmp_path / "x.yml")]))
            assert found[-1] in (0, 2, 3), (seed, capsys.readouterr().err)
    assert len(found) > 250
    assert found.count(0) > 10
    assert not (tmp_path / "ws").exists()
