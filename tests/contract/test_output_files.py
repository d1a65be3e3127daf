"""Files that a script writes into AZUREML_BI_OUTPUT_PATH: each mini-batch's once, whatever is killed, in order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.operations import jobs
from tests.contract.test_interruptions import hit_at_random
from tests.site import Site

BEGIN = "import os, sys, time\nfrom pathlib import Path\nout = Path(os.environ['AZUREML_BI_OUTPUT_PATH'])\n"
ALL_WAYS = (
    BEGIN
    + """
def init():
    global kept
    (out / "table.csv").write_text("name,size\\n")
    kept = open(out / "kept.txt", "a")

def run(mini_batch):
    names = [os.path.basename(path) for path in mini_batch]
    with open(out / "table.csv", "a") as table:
        table.writelines(name + "," + str(len(name)) + "\\n" for name in names)
    (out / "each" / "deep").mkdir(parents=True, exist_ok=True)
    (out / "each" / "deep" / (names[0] + ".out")).write_bytes(b"\\0\\xff" * 1000)
    with open(out / "log.txt", "a") as log:
        log.write(names[0] + "\\n")
    kept.write(names[0] + "\\n")
    time.sleep(0.01)
    return mini_batch
"""
)


def downloaded(site: Site, name: str, folder: Path) -> dict[str, bytes]:
    jobs.download_job(site.ws, name, download_path=str(folder))
    base = folder / "named-outputs" / "score"
    return {path.relative_to(base).as_posix(): path.read_bytes() for path in base.rglob("*") if path.is_file()}


def expected(count: int) -> dict[str, bytes]:
    names = [f"{number:05d}.txt" for number in range(count)]
    lines = "".join(f"{name}\n" for name in names).encode()
    return {
        "table.csv": b"name,size\n" + "".join(f"{name},9\n" for name in names).encode(),
        "log.txt": lines,
        "kept.txt": lines,
        **{f"each/deep/{name}.out": b"\0\xff" * 1000 for name in names},
    }


@pytest.mark.parametrize("groups", [1, 3])
def test_new_files_appended_files_and_open_files_are_there_once_and_in_order(
    site: Site, tmp_path: Path, groups: int
) -> None:
    deployment = site.deploy(ALL_WAYS, mini_batch_size=1, max_concurrency_per_instance=2, output_action="summary_only")
    ended = site.run(deployment, site.data(20), groups=groups, instance_count=2)
    assert ended.status == "Completed", ended
    assert downloaded(site, ended.job["name"], tmp_path) == expected(20)


def test_files_are_there_once_when_workers_and_drivers_are_killed(site: Site, tmp_path: Path) -> None:
    """In as many jobs as it takes: on a busy machine one may be over before it was hit."""
    deployment = site.deploy(
        ALL_WAYS, mini_batch_size=1, max_concurrency_per_instance=2, output_action="summary_only",
        retry_settings={"max_retries": 10},
    )  # fmt: skip
    data, chance, kills = site.data(150), random.Random(7), 0
    while kills < 3:
        name = site.start(deployment, data, groups=2, instance_count=2)
        kills += sum(hit_at_random(site, name, chance, until=150))
        ended = site.wait(name)
        assert ended.status == "Completed", ended
        assert downloaded(site, name, tmp_path / name) == expected(150)


def test_what_a_failed_try_wrote_is_gone(site: Site, tmp_path: Path) -> None:
    script = (
        BEGIN
        + """
def run(mini_batch):
    with open(out / "log.txt", "a") as log:
        log.write(os.path.basename(mini_batch[0]) + "\\n")
    mark = Path(os.environ["MARKS"], os.path.basename(mini_batch[0]))
    if mini_batch[0].endswith("2.txt") and not mark.exists():
        mark.touch()
        (out / "half.bin").write_bytes(b"half")
        {action}
    return mini_batch
"""
    )
    for action in ("raise ValueError('no')", "os._exit(1)", "time.sleep(600)"):
        marks = tmp_path / action[:5] / "marks"
        marks.mkdir(parents=True)
        deployment = site.deploy(
            script.replace("{action}", action), mini_batch_size=1, output_action="summary_only",
            retry_settings={"timeout": 5, "max_retries": 9}, environment_variables={"MARKS": str(marks)},
        )  # fmt: skip
        ended = site.run(deployment, site.data(4))
        assert ended.status == "Completed", ended
        lines = b"".join(b"%05d.txt\n" % number for number in range(4))
        assert downloaded(site, ended.job["name"], tmp_path / action[:5]) == {"log.txt": lines}


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_rows_and_files_go_to_the_folder_that_was_asked_for(site: Site, tmp_path: Path) -> None:
    script = BEGIN + "def run(m):\n    (out / (Path(m[0]).name + '.x')).write_text('x')\n    return [Path(m[0]).name]\n"
    deployment, target = site.deploy(script, mini_batch_size=1), tmp_path / "mine"
    target.mkdir()
    (target / "older").write_text("stays, and is not downloaded")
    ended = site.run(deployment, site.data(2), output_path=str(target))
    assert ended.status == "Completed", ended
    found = {path.name: path.read_text() for path in target.iterdir()}
    assert found.pop("older")
    rows = {"predictions.csv": "00000.txt\n00001.txt\n"}
    assert found == {"00000.txt.x": "x", "00001.txt.x": "x", **rows}
    assert ended.job["progress"]["files"] == {"folder": str(target), "count": 2, "size_bytes": 2}
    assert set(downloaded(site, ended.job["name"], tmp_path / "d")) == set(found)


@pytest.mark.parametrize("site", ["local"], indirect=True)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("(out / 'predictions.csv').write_text('mine')", "is the name of the merged output"),
        ("kept.seek(0), kept.truncate(), kept.write('yy')", "only what is appended"),
    ],
)
def test_what_cannot_be_kept_once_fails_with_the_way_out(site: Site, line: str, words: str) -> None:
    begin = BEGIN + "def init():\n    global kept\n    kept = open(out / 'k', 'w+')\n    kept.write('xx')\n\n"
    deployment = site.deploy(
        begin + f"def run(m):\n    {line}\n    return m\n",
        mini_batch_size=1,
        retry_settings={"max_retries": 0, "timeout": 30},
    )
    ended = site.run(deployment, site.data(1))
    assert ended.status == "Failed"
    assert words in ended.detail


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_a_name_that_is_a_file_and_a_folder_is_a_verdict(site: Site) -> None:
    line = (
        "p = out / 'n' if '00000' in m[0] else out / 'n' / 'f'\n    p.parent.mkdir(exist_ok=True)\n    p.write_text('')"
    )
    ended = site.run(site.deploy(BEGIN + f"def run(m):\n    {line}\n    return m\n", mini_batch_size=1), site.data(2))
    assert (ended.status, ended.output) == ("Failed", None)
    assert "the name of a file and of a folder" in ended.detail


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_what_a_program_of_the_script_appends_to_an_open_file_is_kept(site: Site, tmp_path: Path) -> None:
    script = (
        BEGIN
        + """
import subprocess

def init():
    global program
    line = 'exec 3>>"$AZUREML_BI_OUTPUT_PATH/program.txt"; while read -r word; do echo "$word" >&3; echo ok; done'
    program = subprocess.Popen(["sh", "-c", line], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def run(m):
    for path in m:
        print(os.path.basename(path), file=program.stdin, flush=True)
        program.stdout.readline()
    return m
"""
    )
    deployment = site.deploy(script, mini_batch_size=1, output_action="summary_only")
    ended = site.run(deployment, site.data(4), groups=2)
    lines = b"".join(b"%05d.txt\n" % number for number in range(4))
    assert downloaded(site, ended.job["name"], tmp_path) == {"program.txt": lines}, ended


@pytest.mark.parametrize("site", ["local"], indirect=True)
@pytest.mark.parametrize(
    "line",
    [
        "(pathlib.Path(os.getenv(''.join(('AZUREML_BI_', 'OUTPUT_PATH')))) / name).touch()",
        "(pathlib.Path(os.environb[b'AZUREML_BI_' + b'OUTPUT_PATH'].decode()) / name).touch()",
        "(pathlib.Path(dict(os.environ)['AZUREML_BI_' + 'OUTPUT_PATH']) / name).touch()",
        "os.fork() or (pathlib.Path(os.environ['AZUREML_BI_' + 'OUTPUT_PATH'], name).touch(), os._exit(0)); os.wait()",
        "import subprocess; subprocess.run(['sh', '-c', 'touch $AZUREML_BI''_OUTPUT_PATH/' + name], check=True)",
    ],
)
def test_however_a_script_learns_of_the_folder_its_files_are_kept(site: Site, tmp_path: Path, line: str) -> None:
    """Until somebody asks for it, it is not looked into."""
    text = f"import os, pathlib\ndef run(m):\n    name = os.path.basename(m[0])\n    {line}\n    return m\n"
    ended = site.run(site.deploy(text, mini_batch_size=1, output_action="summary_only"), site.data(3))
    assert downloaded(site, ended.job["name"], tmp_path) == {f"{number:05d}.txt": b"" for number in range(3)}, ended


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_links_and_what_shutdown_writes_are_left_out_and_named_in_the_log(site: Site, tmp_path: Path) -> None:
    script = (
        BEGIN
        + "def run(m):\n    (out / 'l').is_symlink() or (out / 'l').symlink_to('/etc/passwd')\n"
        + "    (out / 'empty').touch()\n    return m\n"
        + "def shutdown():\n    (out / 'late').write_text('late')\n"
    )
    ended = site.run(site.deploy(script, output_action="summary_only"), site.data(2))
    assert downloaded(site, ended.job["name"], tmp_path) == {"empty": b""}
    assert "'l' in AZUREML_BI_OUTPUT_PATH is a symbolic link" in ended.log
    assert "shutdown() wrote 'late'" in ended.log


@pytest.mark.parametrize("site", ["local"], indirect=True)
def test_one_shared_folder_for_a_script_that_reads_back_what_it_wrote(site: Site, tmp_path: Path) -> None:
    line = "with open(out / 'n', 'a') as f:\n        f.write(str(os.path.getsize(out / 'n')))"
    deployment = site.deploy(
        BEGIN + f"def run(m):\n    {line}\n    return m\n", mini_batch_size=1,
        environment_variables={"HPCBATCH_OUTPUT_FILES": "shared"},
    )  # fmt: skip
    ended = site.run(deployment, site.data(3))
    assert downloaded(site, ended.job["name"], tmp_path)["n"] == b"012"
    with pytest.raises(SpecError, match="HPCBATCH_OUTPUT_FILES") as caught:
        site.start(deployment, site.data(1), environment_variables={"HPCBATCH_OUTPUT_FILES": "plain"})
    assert caught.value.fields["allowed"] == "captured, shared"
