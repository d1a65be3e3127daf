"""What the files of a pipeline job say, whoever wrote them and how often."""

from __future__ import annotations

import os
import pwd
import signal
from pathlib import Path
from typing import Any

import pytest

from hpcbatch.errors import FileDamaged, FilesystemError
from hpcbatch.operations import assets, pipeline_jobs
from hpcbatch.pipeline.graph import COMPLETED, FAILED
from hpcbatch.records.pipeline import PipelineOutput, StepOutput, parse_pipeline, split_binding
from hpcbatch.rounds import local as supervisors
from hpcbatch.steps import ahead, outcome, pipelinedir, reused, values
from hpcbatch.steps.pipelinedir import PipelineDir, open_pipeline
from tests.pipelines import Pipelines, given, literal, logs, made, path, states, step, text
from tests.site import eventually


@pytest.fixture
def pipelines(tmp_path: Path) -> Pipelines:
    return Pipelines(tmp_path)


def sealed(pipelines: Pipelines, *steps: Any, **more: Any) -> PipelineDir:
    """A job that nothing runs."""
    record = pipelines.record(*steps, **more)
    folder = pipelines.ws.jobs / record.user / record.name
    assert pipelinedir.create(folder, record, pipelines.codes)
    return open_pipeline(folder)


def done(**outputs: str) -> dict[str, Any]:
    return {"status": COMPLETED, "outputs": outputs, "attempt": "a", "key": "k"}


def test_a_record_comes_back_as_it_was(pipelines: Pipelines) -> None:
    files = pipelines.keep({"a.py": ""})
    record = pipelines.record(
        step("outer.a", "x", inputs={"i": given("n", "string")}, outputs=["o"], files=files, instance_count=2,
             distribution={"type": "mpi"}, timeout_s=3.5, optional_inputs=("z",)),
        step("b", "y", inputs={"p": path("/data"), "a": made("outer.a.o"), "b": made("outer.a.o")}),
        inputs={"n": literal("7")}, outputs=["final"],
    )  # fmt: skip
    assert parse_pipeline(record.to_bytes(), "x") == record
    assert record.step("b").dependencies == ("outer.a",)
    assert split_binding("outer.a.o") == ("outer.a", "o")


@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{}", b'{"schema":"hpcbatch.pipeline/9"}', b'{"schema":"hpcbatch.pipeline/1"}']
)
def test_what_is_no_record_is_refused(data: bytes) -> None:
    with pytest.raises(FileDamaged):
        parse_pipeline(data, "x")


def test_a_record_that_was_changed_after_it_was_submitted_is_refused(pipelines: Pipelines) -> None:
    job = sealed(pipelines, step("a", "true"))
    with pytest.raises(FileDamaged, match="not the record that was submitted"):
        open_pipeline(job.root, "0" * 64)


def test_the_first_to_say_how_a_step_ended_is_right(pipelines: Pipelines) -> None:
    job = sealed(pipelines, step("a", "true"))
    assert job.publish_result("a", 0, {"status": FAILED, "detail": "first"})
    assert not job.publish_result("a", 0, done())
    assert job.results()["a"]["detail"] == "first"


def test_what_completed_in_an_earlier_round_stays_and_what_failed_does_not(pipelines: Pipelines) -> None:
    job = sealed(pipelines, step("a", "true"), step("b", "true"))
    job.publish_result("a", 0, done())
    job.publish_result("b", 0, {"status": FAILED})
    pipelinedir.add_round(job, 1, ["b"])
    assert states(job) == {"a": COMPLETED}
    assert {name: r["status"] for name, r in job.results(in_round=0).items()} == {"a": COMPLETED, "b": FAILED}
    assert job.planned(1) == ["b"]
    job.publish_result("b", 1, done())
    assert states(job) == {"a": COMPLETED, "b": COMPLETED}


def test_a_late_word_from_an_earlier_round_is_not_heard(pipelines: Pipelines) -> None:
    """Resume closes the results of the round before it plans the next."""
    job = sealed(pipelines, step("a", "true"))
    pipeline_jobs._next_round(job)
    assert not job.publish_result("a", 0, done())
    assert job.rounds() == [0, 1]
    assert states(job) == {}


def test_attempts_have_folders_of_their_own(pipelines: Pipelines) -> None:
    job = sealed(pipelines, step("x.y", "true"), step("x", "true"))
    first, second, other = job.new_attempt("x.y"), job.new_attempt("x.y"), job.new_attempt("x")
    assert [a.epoch for a in job.attempts()["x.y"]] == [1, 2]
    assert len({first.path, second.path, other.path}) == 3
    assert [a.path for a in job.attempts()["x"]] == [other.path]


def test_any_number_of_processes_may_end_a_job(pipelines: Pipelines) -> None:
    """The verdict is made once, and outputs are published once."""
    job = sealed(pipelines, step("a", "true", outputs={"o": StepOutput("uri_folder", "final")}), outputs=["final"])
    made_here = job.new_attempt("a").out / "o"
    made_here.mkdir()
    (made_here / "f").write_text("x")
    assert outcome.finish(job, 0) is None
    job.publish_result("a", 0, done(o=str(made_here)))
    verdicts = [outcome.finish(job, 0) for _ in range(3)]
    assert verdicts[0] == verdicts[2]
    assert (job.out / "final" / "f").read_text() == "x"
    assert (job.root / "graph.0.svg").read_text().startswith("<svg")


def test_an_output_that_is_in_the_way_fails_the_job_and_nothing_is_overwritten(
    pipelines: Pipelines, tmp_path: Path
) -> None:
    target = tmp_path / "results"
    target.mkdir()
    (target / "f").write_text("older")
    job = sealed(
        pipelines, step("a", "true", outputs={"o": StepOutput("uri_folder", "final")}),
        outputs={"final": PipelineOutput("uri_folder", str(target))},
    )  # fmt: skip
    made_here = job.new_attempt("a").out / "o"
    made_here.mkdir()
    (made_here / "f").write_text("x")
    job.publish_result("a", 0, done(o=str(made_here)))
    verdict = outcome.finish(job, 0) or {}
    assert (verdict["status"], (target / "f").read_text()) == ("Failed", "older")
    assert "exists; nothing is overwritten" in verdict["reason"]


def test_a_step_whose_process_is_gone_has_failed_or_was_never_begun(pipelines: Pipelines) -> None:
    job = sealed(pipelines, step("a", "true"), step("b", "true"))
    job.new_attempt("a")
    found = outcome.close(job, 0, ("a", "b"))
    assert {name: r["status"] for name, r in found.items()} == {"a": "Failed", "b": "NotStarted"}
    assert "without a word" in found["a"]["detail"]


def test_a_run_is_found_again_while_its_outputs_are_there(pipelines: Pipelines, tmp_path: Path) -> None:
    job = sealed(pipelines, step("a", "true"))
    (tmp_path / "one").mkdir()
    key = "ab" + "0" * 62
    assert reused.find(job, key) is None
    reused.note(job, key, "a", {"outputs": {"o": str(tmp_path / "one")}, "attempt": "a.a0001-00000000"})
    assert (reused.find(job, key) or {})["reused"]["step"] == "a"
    (tmp_path / "one").rmdir()
    assert reused.find(job, key) is None
    (tmp_path / "two").mkdir()
    reused.note(job, key, "a", {"outputs": {"o": str(tmp_path / "two")}, "attempt": "a.a0001-00000000"})
    assert (reused.find(job, key) or {})["outputs"] == {"o": str(tmp_path / "two")}


def test_every_user_of_a_workspace_may_note_his_runs(pipelines: Pipelines) -> None:
    """The folder of the notes is everybody's; each user's is his own."""
    job = sealed(pipelines, step("a", "true"))
    reused.note(job, "ab" + "0" * 62, "a", {"outputs": {}, "attempt": "a"})
    shared = pipelines.ws.root / "reuse"
    assert shared.stat().st_mode & 0o7777 == 0o1777
    assert (shared / job.record.user).stat().st_mode & 0o7777 == 0o700


def test_a_note_that_somebody_else_may_have_put_there_is_not_believed(pipelines: Pipelines, tmp_path: Path) -> None:
    """A note names what is taken for a result."""
    job, key = sealed(pipelines, step("a", "true")), "ab" + "0" * 62
    reused.note(job, key, "a", {"outputs": {}, "attempt": "a"})
    (pipelines.ws.root / "reuse" / job.record.user).chmod(0o777)
    assert reused.find(job, key) is None
    with pytest.raises(FilesystemError, match="Others may write"):
        reused.note(job, key, "a", {"outputs": {}, "attempt": "a"})


def test_a_step_that_cannot_be_noted_for_reuse_is_completed_all_the_same(pipelines: Pipelines) -> None:
    mine = pipelines.ws.root / "reuse" / pwd.getpwuid(os.getuid()).pw_name
    mine.mkdir(parents=True)
    mine.chmod(0o777)
    job = pipelines.run(step("a", "true"))
    assert states(job) == {"a": "Completed"}, logs(job)
    assert "cannot be noted" in logs(job)


def test_a_folder_with_a_link_to_another_folder_is_not_compared(tmp_path: Path) -> None:
    """What lies behind the link may change, and the folder would look the same."""
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / "today").symlink_to(tmp_path / "elsewhere")
    assert values.content_digest(tmp_path / "data") is None


def test_the_size_of_a_file_behind_a_link_counts(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 5000)
    (tmp_path / "link").symlink_to(tmp_path / "large")
    assert values.content_digest(tmp_path / "link", (1000, 10)) is None


def test_content_is_compared_by_names_and_bytes_up_to_a_limit(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "f").write_text("x")
    same = values.content_digest(tmp_path / "one")
    assert same == values.content_digest(tmp_path / "two")
    (tmp_path / "two" / "sub" / "f").rename(tmp_path / "two" / "sub" / "g")
    assert same != values.content_digest(tmp_path / "two")
    assert values.content_digest(tmp_path / "one", (0, 10)) is None
    assert values.content_digest(tmp_path / "one" / "sub" / "f", (0, 10)) is None


def test_a_repetition_of_all_steps_submits_nothing(pipelines: Pipelines) -> None:
    def steps() -> list[Any]:
        return [
            step("a", "echo ${{inputs.w}} > ${{outputs.o}}/f", inputs={"w": text("x")}, outputs=["o"]),
            step("b", "cp ${{inputs.a}}/f ${{outputs.o}}/", inputs={"a": made("a.o")},
                 outputs={"o": StepOutput("uri_folder", "final")}),
        ]  # fmt: skip

    first = pipelines.run(*steps(), outputs=["final"])
    assert first.verdict()["status"] == "Completed", logs(first)
    again = pipelines.start(*steps(), outputs=["final"])
    assert again.verdict()["status"] == "Completed"
    assert (again.out / "final" / "f").read_text() == "x\n"
    assert not again.attempts()
    assert not list(again.rounds_folder.glob("local-*"))
    assert ahead.reuse_ahead(again, 0) == []


def test_a_step_that_takes_too_long_is_ended(pipelines: Pipelines) -> None:
    job = pipelines.run(step("a", "sleep 60", timeout_s=0.5), timeout_s=60)
    assert "ran longer than its limit of 0.5 s" in job.results()["a"]["detail"]


def test_a_killed_supervisor_takes_its_commands_along_and_resume_goes_on(pipelines: Pipelines, tmp_path: Path) -> None:
    mark, go = tmp_path / "pid", tmp_path / "go"
    job = pipelines.start(
        step("a", "true", outputs=["o"]),
        step("b", f"echo $$ > {mark}; [ -e {go} ] || exec sleep 60", inputs={"a": made("a.o")}),
    )
    eventually(lambda: mark.exists() and mark.read_text().strip(), 60)
    pid = int(mark.read_text())
    os.kill(supervisors.living_in(job.rounds_folder), signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{pid}").exists() or " Z " in Path(f"/proc/{pid}/stat").read_text(), 30)
    go.touch()
    found = pipeline_jobs.find(pipelines.ws, job.record.name)
    assert found is not None
    eventually(lambda: pipeline_jobs.show(found)["status"] == "NotResponding", 30)
    pipeline_jobs.resume(found)
    pipelines.wait(job)
    assert states(job) == {"a": "Completed", "b": "Completed"}, logs(job)
    assert len(job.attempts()["a"]) == 1


def test_outputs_that_are_to_be_registered_become_assets(pipelines: Pipelines) -> None:
    """Once each, whatever runs again; a name that cannot be registered is told, and fails nothing."""
    outputs = {
        "d": StepOutput("uri_folder", register_as="words"),
        "m": StepOutput("custom_model", register_as="brain:7"),
        "bad": StepOutput("uri_folder", register_as="no such/name"),
    }
    write = " && ".join(f"echo x > ${{{{outputs.{name}}}}}/f" for name in outputs)
    job = pipelines.run(step("a", write, outputs=outputs))
    assert job.verdict()["status"] == "Completed", logs(job)
    assert [d["version"] for d in assets.list_data(pipelines.ws, name="words")] == ["1"]
    assert [m["version"] for m in assets.list_models(pipelines.ws, name="brain")] == ["7"]
    assert "'no such/name' could not be registered" in logs(job)
