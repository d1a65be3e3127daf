"""Mini-batches of parallel steps that are not a number of files: so many bytes, or partitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpcbatch.operations import jobs
from hpcbatch.records.pipeline import ParallelPart, PipelineStep, StepOutput
from tests.pipelines import Pipelines, logs, path, short_folder, states, step

pytestmark = pytest.mark.slow

ENTRY = "import os\ndef run(mini_batch):\n    return ['+'.join(map(os.path.basename, mini_batch))] * len(mini_batch)\n"
PART = ParallelPart(
    entry_script="entry.py", input="data", program_arguments="", append_row_to="rows", mini_batch_size=1,
    mini_batch_error_threshold=-1, error_threshold=-1, max_concurrency_per_instance=1, max_retries=0, timeout_s=60,
    logging_level="info",
)  # fmt: skip


def score(name: str, data: Path, files: bytes, part: ParallelPart) -> PipelineStep:
    return step(
        name, "", kind="parallel", files=files, parallel=part, inputs={"data": path(data)},
        outputs={"rows": StepOutput("uri_file", name)},
    )  # fmt: skip


def test_mini_batches_hold_so_many_bytes_or_a_partition() -> None:
    with short_folder() as folder:
        pipelines = Pipelines(folder)
        files = pipelines.keep({"entry.py": ENTRY})
        for name, size in {"p=1/a": 10, "p=1/b": 10, "p=2/c": 30, "p=2/d": 1, "p=1/q=x/e": 19}.items():
            file = folder / "data" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(b"x" * size)
        job = pipelines.run(
            score("bytes", folder / "data", files, replace(PART, mini_batch_bytes=20)),
            score("parts", folder / "data", files, replace(PART, partition_keys=("p",))),
            score("none", folder / "data", files, replace(PART, partition_keys=("q",))),
            outputs=["bytes", "parts", "none"],
        )  # fmt: skip
        assert states(job) == {"bytes": "Completed", "parts": "Completed", "none": "Failed"}, logs(job)
        rows = {name: (job.out / name).read_text().split() for name in ("bytes", "parts")}
        assert rows["bytes"] == ["a+b", "a+b", "e", "c", "d"]
        assert rows["parts"] == ["a+b+e"] * 3 + ["c+d"] * 2
        assert "Item 'p=1/a' of the parallel step 'none' is in no partition by q." in job.results()["none"]["detail"]
        shown = jobs.show_job(pipelines.ws, f"{job.record.name}.bytes")
        assert (shown["items"], shown["mini_batches"], shown["progress"]["items_succeeded"]) == (5, 4, 5)
