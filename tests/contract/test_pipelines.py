"""What a pipeline job does on the local compute and on a real Slurm: the same steps, the same ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest

from hpcbatch.cli.job_view import job_card
from hpcbatch.errors import Conflict
from hpcbatch.operations import jobs, pipeline_jobs
from hpcbatch.operations.pipeline_status import status_of
from hpcbatch.records.job import ComputePart
from hpcbatch.records.pipeline import ParallelPart, PipelineInput, PipelineOutput, StepInput, StepOutput
from tests.pipelines import LOCAL, Pipelines, given, literal, logs, made, short_folder, states, step, text
from tests.processes import lives
from tests.site import eventually

if TYPE_CHECKING:
    from tests.conftest import DevCluster

SLURM = ComputePart("slurm", "slurm", "dedicated", 1, {"partition": "normal"})
WRITE = "printf %s ${{inputs.word}} > ${{outputs.out}}/word"
JOIN = "cat ${{inputs.a}}/word ${{inputs.b}}/word > ${{outputs.out}}/word"


@pytest.fixture(params=["local", pytest.param("slurm", marks=pytest.mark.slurm)])
def pipelines(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipelines]:
    """A workspace with a path that Slurm takes."""
    compute = LOCAL
    if request.param == "slurm":
        cluster: DevCluster = request.getfixturevalue("devcluster")
        monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
        compute = SLURM
    with short_folder() as folder:
        yield Pipelines(Path(folder), compute)


def diamond(word: str = "w", *, left: str = JOIN) -> list[object]:
    return [
        step("top", WRITE, inputs={"word": text(word)}, outputs=["out"]),
        step("left", left, inputs={"a": made("top.out"), "b": made("top.out")}, outputs=["out"]),
        step("right", JOIN, inputs={"a": made("top.out"), "b": made("top.out")}, outputs=["out"]),
        step("bottom", JOIN, inputs={"a": made("left.out"), "b": made("right.out")},
             outputs={"out": StepOutput("uri_folder", "final")}),
    ]  # fmt: skip


def test_a_diamond_passes_its_data_on(pipelines: Pipelines) -> None:
    job = pipelines.run(*diamond(), outputs=["final"])
    assert job.verdict()["status"] == "Completed", logs(job)
    assert (job.out / "final" / "word").read_text() == "wwww"
    shown = jobs.show_job(pipelines.ws, job.record.name)
    assert shown["status"] == "Completed"
    assert shown["jobs"]["bottom"]["depends_on"] == ["left", "right"]
    assert [j["name"] for j in jobs.list_jobs(pipelines.ws, parent_job_name=job.record.name)] == [
        f"{job.record.name}.{name}" for name in ("top", "left", "right", "bottom")
    ]
    assert jobs.show_job(pipelines.ws, f"{job.record.name}.left")["status"] == "Completed"


def failing(pipelines: Pipelines, *, goes_on: bool) -> tuple[dict[str, str], str]:
    """`bad` fails, `after` reads from it; `slow` runs beside it until that is on record, `later` reads from `slow`."""
    slow, noted = (pipelines.folder / f"{word}-{goes_on}" for word in ("slow", "noted"))
    until = "until [ -e {} ]; do sleep 0.05; done"
    job = pipelines.start(
        step("bad", f"{until.format(slow)}; echo words; echo the reason >&2; exit 3", outputs=["out"]),
        step("after", WRITE, inputs={"word": text("x"), "a": made("bad.out")}, outputs=["out"]),
        step("slow", f"touch {slow}; {until.format(noted)}", outputs=["out"]),
        step("later", WRITE, inputs={"word": text("x"), "a": made("slow.out")}, outputs=["out"]),
        continue_on_step_failure=goes_on,
    )
    eventually(lambda: "bad" in job.results())
    noted.touch()
    pipelines.wait(job)
    return states(job), str(job.verdict()["reason"])


def test_a_failure_stops_what_depends_on_it_and_nothing_else(pipelines: Pipelines) -> None:
    found, reason = failing(pipelines, goes_on=True)
    assert found == {"bad": "Failed", "after": "NotStarted", "slow": "Completed", "later": "Completed"}
    assert "step 'bad': The command ended with exit code 3: the reason" in reason


def test_without_continue_on_step_failure_nothing_new_starts(pipelines: Pipelines) -> None:
    """What runs already goes on to its end."""
    found, _ = failing(pipelines, goes_on=False)
    assert found == {"bad": "Failed", "after": "NotStarted", "slow": "Completed", "later": "NotStarted"}


def test_unchanged_steps_are_reused_unless_told_otherwise(pipelines: Pipelines) -> None:
    calls = pipelines.folder / "calls"

    def run(word: str, **more: object) -> tuple[dict[str, bool], list[str]]:
        calls.write_text("")
        job = pipelines.run(
            step("first", f"echo first >> {calls}; echo fixed > ${{{{outputs.out}}}}/f", outputs=["out"]),
            step("second", f"echo second >> {calls}; cat ${{{{inputs.f}}}}/f > ${{{{outputs.out}}}}/word; "
                 "printf %s ${{inputs.word}} >> ${{outputs.out}}/word",
                 inputs={"f": made("first.out"), "word": text(word)}, outputs={"out": StepOutput("uri_folder", "o")}),
            outputs=["o"], **more,
        )  # fmt: skip
        assert job.verdict()["status"] == "Completed", logs(job)
        assert (job.out / "o" / "word").read_text() == f"fixed\n{word}"
        return {name: "reused" in result for name, result in job.results().items()}, calls.read_text().split()

    assert run("a") == ({"first": False, "second": False}, ["first", "second"])
    assert run("a") == ({"first": True, "second": True}, [])
    assert run("b") == ({"first": True, "second": False}, ["second"])
    assert run("b", force_rerun=True) == ({"first": False, "second": False}, ["first", "second"])


def test_resume_goes_on_after_the_failed_step(pipelines: Pipelines) -> None:
    mended, calls = pipelines.folder / "mended", pipelines.folder / "calls"
    job = pipelines.run(
        step("one", f"echo one >> {calls}; echo 1 > ${{{{outputs.out}}}}/word", outputs=["out"]),
        step("two", f"echo two >> {calls}; [ -e {mended} ] && cat ${{{{inputs.a}}}}/word > ${{{{outputs.out}}}}/word",
             inputs={"a": made("one.out")}, outputs=["out"]),
        step("three", f"echo three >> {calls}; cp ${{{{inputs.a}}}}/word ${{{{outputs.out}}}}/",
             inputs={"a": made("two.out")}, outputs={"out": StepOutput("uri_folder", "o")}),
        outputs=["o"],
    )  # fmt: skip
    assert states(job) == {"one": "Completed", "two": "Failed", "three": "NotStarted"}
    mended.touch()
    jobs.resume_job(pipelines.ws, job.record.name)
    eventually(lambda: job.verdict() is not None)
    assert job.verdict()["status"] == "Completed", logs(job)
    assert calls.read_text().split() == ["one", "two", "two", "three"]
    assert (job.out / "o" / "word").read_text() == "1\n"


def test_a_canceled_job_ends_its_commands(pipelines: Pipelines) -> None:
    mark = pipelines.folder / "running"
    job = pipelines.start(
        step("long", f"sh -c 'echo $$ > {mark}; exec sleep 600'; echo never", outputs=["out"]),
        step("next", "true", inputs={"a": made("long.out")}),
    )
    eventually(lambda: mark.exists() and mark.read_text().strip())
    pid = int(mark.read_text())
    jobs.cancel_job(pipelines.ws, job.record.name)
    eventually(lambda: status_of(job).word == "Canceled")
    eventually(lambda: not lives(pid))
    with pytest.raises(Conflict, match="was canceled"):
        jobs.resume_job(pipelines.ws, job.record.name)


def test_inputs_of_the_pipeline_reach_the_steps(pipelines: Pipelines) -> None:
    """A path with blanks, a literal with a quote, an optional input with and without a value."""
    data = pipelines.folder / "some data"
    data.mkdir()
    (data / "f").write_text("data")
    tell = "printf '%s|' \"$@\""
    files = pipelines.keep({"tell.sh": f"#!/bin/sh\n{tell}\n"})
    command = (
        "sh tell.sh ${{inputs.folder}} --word '${{inputs.word}}' $[[--maybe ${{inputs.maybe}}]] "
        "$[[--never ${{inputs.never}}]] > ${{outputs.out}}; cat ${{inputs.folder}}/f >> ${{outputs.out}}"
    )
    job = pipelines.run(
        step("s", command, files=files, optional_inputs=("maybe", "never"),
             inputs={"folder": given("folder"), "word": given("word", "string"), "maybe": text("7", "integer")},
             outputs={"out": StepOutput("uri_file", "told")}),
        inputs={"folder": path_input(data), "word": literal("it's")},
        outputs={"told": PipelineOutput("uri_file", str(pipelines.folder / "results" / "told.txt"))},
    )  # fmt: skip
    assert job.verdict()["status"] == "Completed", logs(job)
    assert (pipelines.folder / "results" / "told.txt").read_text() == f"{data}|--word|it's|--maybe|7|data"


def path_input(value: Path) -> object:

    return PipelineInput("uri_folder", str(value))


def test_the_same_name_is_the_same_job_or_a_conflict(pipelines: Pipelines) -> None:
    record = pipelines.record(step("s", "true"), name="mine")
    pipeline_jobs.create_and_start(pipelines.ws, record, {})
    pipeline_jobs.create_and_start(pipelines.ws, record, {})
    with pytest.raises(Conflict, match="started with something else"):
        pipeline_jobs.create_and_start(pipelines.ws, pipelines.record(step("s", "false"), name="mine"), {})
    job = pipelines.wait(pipelinedir_of(pipelines, "mine"))
    assert len(job.attempts()["s"]) == 1


def pipelinedir_of(pipelines: Pipelines, name: str):  # type: ignore[no-untyped-def]
    found = pipeline_jobs.find(pipelines.ws, name)
    assert found is not None
    return found.job


ENTRY = """
import argparse, os
def init():
    global args
    parser = argparse.ArgumentParser()
    parser.add_argument("--suffix")
    parser.add_argument("--side")
    args, _ = parser.parse_known_args()
def run(mini_batch):
    open(os.path.join(args.side, os.path.basename(mini_batch[0])), "w").close()
    return [os.path.basename(path) + args.suffix for path in mini_batch]
"""


def parallel(files: bytes, **more: object) -> object:
    part = ParallelPart(
        entry_script="entry.py", input="data", append_row_to="rows", mini_batch_size=2, mini_batch_error_threshold=-1,
        program_arguments="--suffix '${{inputs.suffix}}' --side ${{outputs.side}}", error_threshold=-1,
        max_concurrency_per_instance=2, max_retries=1, timeout_s=600, logging_level="info",
    )  # fmt: skip
    return step(
        "score", "", kind="parallel", files=files, parallel=replace(part, **more),
        inputs={"data": made("make.data"), "suffix": text(" x")},
        outputs={"rows": StepOutput("uri_file", "rows"), "side": StepOutput("uri_folder", "side")},
    )  # fmt: skip


def test_a_parallel_step_scores_in_mini_batches(pipelines: Pipelines) -> None:
    files = pipelines.keep({"entry.py": ENTRY})
    job = pipelines.run(
        step("make", "for i in 1 2 3 4 5; do echo $i > ${{outputs.data}}/$i; done", outputs=["data"]),
        parallel(files),
        step("count", "wc -l < ${{inputs.rows}} > ${{outputs.n}}/n", inputs={"rows": made("score.rows", "uri_file")},
             outputs={"n": StepOutput("uri_folder", "n")}),
        outputs=["rows", "side", "n"],
    )  # fmt: skip
    assert job.verdict()["status"] == "Completed", logs(job)
    assert (job.out / "rows").read_text() == "1 x\n2 x\n3 x\n4 x\n5 x\n"
    assert sorted(os.listdir(job.out / "side")) == ["1", "3", "5"]
    assert (job.out / "n" / "n").read_text().strip() == "5"
    shown = jobs.show_job(pipelines.ws, f"{job.record.name}.score")
    assert (shown["items"], shown["progress"]["items_succeeded"]) == (5, 5)
    assert "5 of 5 items, 0 failed; 3 of 3 mini-batches" in job_card(shown).news


def test_data_of_another_place_is_fetched_for_the_step(tmp_path: Path) -> None:
    pytest.importorskip("aiohttp")
    (tmp_path / "data.csv").write_text("1,2\n")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/data.csv"
        with short_folder() as folder:
            pipelines = Pipelines(Path(folder))
            job = pipelines.run(
                step("s", "cat ${{inputs.a}} > ${{outputs.out}}/copy; echo ${{inputs.a}}", outputs=["out"],
                     inputs={"a": StepInput("uri_file", "path", url)}),
                step("gone", "true", inputs={"a": StepInput("uri_file", "path", url + "x")}),
            )  # fmt: skip
            assert states(job) == {"s": "Completed", "gone": "Failed"}, logs(job)
            assert Path(job.results()["s"]["outputs"]["out"], "copy").read_text() == "1,2\n"
            assert "data.csvx" in job.results()["gone"]["detail"]
        server.shutdown()
