"""`make chaos`: run every fault in turn and print the table. `--long` also writes the table into the docs."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import time
import traceback

from tests.chaos.report import surroundings, table, write
from tests.chaos.scenarios import Row, Scenario, all_scenarios

SEED_VARIABLE = "CHAOS_SEED"


def seed_of(named: int | None) -> int:
    """Return the seed from the arguments or the environment, or a new one."""
    if named is not None:
        return named
    return int(os.environ.get(SEED_VARIABLE) or secrets.randbelow(1_000_000))


def carry_out(chosen: list[Scenario], seed: int, *, long: bool) -> tuple[list[Row], list[str]]:
    """Run the scenarios. Return the rows of the table and a list of everything that did not hold."""
    rows: list[Row] = []
    wrong: list[str] = []
    for scenario in chosen:
        started_at, before = time.monotonic(), len(wrong)
        print(f"{scenario.name}: {scenario.fault} ...", end=" ", flush=True)
        try:
            row = scenario.run(seed, long=long)
        except Exception:
            traceback.print_exc()
            wrong.append(f"{scenario.name}: broke off")
        else:
            rows.append(row)
            wrong += [f"{scenario.name}: {each}" for each in row.wrong]
        held = len(wrong) == before
        print(f"{'held' if held else 'DID NOT HOLD'}, {time.monotonic() - started_at:.1f} s", flush=True)
    return rows, wrong


def main() -> int:
    """Run the chosen faults. Return the exit status: 0 if everything held."""
    there = all_scenarios()
    options = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    form = options.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="about a minute (the default)")
    form.add_argument("--long", action="store_true", help="about half an hour; renews docs/reliability.md")
    options.add_argument("--seed", type=int, help=f"the schedule's seed; or set {SEED_VARIABLE}")
    options.add_argument(
        "--only", nargs="+", metavar="FAULT", choices=[s.name for s in there], help="some faults"
    )
    options.add_argument("--list", action="store_true", help="name the faults and end")
    chosen = options.parse_args()
    if chosen.list:
        print("\n".join(f"{scenario.name:24} {scenario.fault}" for scenario in there))
        return 0
    seed = seed_of(chosen.seed)
    print(f"seed {seed}: run it again with --seed {seed} or {SEED_VARIABLE}={seed}", flush=True)
    started_at = time.monotonic()
    picked = [scenario for scenario in there if not chosen.only or scenario.name in chosen.only]
    rows, wrong = carry_out(picked, seed, long=chosen.long)
    command = f"make chaos ARGS='{'--long ' if chosen.long else ''}--seed {seed}'"
    about = surroundings(command, time.monotonic() - started_at)
    print(f"\n{about}\n\n{table(rows)}")
    if wrong:
        print(
            "\nDid not hold:\n" + "\n".join(f"- {each}" for each in wrong) + f"\n(seed {seed})",
            file=sys.stderr,
        )
        return 1
    if chosen.long and not chosen.only:
        write(rows, about)
    return 0


if __name__ == "__main__":
    sys.exit(main())
