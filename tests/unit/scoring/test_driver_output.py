"""What the script prints: captured whole, and known by the mini-batch that printed it."""

from __future__ import annotations

import time

from tests.unit.scoring.conftest import Start, done, ready


def test_text_belongs_to_the_mini_batch_that_printed_it(start: Start) -> None:
    """Also while the next one waits in the pipe, in whatever order the worker reads replies and text."""
    script = """
import os, sys, time

def run(mini_batch):
    number = mini_batch[0][-1]
    if number != "3":
        print("out", number)
        sys.stderr.write("first " + number + "\\n")
        time.sleep(0.1)
        sys.stderr.write("no newline " + number)
    return [number]
"""
    talk = ready(start(script))
    for number in range(1, 6):
        talk.driver.run(number, b"%d" % number)
    for _ in range(3):
        talk.texts += talk.driver.text(talk.driver.stdout_fd)[0] + talk.driver.text(talk.driver.stderr_fd)[0]
        time.sleep(0.12)
    talk.until(lambda: len(talk.replies) == 5)
    talk.driver.stop()
    assert talk.ended() == 0
    for number in (1, 2, 4, 5):
        assert talk.printed(number) == b"out %d\n" % number
        assert talk.printed(number, error=True) == b"first %d\nno newline %d" % (number, number)
    assert {text.mini_batch for text in talk.texts} == {1, 2, 4, 5}


def test_megabytes_of_text_pass_while_it_runs(start: Start) -> None:
    script = """
import os, sys, subprocess

def run(mini_batch):
    for number in range(50000):
        print("line", number, "x" * 60)
    sys.stderr.write("e" * 3000000)
    os.write(1, b"straight to the descriptor\\n")
    subprocess.run(["echo", "from a child"])
    return [1]
"""
    talk = ready(start(script))
    assert talk.score(1, "a") == done(1, 1, b"1\n")
    talk.driver.stop()
    assert talk.ended() == 0
    printed = talk.printed(1)
    assert printed.count(b"\n") == 50002
    assert printed.endswith(b"straight to the descriptor\nfrom a child\n")
    assert talk.printed(1, error=True) == b"e" * 3000000


def test_a_script_that_closes_or_replaces_its_output(start: Start) -> None:
    script = """
import os, sys

def run(mini_batch):
    print("still here")
    if mini_batch[0].endswith("close"):
        sys.stdout.close()
        os.close(2)
    else:
        sys.stdout = open(os.devnull, "w")
        print("into the void")
    return [1]
"""
    talk = ready(start(script))
    assert talk.score(1, "replace") == done(1, 1, b"1\n")
    talk.driver.run(2, b"close")
    talk.next()
    assert talk.alive
