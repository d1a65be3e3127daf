"""Jobs whose items are somewhere else: fetched by the worker, under their own names, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.jobdir import jobdir
from hpcbatch.jobdir.jobdir import JobDir
from hpcbatch.operations import assets
from hpcbatch.operations.invoke import InputRef, InvokeRequest, draft_of, invoke, submit
from hpcbatch.operations.jobs import find_job
from hpcbatch.operations.workspace import user_jobs
from hpcbatch.worker import fetching
from tests.servers import ACCESS_KEY, S3, SECRET_KEY, Web
from tests.site import ENDPOINT, Ended, Site

pytestmark = pytest.mark.slow

# Gives back each item's path below the input, what is in it, and which files of the node there are beside it.
LOOK = """
import os, sys

def init():
    global root
    root = sys.argv[sys.argv.index("--input_fds_0") + 1]

def run(mini_batch):
    return [os.path.relpath(path, root) + "=" + open(path).read() for path in mini_batch]
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path, "local").set_up()


def run(site: Site, deployment: str, path: str, kind: str = "uri_folder", **more: Any) -> Ended:
    options = more.pop("storage_options", {})
    request = InvokeRequest(
        ENDPOINT, deployment, InputRef(path, kind, options), output_path=more.pop("output_path", None), overrides=more
    )
    return site.wait(str(invoke(site.ws, request)["name"]), 120)


IMPATIENT = {"config_kwargs": {"connect_timeout": 2, "retries": {"max_attempts": 0}}}


def sealed(site: Site, deployment: str, path: str, **overrides: Any) -> JobDir:
    """A job that is complete on disk and was not started yet."""
    folder = user_jobs(site.ws) / site.fresh("sealed")
    request = InvokeRequest(ENDPOINT, deployment, InputRef(path, "uri_folder", IMPATIENT), overrides=overrides)
    draft, _ = draft_of(site.ws, request, folder)
    assert jobdir.create(folder, draft)
    return jobdir.open_job(folder)


def test_objects_are_scored_as_files_are(site: Site, s3: S3) -> None:
    """In input order, with the path below the input kept; two drivers, many mini-batches fetched ahead."""
    objects = {f"in/{number % 3}/{number:03d}.txt": str(number).encode() for number in range(40)}
    s3.bucket("scored", objects)
    deployment = site.deploy(LOOK, mini_batch_size=3, max_concurrency_per_instance=2, instances=2)
    ended = run(site, deployment, "s3://scored/in")
    assert ended.status == "Completed", ended
    wanted = sorted(key.removeprefix("in/") for key in objects)
    assert ended.output == "".join(f"{name}={int(name[2:5])}\n" for name in wanted).encode()
    assert ended.job["inputs"]["input"] == {"path": "s3://scored/in", "type": "uri_folder"}


def test_web_files_are_scored(site: Site, web: Web) -> None:
    (web.folder / "in").mkdir()
    for name in ("b c.csv", "a.csv"):
        (web.folder / "in" / name).write_text(name)
    deployment = site.deploy(LOOK)
    assert run(site, deployment, f"{web.address}/in/").output == b"a.csv=a.csv\nb c.csv=b c.csv\n"
    one = run(site, deployment, f"{web.address}/in/b%20c.csv?download=1", "uri_file")
    assert one.output == b"b c.csv=b c.csv\n"


@pytest.mark.parametrize(("before", "after"), [(b"old", b"new"), (b"old", b"longer")])
def test_an_object_that_changed_since_planning_fails_and_says_so(
    site: Site, s3: S3, before: bytes, after: bytes
) -> None:
    """With the same size too: the tag tells. Trying again would not help; what did not change is scored."""
    bucket = s3.bucket(f"changing{len(after)}", {f"in/{n}": before for n in "abc"})
    job = sealed(site, site.deploy(LOOK, mini_batch_size=1), f"s3://{bucket}/in", max_retries=0)
    s3.client.put_object(Bucket=bucket, Key="in/b", Body=after)
    submit(job, 0)
    ended = site.wait(job.record.name, 120)
    assert ended.status == "Completed"
    assert ended.output == b"a=old\nc=old\n"
    (failure,) = ended.job["progress"]["failures"]
    assert (failure["kind"], failure["type"]) == ("fetch", "ItemChanged")
    assert f"s3://{bucket}/in/b changed since the job was planned" in failure["message"]


def test_an_object_that_is_gone_costs_its_tries_and_fails(site: Site, s3: S3) -> None:
    """Counted as every failed try: `max_retries` more, then the mini-batch's items have failed."""
    s3.bucket("going", {f"in/{n}": b"x" for n in "abcd"})
    job = sealed(site, site.deploy(LOOK, mini_batch_size=2), "s3://going/in", max_retries=1)
    s3.client.delete_object(Bucket="going", Key="in/c")
    submit(job, 0)
    ended = site.wait(job.record.name, 120)
    assert (ended.status, ended.output) == ("Completed", b"a=x\nb=x\n")
    assert ended.job["progress"]["items_failed"] == 2
    (failure,) = ended.job["progress"]["failures"]
    assert (failure["type"], failure["try"]) == ("ItemGone", 2)
    assert failure["message"] == "s3://going/in/c is not there any more."


def test_a_job_whose_items_all_fail_to_arrive_fails_with_the_cause(
    site: Site, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is not reachable from the worker."""
    s3.bucket("unreachable", {"in/a": b"x"})
    job = sealed(site, site.deploy(LOOK), "s3://unreachable/in", max_retries=0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    submit(job, 0)
    ended = site.wait(job.record.name, 120)
    assert ended.status == "Failed"
    assert "s3://unreachable/in/a cannot be fetched" in ended.detail


def test_a_fetching_process_that_is_killed_is_replaced(site: Site, s3: S3, eventually: Any) -> None:
    """What it had not brought is asked for again; nothing is lost, nothing comes twice."""
    s3.bucket("killed", {f"in/{n:03d}": b"x" for n in range(30)})
    slow = LOOK.replace("    return", "    import time; time.sleep(0.1)\n    return")
    name = str(invoke(site.ws, InvokeRequest(
        ENDPOINT, site.deploy(slow, mini_batch_size=1), InputRef("s3://killed/in")))["name"])  # fmt: skip
    root = find_job(site.ws, name).root

    def fetchers() -> list[int]:
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                if b"hpcbatch.dataio.fetch" in words and os.fsencode(root / "job.json") in words:
                    found.append(int(pid))
        return found

    eventually(fetchers, 60)
    os.kill(fetchers()[0], signal.SIGKILL)
    ended = site.wait(name, 120)
    assert (ended.status, ended.output) == ("Completed", b"".join(b"%03d=x\n" % n for n in range(30)))
    assert not fetchers()


def test_items_are_ahead_of_the_drivers_and_gone_after(site: Site, s3: S3) -> None:
    """Bounded in number: a slow script never has the whole input on the node."""
    s3.bucket("bounded", {f"in/{n:03d}": b"x" for n in range(40)})
    count = """
import os, time

def run(mini_batch):
    time.sleep(0.05)
    folder = os.path.dirname(mini_batch[0])
    return [sum(not name.startswith(".") for name in os.listdir(folder))]
"""
    ended = run(site, site.deploy(count, mini_batch_size=1), "s3://bounded/in")
    there = [int(line) for line in (ended.output or b"").split()]
    assert len(there) == 40
    assert 1 < max(there) <= fetching.AHEAD + fetching.AHEAD_PER_DRIVER + 3
    assert there[-1] == 1


def test_no_secret_is_in_any_file_of_the_job(site: Site, s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from a profile, nor from named variables, nor from a named file; user code does not see them either."""
    s3.bucket("secretive", {"in/a": b"x"})
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("TEAM_KEY", ACCESS_KEY)
    secret = site.folder / "secret"
    secret.write_text(SECRET_KEY + "\n")
    secret.chmod(0o600)
    options = {"key": {"env": "TEAM_KEY"}, "secret": {"file": str(secret)}}
    tell = "import os\ndef run(b):\n    return [sorted(os.environ.values())]\n"
    ended = run(site, site.deploy(tell), "s3://secretive/in", storage_options=options)
    assert ended.status == "Completed", ended
    root = Path(ended.job["job_directory"])
    files = [path for path in root.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        assert SECRET_KEY.encode() not in data, path
        assert ACCESS_KEY.encode() not in data, path
    assert b"TEAM_KEY" in (root / "job.json").read_bytes()


def test_a_variable_that_the_job_needs_and_is_gone_is_named(
    site: Site, s3: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`job resume` from another shell says what to set."""
    s3.bucket("needs", {"in/a": b"x"})
    job = sealed(site, site.deploy(LOOK), "s3://needs/in")
    monkeypatch.delenv("AWS_PROFILE")
    with pytest.raises(SpecError, match=r"needs AWS_PROFILE of the environment(.|\n)*job resume"):
        submit(job, 0)


def test_a_registered_bucket_is_an_input(site: Site, s3: S3) -> None:
    """A data asset keeps address and options; those of the invocation win."""
    s3.bucket("asset", {"in/a": b"x"})
    assets.create_data(
        site.ws,
        name="there",
        path="s3://asset/in",
        storage_options={"endpoint_url": "http://127.0.0.1:9", "anon": "false"},
    )
    shown = assets.show_data(site.ws, "there")
    assert (shown["path"], shown["type"]) == ("s3://asset/in", "uri_folder")
    ended = run(site, site.deploy(LOOK), "azureml:there@latest", storage_options={"endpoint_url": s3.endpoint})
    assert ended.output == b"a=x\n"
