"""Tasks and results with large bodies: processes killed between two steps, and masters of a cluster killed."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from mutitask_tui.server.body_references import owner_of
from mutitask_tui.server.body_sweep import PASSES, BodySweep
from mutitask_tui.server.reader import Reader
from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, judge
from tests.crashes.fleet import NAME, Fleet, Recorded, wait_for_text
from tests.support.redis_cluster import RealCluster
from tests.support.waiting import wait_until
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.bodies import key_prefix
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.errors import MutiTaskError

SIZE = 20_000
AGENTS = 2


def large_numbers(count: int, seconds: float = 0.002) -> str:
    """Return a job of `count` tasks. Task and result are the number and a long text."""
    return f"""
        import time

        def tasks():
            for number in range({count}):
                yield [number, str(number) * ({SIZE} // len(str(number)))]

        def task_function(task):
            time.sleep({seconds})
            return task
        """


def whole_results(fleet: Fleet) -> list[Recorded]:
    """Return the results by their numbers alone. A result with another text gets another number."""
    return [
        replace(each, value=each.value[0] if each.value[1][:1] == str(each.value[0])[:1] else -1)
        for each in fleet.results()
        if len(each.value[1]) > SIZE // 2
    ]


def bodies(fleet: Fleet) -> set[bytes]:
    return set(fleet.client.keys(key_prefix(NAME) + b"*"))


class QuietSweep(BodySweep):
    """A sweep in the server's name that does not write its counts: the server numbers its own calls."""

    def _write_counts(self, stored: int, missing: int) -> None:
        pass


def expect_no_orphans(fleet: Fleet, row: Row) -> int:
    """Sweep until nothing more can go. Expect that each body that is left belongs to a result. Return how many went."""
    holder = (fleet.client.hget(fleet.keys.meta, "server") or b"").decode()
    reader = Reader(fleet.redis.url, NAME)
    broker = Broker(connect(fleet.redis.url), NAME, Actor(holder), address="here")
    before = len(bodies(fleet))
    sweep = QuietSweep(reader, broker, "chaos")
    for _ in range(PASSES + 2):
        sweep.sweep()
    named = set(reader.bodies.keys(0, fleet.client.lrange(fleet.at().results, 0, -1)))
    row.expect(
        bodies(fleet) == named,
        f"{len(bodies(fleet) - named)} orphans and {len(named - bodies(fleet))} missing",
    )
    return before - len(named)


def waits_for_push(fleet: Fleet) -> bool:
    """Return whether a body is stored whose task has not been pushed."""
    cursor = int(fleet.client.hget(fleet.at().counters, "cursor") or 0)
    owners = [owner_of(key, key_prefix(NAME)) for key in bodies(fleet)]
    return any(owner is not None and owner[2] >= cursor for owner in owners)


@scenario(
    "between-steps", "server killed between store and push, agents between fetch and settle, of large bodies"
)
def between_steps(context: Context) -> Row:
    count, kills = context.size(600, 12_000), context.size(6, 100)
    fleet = context.fleet()
    fleet.job(large_numbers(count, 0.02))
    options = ("--lease", "600", "--capacity", "60")
    server = fleet.serve(*options)
    agents = [fleet.agent("--device", str(device)) for device in range(AGENTS)]
    marks = sorted(context.random.randrange(int(count * 0.7)) for _ in range(kills))
    killed_before_push = 0
    with Watch(fleet) as watch:
        for number, mark in enumerate(marks):
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            if number % 2:
                device = context.random.randrange(AGENTS)
                fleet.freeze_with_claims(agents[device], least=1)
                agents[device].kill()
                agents[device] = fleet.agent("--device", str(device))
            else:
                server.freeze()
                killed_before_push += waits_for_push(fleet)
                server.kill()
                server = fleet.newcomer(*options, "--resume")
                wait_for_text(server, "\n", times=2)
        row = judge(context, fleet, watch, count, times=kills, saved=lambda: whole_results(fleet))
    row.expect(killed_before_push, "no server died between store and push")
    went = expect_no_orphans(fleet, row)
    row.remarks.append(
        f"{killed_before_push} servers died with a stored task that was not pushed; {went} bodies were left behind, "
        "and the sweep removed them and no other"
    )
    return row


def cluster_fleet(context: Context) -> tuple[Fleet, RealCluster]:
    """Return a namespace on three durable masters that serve their slots while another one is dead."""
    cluster = context.cluster(durable=True)
    for node in cluster.masters:
        with node.client() as client:
            client.config_set("cluster-require-full-coverage", "no")
    return context.fleet(on=cluster), cluster


def is_back(fleet: Fleet) -> bool:
    with contextlib.suppress(MutiTaskError):
        return bool(fleet.snapshot().channels)
    return False


def kill_masters(context: Context, *, of_namespace: bool) -> Row:
    """Kill and restart one master at random marks of done tasks. Nothing that it acknowledged is lost."""
    count, kills = context.size(600, 6_000), context.size(2, 20)
    fleet, cluster = cluster_fleet(context)
    fleet.job(large_numbers(count))
    server = fleet.serve("--capacity", "60", "--lease", "60")
    agents = [fleet.agent("--device", str(device)) for device in range(AGENTS)]
    marks = sorted(context.random.randrange(1, int(count * 0.8)) for _ in range(kills))
    with Watch(fleet) as watch:
        for mark in marks:
            fleet.wait_for(lambda counters, mark=mark: counters.done >= mark, 60)
            owner = cluster.owner(fleet.keys.meta)
            victim = owner
            if not of_namespace:
                victim = context.random.choice([node for node in cluster.masters if node is not owner])
            victim.kill()
            if not of_namespace:
                wait_until(lambda: any("; trying again" in each.stderr for each in agents), 20)
            time.sleep(context.random.uniform(0.5, 1.5))
            victim.start()
            wait_until(lambda: is_back(fleet), 30, what="the cluster serves the namespace again")
        row = judge(context, fleet, watch, count, times=kills, saved=lambda: whole_results(fleet))
    ended = [program for program in (server, *agents) if not program.running]
    row.expect(not ended, f"a process ended: {ended}")
    per_master = []
    for node in cluster.masters:
        with node.client() as client:
            per_master.append(len(client.keys(key_prefix(NAME) + b"*")))
    row.expect(min(per_master) > count // 10, f"the bodies do not spread: {per_master}")
    row.remarks.append(
        "agents and server waited for it; the three masters hold " + ", ".join(map(str, per_master))
    )
    return row


@scenario(
    "bodies-master-killed", "a cluster's master that holds only bodies killed with `kill -9` and restarted"
)
def bodies_master_killed(context: Context) -> Row:
    return kill_masters(context, of_namespace=False)


@scenario(
    "namespace-master-killed",
    "a cluster's master that holds the namespace killed with `kill -9` and restarted",
)
def namespace_master_killed(context: Context) -> Row:
    return kill_masters(context, of_namespace=True)
