"""Redis and the network killed and cut: nothing is lost, nothing doubled, and the books balance."""

from __future__ import annotations

import pytest

from tests.chaos.scenarios import Scenario
from tests.chaos.short_form import expect_nothing_wrong, of_the_rest


@pytest.mark.parametrize("scenario", of_the_rest(), ids=lambda scenario: scenario.name)
def test_nothing_is_lost_nothing_doubled_and_the_books_balance(scenario: Scenario) -> None:
    expect_nothing_wrong(scenario)
