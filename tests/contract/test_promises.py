"""What a job promises besides its rows: names, snapshots, downloads, bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpcbatch.errors import Conflict, FileDamaged, NotFound, SpecError
from hpcbatch.jobdir.coverage import read_coverage
from hpcbatch.operations import endpoints, jobs
from hpcbatch.operations import invoke as invoking
from hpcbatch.operations.resolve import resolve_deployment
from tests.site import ECHO, ENDPOINT, Site, echoed, eventually


def test_one_file_as_input(site: Site) -> None:
    data = site.data(3)
    ended = site.run(site.deploy(), data / "00001.txt", input_type="uri_file")
    assert (ended.status, ended.output) == ("Completed", b"00001.txt\n")


def test_the_same_name_for_something_else_is_a_conflict(site: Site) -> None:
    deployment, data = site.deploy(), site.data(2)
    name = site.start(deployment, data)
    with pytest.raises(Conflict, match="invoked with something else") as caught:
        site.start(deployment, data, job_name=name, mini_batch_size=1)
    assert caught.value.exit_code == 6
    assert site.start(deployment, data, job_name=name) == name
    assert site.wait(name).output == echoed(2)


def test_files_that_a_script_writes_and_the_layout_of_a_download(site: Site, tmp_path: Path) -> None:
    script = """
import os
from pathlib import Path

def run(mini_batch):
    for path in mini_batch:
        target = Path(os.environ["AZUREML_BI_OUTPUT_PATH"], "deep", os.path.basename(path) + ".out")
        target.parent.mkdir(exist_ok=True)
        target.write_text(Path(path).read_text() * 2)
    print("wrote", len(mini_batch))
    return mini_batch
"""
    written = site.run(site.deploy(script, mini_batch_size=2, output_action="summary_only"), site.data(5), groups=2)
    assert (written.status, written.output) == ("Completed", None)
    assert written.job["progress"]["items_succeeded"] == 5
    jobs.download_job(site.ws, written.job["name"], download_path=str(tmp_path / "a"), output_name="score")
    found = {p.relative_to(tmp_path / "a").as_posix(): p.read_text() for p in (tmp_path / "a").rglob("*.out")}
    assert found == {f"named-outputs/score/deep/{n:05d}.txt.out": f"{n}{n}" for n in range(5)}

    rows = site.run(site.deploy(script, output_file_name="Mine.csv"), site.data(2))
    jobs.download_job(site.ws, rows.job["name"], download_path=str(tmp_path / "b"), all=True)
    assert (tmp_path / "b" / "named-outputs" / "score" / "Mine.csv").read_bytes() == rows.output
    logs = [path.read_text() for path in (tmp_path / "b" / "artifacts").rglob("*.out")]
    assert any("] wrote 2" in log for log in logs)
    with pytest.raises(NotFound, match="no output named 'other'"):
        jobs.download_job(site.ws, rows.job["name"], output_name="other")


def test_an_output_folder_of_ones_own(site: Site, tmp_path: Path) -> None:
    deployment, data = site.deploy(output_file_name="mine.txt"), site.data(3)
    ended = site.run(deployment, data, output_path=str(tmp_path / "new" / "folder"))
    assert (ended.status, ended.output) == ("Completed", echoed(3))
    assert (tmp_path / "new" / "folder" / "mine.txt").read_bytes() == echoed(3)
    with pytest.raises(Conflict, match="nothing is overwritten"):
        site.start(deployment, data, output_path=str(tmp_path / "new" / "folder"))


def test_edits_after_create_and_during_the_job_change_nothing(site: Site) -> None:
    script = "import time\n" + ECHO.replace("return [", "time.sleep(0.3)\n    return [")
    model = {"w.txt": "weights"}
    deployment = site.deploy(script, mini_batch_size=1, model=model)
    folder, data = site.folder / deployment, site.data(6)
    (folder / "code" / "score.py").write_text("import nothing_of_the_kind")
    (folder / "model" / "w.txt").write_text("other weights")
    name = site.start(deployment, data, groups=3, instance_count=1)
    eventually(lambda: read_coverage(jobs.find_job(site.ws, name)).done)
    site.deploy("def run(m):\n    return 1 / 0", name=deployment)
    (folder / "code" / "score.py").unlink()
    ended = site.wait(name)
    assert (ended.status, ended.output) == ("Completed", echoed(6))


def test_a_damaged_snapshot_is_refused_and_nothing_runs(site: Site, tmp_path: Path) -> None:
    script = f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(m):\n    return m\n"
    deployment = site.deploy(script, model={"w.txt": "weights of this test"})
    resolved = resolve_deployment(site.ws, ENDPOINT, deployment)
    assert resolved.model
    assert resolved.code
    snapshot = Path(resolved.model.path, "model", "w.txt")
    content = snapshot.read_bytes()
    snapshot.chmod(0o600)
    snapshot.write_bytes(content[:-1] + b"S")
    snapshot.chmod(0o444)
    ended = site.run(deployment, site.data(2))
    assert (ended.status, ended.exit_code) == ("Failed", 5)
    assert "w.txt is not the file that was registered" in ended.detail
    assert not (tmp_path / "ran").exists()
    Path(resolved.code.path).unlink()
    Path(resolved.code.path).write_bytes(b"print('gotcha')")
    with pytest.raises(FileDamaged, match="is not the code that was registered") as caught:
        site.start(deployment, site.data(2))
    assert caught.value.exit_code == 7
    Path(resolved.code.path).unlink()


@pytest.mark.parametrize("name", ["code.zip", "manifest.bin"])
def test_a_sealed_file_that_was_changed_is_refused_and_nothing_runs(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Somebody changes it after the job was sealed and before it runs."""
    deployment = site.deploy(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef run(m):\n    return m\n")
    with monkeypatch.context() as patch:
        patch.setattr(invoking, "submit", lambda job, round_number: None)
        job_name = site.start(deployment, site.data(2))
    sealed = site.root(job_name) / name
    content = bytearray(sealed.read_bytes())
    content[len(content) // 2] ^= 1
    sealed.chmod(0o600)
    sealed.write_bytes(content)
    assert jobs.show_job(site.ws, job_name)["status"] == "NotStarted"
    jobs.resume_job(site.ws, job_name)
    ended = site.wait(job_name)
    assert (ended.status, ended.exit_code, ended.output) == ("Failed", 5, None), ended
    assert f"{name} is not the" in ended.detail
    assert not (tmp_path / "ran").exists()


def test_an_environment_that_is_gone_when_the_job_runs_is_named(site: Site, tmp_path: Path) -> None:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_bytes(b"#!/nowhere/python\n")
    python.chmod(0o755)
    ended = site.run(site.deploy(python=python, mini_batch_size=1), site.data(2))
    assert (ended.status, ended.exit_code) == ("Failed", 5), ended
    assert f"the interpreter {str(python)!r} cannot be started: No such file or directory" in ended.detail


def jobs_in(site: Site) -> set[str]:
    return {path.name for path in site.ws.jobs.glob("*/*")}


def test_bad_input_is_refused_with_what_to_do_and_leaves_nothing(site: Site, tmp_path: Path) -> None:
    deployment, before = site.deploy(), jobs_in(site)
    (tmp_path / "empty").mkdir()
    for path, kind, words in [
        (tmp_path / "missing", "uri_folder", "does not exist"),
        (tmp_path / "empty", "uri_folder", "holds no file"),
        (tmp_path / "empty", "uri_file", "is a folder, but its type is uri_file"),
        (site.data(1) / "00000.txt", "uri_folder", "is a file, but its type is uri_folder"),
    ]:
        with pytest.raises(SpecError, match=words) as caught:
            site.start(deployment, path, input_type=kind)
        assert (caught.value.exit_code, bool(caught.value.hint)) == (2, True)
    with pytest.raises(NotFound, match="never-made") as missing:
        site.start(site.deploy(compute="never-made"), site.data(1))
    assert "hpcbatch compute" in str(missing.value)
    with pytest.raises(NotFound, match="no-such-deployment"):
        site.start("no-such-deployment", site.data(1))
    with pytest.raises(SpecError, match=r"score.py.*line 2|score.py:2") as syntax:
        site.deploy("def run(m):\n    return (m\n")
    assert syntax.value.exit_code == 2
    with pytest.raises(SpecError, match="run"):
        site.deploy("def runs(m):\n    return m\n")
    with pytest.raises(Conflict):
        endpoints.create_endpoint(site.ws, name=ENDPOINT.upper())
    assert jobs_in(site) == before


def test_invoked_from_inside_a_slurm_job(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the enclosing job left in the environment neither selects work nor becomes options of the new job."""
    outer = {
        "SLURM_JOB_ID": "4711",
        "SLURM_ARRAY_JOB_ID": "4711",
        "SLURM_ARRAY_TASK_ID": "3",
        "SLURM_RESTART_COUNT": "9",
        "SLURM_NTASKS": "3",
        "SLURM_CPUS_PER_TASK": "99",
        "SLURM_MEM_PER_NODE": "7",
        "SLURM_EXPORT_ENV": "NONE",
        "SBATCH_PARTITION": "no-such-partition",
        "SBATCH_TIMELIMIT": "1",
        "SRUN_CPUS_PER_TASK": "99",
        "SLURM_STEP_NODELIST": "elsewhere",
        "SLURM_NODELIST": "elsewhere",
        "PMI_RANK": "2",
        "PYTHONPATH": "/nowhere",
    }
    for key, value in outer.items():
        monkeypatch.setenv(key, value)
    ended = site.run(site.deploy(mini_batch_size=1), site.data(4), groups=2)
    assert (ended.status, ended.output) == ("Completed", echoed(4)), ended
