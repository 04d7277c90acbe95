"""The short form of `make chaos` as tests, in two files, so that two pytest workers share it.

Each fault runs once, with a new seed each time unless CHAOS_SEED is set.
"""

from __future__ import annotations

from tests.chaos.__main__ import SEED_VARIABLE, seed_of
from tests.chaos.scenarios import Scenario, all_scenarios

PROCESSES = tuple(
    f"tests.chaos.{module}"
    for module in (
        "agents",
        "restarts",
        "frozen",
        "servers",
        "everything",
        "killers",
        "child_processes",
        "no_server",
        "several_channels",
        "retries_and_rates",
    )
)


def of_processes() -> list[Scenario]:
    """Return the faults of agents and servers."""
    return [scenario for scenario in all_scenarios() if scenario.carry_out.__module__ in PROCESSES]


def of_the_rest() -> list[Scenario]:
    """Return the faults of Redis and the network."""
    return [scenario for scenario in all_scenarios() if scenario.carry_out.__module__ not in PROCESSES]


def expect_nothing_wrong(scenario: Scenario) -> None:
    """Run the scenario and expect that everything holds. A failure names the seed."""
    seed = seed_of(None)
    try:
        row = scenario.run(seed, long=False)
    except Exception as error:
        error.add_note(f"run it again with {SEED_VARIABLE}={seed}")
        raise
    assert not row.wrong, f"{SEED_VARIABLE}={seed}: {row}"
