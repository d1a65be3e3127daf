"""The graph alone: what may start, what travels together, how a pipeline ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hpcbatch.pipeline.drawing import Node, as_svg, as_text, layers
from hpcbatch.pipeline.graph import halved, leaves, obstacle, pipeline_end, ready, units
from hpcbatch.pipeline.reuse import step_key
from hpcbatch.records.pipeline import PipelineStep, StepOutput
from tests.pipelines import made, step, text


def graph(shape: str) -> list[PipelineStep]:
    """`a b<a c<a,b`: steps and what they read from."""
    found = []
    for word in shape.split():
        name, _, parents = word.partition("<")
        inputs = {parent: made(f"{parent}.o") for parent in parents.split(",") if parent}
        found.append(step(name, "true", inputs=inputs, outputs=["o"]))
    return found


DIAMOND = graph("top left<top right<top bottom<left,right")


def test_a_unit_that_is_too_large_is_halved_and_those_before_it_keep_their_numbers() -> None:
    """What was submitted goes by its number and its place in the array."""
    wide = units(graph("top " + " ".join(f"s{n}<top" for n in range(5)) + " end<s0,s1,s2,s3,s4"), 9)
    cut = halved(wide, 1)
    assert [[s.name for s in unit.steps] for unit in cut] == [["top"], ["s0", "s1"], ["s2", "s3", "s4"], ["end"]]
    assert [unit.number for unit in cut] == [0, 1, 2, 3]
    assert [unit.parents for unit in cut[1:3]] == [("top",), ("top",)]


@pytest.mark.parametrize(
    ("ends", "left", "goes_on"),
    [
        ({"top": "Completed"}, True, True),
        ({}, False, True),
        ({"top": "Failed"}, False, True),
        ({"top": "Completed", "right": "Failed"}, False, False),
        ({"top": "Completed", "right": "Failed"}, True, True),
        ({"top": "Completed", "right": "NotStarted"}, True, False),
    ],
)
def test_a_step_starts_when_its_parents_completed_and_no_failure_forbids_it(
    ends: Mapping[str, str], left: bool, goes_on: bool
) -> None:
    assert (obstacle(DIAMOND[1], ends, continue_on_step_failure=goes_on) is None) is left


def test_what_has_its_parents_behind_it_is_ready_whatever_became_of_them() -> None:
    assert [s.name for s in ready(DIAMOND, (), ())] == ["top"]
    assert [s.name for s in ready(DIAMOND, ("top",), ("left",))] == ["right"]
    assert [s.name for s in ready(DIAMOND, ("top", "left", "right"), ())] == ["bottom"]


@pytest.mark.parametrize(
    ("ends", "canceled", "status"),
    [
        ({"a": "Completed", "b": "Completed"}, False, "Completed"),
        ({"a": "Failed", "b": "NotStarted"}, False, "Failed"),
        ({"a": "Completed", "b": "Canceled"}, True, "Canceled"),
        ({"a": "Completed", "b": "Completed"}, True, "Completed"),
        ({"a": "Completed", "b": "NotStarted"}, False, "Failed"),
    ],
)
def test_a_pipeline_is_completed_if_every_step_is(ends: Mapping[str, str], canceled: bool, status: str) -> None:
    assert pipeline_end(graph("a b<a"), ends, canceled=canceled)[0] == status


def test_siblings_that_slurm_cannot_tell_apart_are_one_array() -> None:
    wide = graph("top " + " ".join(f"s{n}<top" for n in range(200)) + " end<" + ",".join(f"s{n}" for n in range(200)))
    found = units(wide, 1000)
    assert [len(unit.steps) for unit in found] == [1, 200, 1]
    assert (found[1].parents, len(found[2].parents)) == (("top",), 200)
    assert [len(unit.steps) for unit in units(wide, 64)] == [1, 64, 64, 64, 8, 1]


def test_siblings_on_other_computes_or_nodes_are_submitted_apart() -> None:
    two = graph("a b")
    assert len(units(two, 9)) == 1
    assert len(units([two[0], replace(two[1], instance_count=2)], 9)) == 2
    other = replace(two[1].compute, slurm={"partition": "gpu"})
    assert len(units([two[0], replace(two[1], compute=other)], 9)) == 2


def test_what_completed_before_is_no_dependency_of_a_submission() -> None:
    found = units([DIAMOND[2], DIAMOND[3]], 9)
    assert [unit.parents for unit in found] == [(), ("right",)]


def test_the_end_waits_for_what_nobody_reads_from() -> None:
    assert leaves(DIAMOND) == ["bottom"]
    assert leaves(graph("a b<a c<a")) == ["b", "c"]


def test_the_key_of_a_run_is_all_that_its_outputs_can_depend_on() -> None:
    one = step("a", "x ${{inputs.i}}", inputs={"i": text("1")}, outputs=["o"], component_sha256="c")
    key = step_key(one, {"i": "text:1"})
    assert step_key(replace(one, name="other", display_name="Other"), {"i": "text:1"}) == key
    changed = [
        replace(one, command="y"), replace(one, environment_variables={"A": "1"}), replace(one, python="/other"),
        replace(one, outputs={"o": StepOutput("uri_file")}), replace(one, component_sha256="d"),
        replace(one, instance_count=2), replace(one, distribution={"type": "mpi"}),
    ]  # fmt: skip
    keys = {key, step_key(one, {"i": "text:2"}), *(step_key(each, {"i": "text:1"}) for each in changed)}
    assert len(keys) == 2 + len(changed)


def nodes(shape: str, status: str = "Completed") -> list[Node]:
    return [Node(s.name, status, "", s.dependencies) for s in graph(shape)]


def test_a_drawing_has_each_step_below_its_parents() -> None:
    assert [[n.name for n in layer] for layer in layers(nodes("top left<top right<top bottom<left,right"))] == [
        ["top"], ["left", "right"], ["bottom"]
    ]  # fmt: skip
    lines = as_text(nodes("top left<top right<top bottom<left,right"))
    assert [line.split()[1:3] for line in lines] == [
        ["top", "Completed"],
        ["└", "left"],
        ["└", "right"],
        ["└", "bottom"],
    ]
    assert lines[-1].endswith("<- left, right")


def test_a_drawing_of_many_siblings_names_the_failed_ones() -> None:
    wide = nodes("top " + " ".join(f"s{n}<top" for n in range(200)))
    wide[7] = replace(wide[7], status="Failed")
    lines = as_text(wide)
    assert len(lines) == 3
    assert any("s6" in line and "Failed" in line for line in lines)
    assert any("199 steps" in line for line in lines)


def test_a_picture_is_well_formed_whatever_the_names_are() -> None:
    from xml.etree import ElementTree as ET

    svg = as_svg(
        'a <pipeline> & "more"', [Node("x<y>", "Failed", "exit code 1 & <more>", ()), Node("b", "?", "", ["x<y>"])]
    )
    root = ET.fromstring(svg)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}rect")) == 3
