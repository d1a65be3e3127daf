"""Whether the process that a note names still lives."""

from __future__ import annotations

import os
import subprocess

import pytest

from hpcbatch.fs.living import is_of_here, lives, process_note


def test_a_process_lives_until_it_has_ended() -> None:
    """One that nobody has waited for yet has ended, too."""
    assert lives(process_note(os.getpid()))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        note = process_note(process.pid)
        assert lives(note)
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert not lives(note)
    assert not lives(note)
    assert process_note(note["pid"])["started"] == 0


def test_a_number_that_was_handed_out_again_is_another_process() -> None:
    note = process_note(os.getpid())
    assert not lives({**note, "started": note["started"] - 1})
    assert not lives({**note, "started": 0})


@pytest.mark.parametrize("key", ["host", "boot", "namespace"])
def test_a_process_of_elsewhere_is_none_of_ours(key: str) -> None:
    """Of another machine, of before the last boot, or of a container whose processes are not seen here."""
    note = process_note(os.getpid())
    assert is_of_here(note)
    assert not is_of_here({**note, key: "another"})
    assert not lives({**note, key: "another"})
