"""What a step's end is called."""

from __future__ import annotations

import signal

import pytest

from hpcbatch.steps import attempt


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGRTMIN + 3, "SIGRTMIN+3"),
        (signal.SIGRTMAX, "SIGRTMAX"),
        (32, "32"),  # kept by the C library for itself
    ],
)
def test_every_signal_that_can_end_a_command_has_a_word(number: int, name: str) -> None:
    assert attempt._signal(number) == name
