"""The short form of `make chaos`: each fault once, with a new seed each time unless CHAOS_SEED names one."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import SEED_VARIABLE, seed_of
from tests.chaos.scenarios import Scenario, all_scenarios


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda scenario: scenario.name)
def test_nothing_is_lost_nothing_doubled_and_the_books_balance(scenario: Scenario) -> None:
    seed = seed_of(None)
    try:
        row = scenario.run(seed, long=False)
    except Exception as error:
        error.add_note(f"run it again with {SEED_VARIABLE}={seed}")
        raise
    assert not row.wrong, f"{SEED_VARIABLE}={seed}: {row}"
