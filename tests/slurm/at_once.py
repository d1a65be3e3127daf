"""Scenarios that mostly wait, so that all of them run beside each other on one cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.site import Site

if TYPE_CHECKING:
    from tests.conftest import DevCluster

Scenario = Callable[[Site, "DevCluster"], None]
SCENARIOS: dict[str, Scenario] = {}


def at_once(scenario: Scenario) -> Scenario:
    """Runs beside all the others, with a workspace of its own; test_faults.py tells how it ended."""
    SCENARIOS[scenario.__name__] = scenario
    return scenario
