"""Steps that read from and write to other places: with credentials that neither files nor commands see."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.errors import SpecError
from hpcbatch.operations import pipeline_jobs
from hpcbatch.records.pipeline import ParallelPart, PipelineInput, PipelineOutput, StepInput, StepOutput
from tests.pipelines import Pipelines, given, logs, short_folder, states, step
from tests.servers import ACCESS_KEY, S3, SECRET_KEY

pytestmark = pytest.mark.slow

CREDENTIALS = {"key": {"env": "TEAM_KEY"}, "secret": {"env": "TEAM_SECRET"}}
NAMES = ("TEAM_KEY", "TEAM_SECRET")
ENTRY = "import os\ndef run(mini_batch):\n    return [os.path.basename(p) + ' ' + open(p).read() for p in mini_batch]\n"


@pytest.fixture
def pipelines(s3: S3, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipelines]:
    """Of somebody who has no profile: the secrets are in variables of the shell that nothing knows by itself."""
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.setenv("TEAM_KEY", ACCESS_KEY)
    monkeypatch.setenv("TEAM_SECRET", SECRET_KEY)
    with short_folder() as folder:
        yield Pipelines(folder)


@pytest.fixture
def options(s3: S3) -> dict[str, object]:
    return {**CREDENTIALS, "endpoint_url": s3.endpoint}


def test_a_step_reads_and_writes_a_bucket_and_never_sees_the_secret(
    pipelines: Pipelines, s3: S3, options: dict[str, object]
) -> None:
    s3.bucket("step-in", {"d/a.txt": b"a", "d/b/c.txt": b"c"})
    s3.bucket("step-out")
    command = "cat ${{inputs.d}}/a.txt ${{inputs.d}}/b/c.txt > ${{outputs.out}}/word; env"
    job = pipelines.run(
        step("s", command, inputs={"d": given("d")}, outputs={"out": StepOutput("uri_folder", "o")}),
        inputs={"d": PipelineInput("uri_folder", "s3://step-in/d", options=options)},
        outputs={"o": PipelineOutput("uri_folder", "s3://step-out/run", options=options)},
        travelling=NAMES, secrets=NAMES,
    )  # fmt: skip
    assert states(job) == {"s": "Completed"}, logs(job)
    assert job.verdict()["status"] == "Completed"
    assert s3.read("step-out", "run/word") == b"ac"
    everything = b"".join(each.read_bytes() for each in job.root.rglob("*") if each.is_file())
    assert SECRET_KEY.encode() not in everything
    assert ACCESS_KEY.encode() not in everything


def test_mini_batches_of_a_bucket_are_fetched_one_by_one(
    pipelines: Pipelines, s3: S3, options: dict[str, object]
) -> None:
    s3.bucket("step-parallel", {f"d/{number}": str(number).encode() for number in range(5)})
    part = ParallelPart(
        entry_script="entry.py", input="d", program_arguments="", append_row_to="rows", mini_batch_size=2,
        mini_batch_error_threshold=-1, error_threshold=-1, max_concurrency_per_instance=1, max_retries=0, timeout_s=60,
        logging_level="info",
    )  # fmt: skip
    files = pipelines.keep({"entry.py": ENTRY})
    score = step(
        "s", "", kind="parallel", files=files, parallel=part, outputs={"rows": StepOutput("uri_file", "rows")},
        inputs={"d": StepInput("uri_folder", "path", "s3://step-parallel/d", options=options)},
    )  # fmt: skip
    job = pipelines.run(score, outputs=["rows"], travelling=NAMES, secrets=NAMES)
    assert states(job) == {"s": "Completed"}, logs(job)
    assert (job.out / "rows").read_text() == "".join(f"{number} {number}\n" for number in range(5))


def test_an_address_that_the_program_reads_itself_is_not_fetched(pipelines: Pipelines) -> None:
    url = "s3://nowhere/at/all"
    whole = StepInput("uri_folder", "path", url, direct=True)
    bound = replace(given("u"), direct=True)
    job = pipelines.run(
        step("s", "echo ${{inputs.a}} ${{inputs.b}} > ${{outputs.out}}/told", outputs=["out"],
             inputs={"a": whole, "b": bound}),
        inputs={"u": PipelineInput("uri_folder", url, direct=True)},
    )  # fmt: skip
    assert states(job) == {"s": "Completed"}, logs(job)
    assert Path(job.results()["s"]["outputs"]["out"], "told").read_text() == f"{url} {url}\n"


def test_a_job_whose_secret_is_not_in_the_shell_is_sealed_and_not_started(
    pipelines: Pipelines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEAM_SECRET")
    record = pipelines.record(step("s", "true"), travelling=NAMES, secrets=NAMES)
    with pytest.raises(SpecError, match=f"Job {record.name} needs TEAM_SECRET of the environment"):
        pipeline_jobs.create_and_start(pipelines.ws, record, {})
