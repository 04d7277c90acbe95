"""The registry of faults: what a scenario receives, what it returns, and how to add one.

A scenario is a function from a `Context` to a `Row` with the `@scenario` decorator. It may be in any module of this
package. All modules are imported automatically, except `__main__` and `test_*`:

    @scenario("redis-frozen", "Redis frozen for 3 s")
    def redis_frozen(context: Context) -> Row:
        fleet = context.fleet(durable=True)          # a Redis, a namespace, programs; gone at the end
        fleet.job(numbers(count := context.size(1_000, 20_000)))
        fleet.serve("--capacity", "200")
        fleet.agent("--device", "0")
        with Watch(fleet) as watch:                  # takes snapshots of the counters all the time
            ... the faults, chosen only by context.random ...
            return judge(context, fleet, watch, count, times=3)

All random choices use `context.random`, so that the seed decides the schedule. `Row.wrong` lists what did not hold.
`judge` checks what every scenario promises, and a scenario adds its own checks.
"""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import tests.chaos
from tests.crashes.fleet import Fleet
from tests.support.programs import Program
from tests.support.redis_cluster import RealCluster
from tests.support.redis_server import RealServer
from tests.support.small_disk import SmallDisk


@dataclass(slots=True)
class Row:
    """One row of the table.

    Counts are numbers of tasks. `looks` is the number of snapshots. `pause_s` is the longest time in seconds in which
    no task was settled although work was open. `remarks` holds other measurements. `wrong` lists what did not hold,
    and is empty in a good run.
    """

    fault: str
    times: int
    allotted: int
    done: int
    failed: int
    lost: int
    twice: int
    balanced: bool
    looks: int
    pause_s: float
    remarks: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def expect(self, holds: object, otherwise: str) -> None:
        """Add `otherwise` to `wrong` if `holds` is false."""
        if not holds:
            self.wrong.append(otherwise)


class Context:
    """The resources of one run of one scenario. `close()` ends every process that it started."""

    def __init__(self, name: str, fault: str, seed: int, *, long: bool) -> None:
        self.fault = fault
        self.seed = seed
        self.long = long
        self.random = Random(f"{seed} {name}")
        self.folder = Path(tempfile.mkdtemp(prefix=f"mutitask-chaos-{name}-"))
        self._programs: list[Program] = []
        self._servers: list[RealServer | RealCluster] = []
        self._fleets: list[Fleet] = []
        self._disks: list[SmallDisk] = []

    def size(self, short: int, long: int) -> int:
        """Return the number for the short form or for the long form."""
        return long if self.long else short

    def redis(self, *, durable: bool = False, fsync: str = "everysec") -> RealServer:
        """Start a Redis for this scenario only. With `durable`, it keeps an append-only file."""
        server = RealServer(durable=durable, fsync=fsync)
        self._servers.append(server)
        return server.start()

    def cluster(self, *, durable: bool = False) -> RealCluster:
        """Start three masters for this scenario only."""
        made = RealCluster(durable=durable)
        self._servers.append(made)
        return made.start()

    def fleet(self, *, durable: bool = False, on: RealServer | RealCluster | None = None) -> Fleet:
        """Return a namespace in `on`, or in a new Redis."""
        fleet = Fleet(on or self.redis(durable=durable), self.spawn, self.folder)  # type: ignore[arg-type]
        self._fleets.append(fleet)
        return fleet

    def disk(self, name: str) -> SmallDisk:
        """Mount a small disk at `name` in the scenario's folder. `state` is the state directory of its programs."""
        self._disks.append(made := SmallDisk(self.folder / name))
        return made

    def spawn(
        self,
        args: Sequence[str | Path],
        env: Mapping[str, str | Path] | None = None,
        *,
        cwd: Path | None = None,
    ) -> Program:
        """Start a program. Its session ends with the scenario."""
        surroundings = {
            "MUTITASK_STATE_DIR": str(self.folder / "state"),
            "MUTITASK_CONFIG_FILE": str(self.folder / "no-config.toml"),
        }
        where = self.folder / "programs" / str(len(self._programs))
        program = Program(args, {**surroundings, **(env or {})}, where, cwd)
        self._programs.append(program)
        return program

    def close(self) -> None:
        """End all processes and remove all files."""
        for program in self._programs:
            if program.running:
                program.kill_session()
        for fleet in self._fleets:
            fleet.close()
        for server in self._servers:
            server.remove()
        for disk in self._disks:
            disk.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault. `name` is its name for `--only`, `fault` its text in the table."""

    name: str
    fault: str
    carry_out: Callable[[Context], Row]

    def run(self, seed: int, *, long: bool) -> Row:
        """Run the scenario once. Raises any error that prevents a row."""
        with _closing(Context(self.name, self.fault, seed, long=long)) as context:
            return self.carry_out(context)


FIRST = ("agents", "frozen", "servers", "redis_killed", "everything", "killers")
"""The modules that come first in the table. The others follow in the order of their names."""

_SCENARIOS: dict[str, Scenario] = {}


def scenario(name: str, fault: str) -> Callable[[Callable[[Context], Row]], Callable[[Context], Row]]:
    """Return a decorator that adds a function to the registry."""

    def register(carry_out: Callable[[Context], Row]) -> Callable[[Context], Row]:
        _SCENARIOS[name] = Scenario(name, fault, carry_out)
        return carry_out

    return register


def all_scenarios() -> list[Scenario]:
    """Import every module of this package and return all scenarios."""
    found = sorted(module.name for module in pkgutil.iter_modules(tests.chaos.__path__))
    for name in (*FIRST, *found):
        if name != "__main__" and not name.startswith("test_"):
            importlib.import_module(f"tests.chaos.{name}")
    return list(_SCENARIOS.values())


@contextmanager
def _closing(context: Context) -> Iterator[Context]:
    try:
        yield context
    finally:
        context.close()
