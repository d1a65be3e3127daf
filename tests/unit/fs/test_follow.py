"""Logs are shown as they grow: whole lines, each file's below its name, and nothing is left out."""

from __future__ import annotations

from pathlib import Path

from hpcbatch.fs.follow import MAX_BYTES_AT_ONCE, Follower, until_nothing_is_new


def test_a_line_is_shown_when_it_has_its_end(tmp_path: Path) -> None:
    """What is being written is not; once nobody writes any more it is, too."""
    log, follower = tmp_path / "log", Follower()
    assert list(follower.lines(log, "log")) == [], "it is not there yet"
    log.write_text("one\ntw")
    assert list(follower.lines(log, "log")) == ["\nStreaming log\n=============\n", "one"]
    assert list(follower.lines(log, "log")) == []
    log.write_text("one\ntwo\nthree")
    assert list(follower.lines(log, "log")) == ["two"]
    assert list(follower.lines(log, "log", whole=True)) == ["three"]
    assert list(follower.lines(log, "log", whole=True)) == []


def test_the_title_stands_where_the_file_changes(tmp_path: Path) -> None:
    one, other, follower = tmp_path / "one", tmp_path / "other", Follower()
    found = []
    for path in (one, one, other, one):
        with open(path, "a") as file:
            file.write("x\n")
        found += list(follower.lines(path, path.name))
    follower.say_the_title_again()
    with open(one, "a") as file:
        file.write("x\n")
    found += list(follower.lines(one, "one"))
    assert [line.split()[1] for line in found if line != "x"] == ["one", "other", "one", "one"]


def test_of_much_nothing_is_left_out(tmp_path: Path) -> None:
    """A job's last lines are those that tell why it ended."""
    log, follower = tmp_path / "log", Follower()
    log.write_bytes((b"x" * 1023 + b"\n") * (2 * MAX_BYTES_AT_ONCE // 1024) + b"the end\n")
    found = list(until_nothing_is_new(lambda: follower.lines(log, "log")))
    assert found[-1] == "the end"
    assert len(found) == 2 + 2 * MAX_BYTES_AT_ONCE // 1024


def test_a_line_without_an_end_does_not_hide_what_comes_after_it(tmp_path: Path) -> None:
    """A progress bar goes back to the beginning of its line and never to the next."""
    log, follower = tmp_path / "log", Follower()
    log.write_bytes(b"#" * (MAX_BYTES_AT_ONCE + 10) + b"\nthe end\n")
    found = list(until_nothing_is_new(lambda: follower.lines(log, "log")))
    assert found[1:] == ["#" * MAX_BYTES_AT_ONCE, "#" * 10, "the end"]
