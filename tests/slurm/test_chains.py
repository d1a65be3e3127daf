"""Jobs among other Slurm jobs: what they wait for, what waits for them, and what a dry run says before."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpcbatch.cli.main import main
from hpcbatch.operations import jobs
from hpcbatch.operations.dry_run import dry_run
from hpcbatch.operations.invoke import InputRef, InvokeRequest, invoke
from tests.processes import of_job
from tests.servers import ACCESS_KEY, S3, SECRET_KEY
from tests.site import ENDPOINT, Site, echoed, eventually

if TYPE_CHECKING:
    from tests.conftest import DevCluster

pytestmark = pytest.mark.slurm


@pytest.fixture
def cluster(devcluster: DevCluster, monkeypatch: pytest.MonkeyPatch) -> DevCluster:
    monkeypatch.setenv("SLURM_CONF", str(devcluster.conf))
    return devcluster


@pytest.fixture
def site(cluster: DevCluster, tmp_path: Path) -> Site:
    return Site(tmp_path, "slurm").set_up(
        {"name": "slurm", "type": "slurm"},
        {"name": "narrow", "type": "slurm", "max_array_tasks": 2},
        {"name": "nowhere", "type": "slurm", "partition": "no-such-partition"},
    )


def words(site: Site, deployment: str, data: Path | str, *more: str) -> list[str]:
    return ["batch-endpoint", "invoke", "-w", str(site.ws.root), "-n", ENDPOINT, "-d", deployment, "--input", str(data),
            *more]  # fmt: skip


def test_sbatch_invoke_sbatch(site: Site, cluster: DevCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The array waits for the job before; the job after starts when the output is there."""
    deployment, data = site.deploy(instances=2), site.data(20)
    mark, seen = site.folder / "mark", site.folder / "seen"
    first = cluster.submit("--output=/dev/null", "--hold", wrap=f"touch {mark}")
    capsys.readouterr()
    arguments = words(site, deployment, data, "--job-name", "middle", "--output-path", str(site.folder / "out"))
    assert main([*arguments, "--dependency", f"afterok:{first}", "--parsable"]) == 0
    merge = capsys.readouterr().out
    assert merge.endswith("\n")
    assert merge.strip().isdigit()
    last = cluster.submit(
        "--output=/dev/null",
        f"--dependency=afterok:{merge.strip()}",
        wrap=f"cp {site.folder}/out/predictions.csv {seen}",
    )
    eventually(lambda: "Dependency" in jobs.show_job(site.ws, "middle")["detail"])
    cluster.run("scontrol", "release", first)
    assert site.wait("middle").output == echoed(20)
    cluster.wait(last)
    assert mark.exists()
    assert seen.read_bytes() == echoed(20)


def test_sbatch_pipeline_sbatch(site: Site, cluster: DevCluster, capsys: pytest.CaptureFixture[str]) -> None:
    """The first step waits for the job before; the job after starts only when all steps have completed."""
    folder = site.folder / "pipe"
    folder.mkdir()
    step = "{environment: {image: x}, command: '%s', outputs: {o: '${{parent.outputs.o}}'}}"
    text = f"type: pipeline\ncompute: slurm\noutputs: {{o: {{type: uri_file}}}}\njobs: {{one: {step}}}\n"
    (folder / "good.yml").write_text(text % "date > ${{outputs.o}}")
    (folder / "bad.yml").write_text(text % "exit 3")
    create = ["job", "create", "-w", str(site.ws.root), "-f"]
    assert main([*create, str(folder / "good.yml"), "--dry-run"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["slurm_jobs"], found["slurm_calls"]["sbatch"]) == (2, 2)
    assert [len(one["text"]) > 100 for one in found["scripts"]] == [True, True]
    assert all(one["accepted"] for one in found["test_only"])
    first = cluster.submit("--output=/dev/null", "--hold", wrap="true")
    ends = {}
    for name in ("good", "bad"):
        arguments = [*create, str(folder / f"{name}.yml"), "-n", name, "--dependency", f"afterok:{first}", "--parsable"]
        assert main(arguments) == 0
        ends[name] = capsys.readouterr().out.strip()
    seen = {name: site.folder / f"seen-{name}" for name in ends}
    last = [
        cluster.submit("--output=/dev/null", "--kill-on-invalid-dep=yes", f"--dependency=afterok:{end}",
                       wrap=f"touch {seen[name]}")
        for name, end in ends.items()
    ]  # fmt: skip
    assert not jobs.show_job(site.ws, "good.one").get("began")
    cluster.run("scontrol", "release", first)
    for one in last:
        cluster.wait(one, 120)
    assert [jobs.show_job(site.ws, name)["status"] for name in ends] == ["Completed", "Failed"]
    assert [each.exists() for each in seen.values()] == [True, False]


def test_what_waits_for_a_merge_that_goes_on_waits_for_the_output(site: Site, cluster: DevCluster) -> None:
    """A task of the array was cancelled: the merge has the rest run again, and ends well without an output."""
    go = site.folder / "go"
    slow = (
        f"import os, time\n\ndef run(b):\n    while not os.path.exists({str(go)!r}):\n        time.sleep(0.02)\n"
        "    return [os.path.basename(p) for p in b]\n"
    )
    deployment = site.deploy(slow, instances=2, mini_batch_size=1, retry_settings={"timeout": 600})
    name = site.start(deployment, site.data(20), groups=2)
    job = jobs.find_job(site.ws, name)
    note = job.document(job.paths.round(0) / "array-0.json") or {}
    merge = str((job.document(job.paths.round(0) / "merge.json") or {})["slurm_job_id"])
    seen = site.folder / "seen"
    last = cluster.submit(
        "--output=/dev/null", f"--dependency=afterok:{merge}", wrap=f"cp {job.paths.out}/predictions.csv {seen}"
    )
    array, task = note["slurm_job_id"], f"{note['slurm_job_id']}_1"
    eventually(lambda: len(cluster.run("squeue", "-h", "-r", "-t", "R", "-j", array).splitlines()) == 2)
    cluster.run("scancel", task)
    eventually(lambda: task not in cluster.run("squeue", "-h", "-r", "-o", "%i").split())
    go.touch()
    ended = site.wait(name)
    assert ended.output == echoed(20)
    assert job.rounds() == [0, 1]
    cluster.wait(last)
    assert seen.read_bytes() == echoed(20)


def test_a_dry_run_asks_slurm_and_submits_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster has other jobs, which come and go: whether this one submits is seen at its sbatch."""
    deployment, data = site.deploy(instances=3, mini_batch_size=1, compute="narrow"), site.data(10)
    program, asked = site.folder / "bin" / "sbatch", site.folder / "asked"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$*" >>{asked}\nexec {shutil.which("sbatch")} "$@"\n')
    program.chmod(0o755)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
        found = dry_run(site.ws, site.request(deployment, data, groups=5))
    assert not site.ws.jobs.exists()
    assert asked.read_text().splitlines() == ["--test-only"] * 2
    assert [window["array_tasks"] for window in found["windows"]] == [2, 2, 1]
    assert found["slurm_calls"] == {"sbatch": 4, "scontrol": 1}
    assert all(one["accepted"] and "to start at" in one["said"] for one in found["test_only"]), found["test_only"]
    array, merge = (one["text"] for one in found["scripts"])
    assert "#SBATCH --array=0-1%" in array
    assert "hpcbatch.worker" in array
    assert "hpcbatch.merge" in merge
    ended = site.run(deployment, data, groups=5)
    eventually(lambda: not of_job(Path(ended.job["job_directory"])))
    inodes = sum(1 for _ in Path(ended.job["job_directory"]).rglob("*")) + 1
    assert inodes <= found["inodes"] <= inodes + 20


def test_a_dry_run_says_what_slurm_would_refuse(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = words(site, site.deploy(compute="nowhere"), site.data(1), "--dry-run")
    capsys.readouterr()
    assert main(arguments) == 4
    said = capsys.readouterr()
    assert "invalid partition" in said.err.lower()
    assert [one["accepted"] for one in json.loads(said.out)["test_only"]] == [False, False]


def test_objects_are_scored_on_slurm_and_no_secret_is_seen(
    site: Site, cluster: DevCluster, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named variables travel in the environment of the job: in no file of it, no script, no answer of scontrol."""
    s3.bucket("on-slurm", {f"in/{n:02d}.txt": b"x" for n in range(12)})
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("TEAM_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEAM_SECRET", SECRET_KEY)
    options = {"key": {"env": "TEAM_KEY"}, "secret": {"env": "TEAM_SECRET"}}
    request: Any = InvokeRequest(
        ENDPOINT, site.deploy(instances=2, mini_batch_size=2), InputRef("s3://on-slurm/in", "uri_folder", options),
        output_path="s3://on-slurm/out", output_options=options,
    )  # fmt: skip
    name = str(invoke(site.ws, request)["name"])
    told = cluster.run("scontrol", "show", "job")
    ended = site.wait(name)
    eventually(lambda: not of_job(site.root(name)))  # what ends a job may still tidy up
    assert ended.status == "Completed", ended
    wanted = b"".join(b"%02d.txt\n" % n for n in range(12))
    assert (ended.output, s3.read("on-slurm", "out/predictions.csv")) == (wanted, wanted)
    assert SECRET_KEY not in told + ended.log
    for path in Path(ended.job["job_directory"]).rglob("*"):
        if path.is_file():
            assert SECRET_KEY.encode() not in path.read_bytes(), path
