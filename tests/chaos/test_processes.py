"""Agents and servers killed and frozen: no task is lost or recorded twice, and the counters balance."""

from __future__ import annotations

import pytest

from tests.chaos.scenarios import Scenario
from tests.chaos.short_form import expect_nothing_wrong, of_processes


@pytest.mark.parametrize("scenario", of_processes(), ids=lambda scenario: scenario.name)
def test_no_task_is_lost_or_recorded_twice_and_the_counters_balance(scenario: Scenario) -> None:
    expect_nothing_wrong(scenario)
