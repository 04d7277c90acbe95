"""Networks that lose replies and connections or are cut for longer than a lease, and connections killed in Redis."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.chaos.scenarios import Context, Row, scenario
from tests.chaos.watching import Watch, enough, judge, until_enough
from tests.crashes.fleet import Fleet
from tests.support.programs import BIN, Program
from tests.support.proxy import Proxy
from tests.support.waiting import wait_until

AGENTS = 3
LEASE_S = 2


def expect_running(row: Row, programs: list[Program]) -> None:
    """Expect that no process ended."""
    ended = [program for program in programs if not program.running]
    row.expect(not ended, f"a process ended: {ended}")


def expect_no_crash(row: Row, fleet: Fleet) -> None:
    """Expect that no live agent lost its tasks."""
    crashed = sum(each.crashes > 0 for each in fleet.results())
    row.expect(crashed == 0, f"{crashed} tasks were taken from agents that lived")


@scenario("replies-lost", "calls lost with their connection, half of them after the script ran")
def replies_lost(context: Context) -> Row:
    """Server and agents reach Redis through a slow proxy that loses calls. Each caller sends a lost call again."""
    losses = context.size(30, 600)
    fleet = context.fleet()
    fleet.job(until_enough())
    with Proxy(fleet.redis.port, seed=context.random.randrange(2**31)) as proxy:
        with fleet.through(proxy):
            programs = [fleet.serve("--capacity", "300")]
            programs += [fleet.agent("--device", str(device)) for device in range(AGENTS)]
        proxy.latency, proxy.loss = 0.003, 0.1
        with Watch(fleet) as watch:
            wait_until(lambda: proxy.lost >= losses, 120, what=f"{losses} calls are lost")
            proxy.loss = 0.0
            row = judge(context, fleet, watch, enough(fleet), times=proxy.lost)
        expect_running(row, programs)
    expect_no_crash(row, fleet)
    row.remarks.append("3 ms latency each way; no task ran twice")
    return row


class NetworkCuts:
    """Cut off one agent after the other until others have its tasks, and measure how long that takes."""

    def __init__(self, context: Context, fleet: Fleet) -> None:
        self.longest_s = 0.0
        self._context = context
        self._fleet = fleet

    def with_tasks(
        self,
        agent: Program,
        cut: Callable[[], object],
        mend: Callable[[], object],
        drop: Callable[[], object] = lambda: None,
    ) -> None:
        """Cut the network while the agent has tasks in flight. Call `drop` and `mend` after others have these tasks."""
        fleet = self._fleet

        def caught() -> bool:
            if fleet.held_by(agent) < 2:
                return False
            cut()
            if fleet.held_by(agent) >= 2:
                return True
            mend()
            return False

        wait_until(caught, 60, every=0.05, what="the agent has tasks in flight")
        started_at, claims = time.monotonic(), fleet.at().claims(fleet.actor_of(agent))
        wait_until(lambda: not fleet.client.exists(claims), 60, what="its tasks are recovered")
        self.longest_s = max(self.longest_s, time.monotonic() - started_at)
        time.sleep(self._context.random.uniform(0, 0.5))
        drop()
        mend()
        wait_until(lambda: fleet.is_placed(agent), 30, what="it registered as a new actor")

    def judged(self, watch: Watch, times: int, agents: list[Program]) -> Row:
        """Return the row with the measured times."""
        fleet = self._fleet
        row = judge(self._context, fleet, watch, enough(fleet), times=times)
        expect_running(row, agents)
        row.expect(self.longest_s < LEASE_S + 3, f"recovered after {self.longest_s:.1f} s only")
        again = sum(each.crashes > 0 for each in fleet.results())
        row.remarks.append(
            f"recovered after at most {self.longest_s:.1f} s, with a lease of {LEASE_S} s; {again:,} tasks ran again"
        )
        refused = sum(
            agent.stderr.count("was fenced: its lease expired without a heartbeat") for agent in agents
        )
        row.expect(refused >= times, f"{refused} of {times} agents reported that their lease expired")
        return row


@scenario("networks-cut", "an agent's network cut for longer than the lease, with latency and loss")
def networks_cut(context: Context) -> Row:
    """Data sent during the cut arrives after it, or is lost with its connection: both in turn."""
    cuts = context.size(2, 15)
    fleet = context.fleet()
    fleet.job(until_enough())
    with ExitStack() as stack:
        seeds = [context.random.randrange(2**31) for _ in range(AGENTS)]
        proxies = [stack.enter_context(Proxy(fleet.redis.port, seed=seed)) for seed in seeds]
        server = fleet.serve("--lease", str(LEASE_S), "--capacity", "400")
        agents = []
        for device, proxy in enumerate(proxies):
            with fleet.through(proxy):
                agents.append(fleet.agent("--device", str(device)))
            proxy.latency, proxy.loss = 0.002, 0.01
        network_cuts = NetworkCuts(context, fleet)
        with Watch(fleet) as watch:
            for number in range(cuts):
                victim = context.random.randrange(AGENTS)
                proxy = proxies[victim]
                drop = [proxy.drop_all] if number % 2 else []
                network_cuts.with_tasks(agents[victim], proxy.cut, proxy.restore, *drop)
            row = network_cuts.judged(watch, cuts, agents)
        expect_running(row, [server])
    return row


@scenario("connections-killed", "`CLIENT KILL` of all connections and `SCRIPT FLUSH`, in mid-script")
def connections_killed(context: Context) -> Row:
    """Kill all connections every 50 to 150 ms. Interrupted calls and forgotten scripts are sent again."""
    times = context.size(20, 200)
    fleet = context.fleet()
    fleet.job(until_enough())
    programs = [fleet.serve("--capacity", "300")]
    programs += [fleet.agent("--device", str(device)) for device in range(AGENTS)]
    with Watch(fleet) as watch:
        for _ in range(times):
            fleet.client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            fleet.client.script_flush()
            time.sleep(context.random.uniform(0.05, 0.15))
        row = judge(context, fleet, watch, enough(fleet), times=times)
    expect_running(row, programs)
    expect_no_crash(row, fleet)
    row.remarks.append("no process ended; no task ran twice")
    return row


# Network namespaces


class Elsewhere:
    """A network namespace that a pair of interfaces connects to this one. `cut()` takes its link down.

    `number` (at most 60) is unique within this process. The process id keeps the addresses of processes apart.
    """

    def __init__(self, number: int) -> None:
        self.name = f"mutitask-{os.getpid()}-{number}"
        self._link = f"mt{os.getpid() % 100_000}-{number}"
        net = f"10.{64 + os.getpid() // 250 % 64}.{os.getpid() % 250}"
        self.near, self._far = f"{net}.{4 * number + 1}", f"{net}.{4 * number + 2}"

    def __enter__(self) -> Elsewhere:
        link = self._link
        ip("netns", "add", self.name)
        ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", self.name)
        ip("addr", "add", f"{self.near}/30", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", self.name, "addr", "add", f"{self._far}/30", "dev", "far")
        ip("-n", self.name, "link", "set", "far", "up")
        return self

    def __exit__(self, *_: object) -> None:
        ip("netns", "del", self.name)

    def cut(self) -> None:
        ip("link", "set", self._link, "down")

    def restore(self) -> None:
        ip("link", "set", self._link, "up")


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=10)


def networks_allowed() -> bool:
    """Return whether this user may create and enter network namespaces. If not, only the proxy scenarios run."""
    try:
        with Elsewhere(60):
            return True
    except (OSError, subprocess.SubprocessError):
        return False


def real_networks_cut(context: Context) -> Row:
    """Packets get lost and TCP sends them again, so data in transit arrives when the link is up again."""
    cuts = context.size(1, 8)
    fleet = context.fleet()
    job = fleet.job(until_enough())
    with Elsewhere(1) as one, Elsewhere(2) as two:
        networks = [one, two]
        fleet.client.config_set("bind", f"127.0.0.1 {one.near} {two.near}")
        server = fleet.serve("--lease", str(LEASE_S), "--capacity", "400")
        agents = []
        for device, network in enumerate(networks):
            url = fleet.redis.url.replace("127.0.0.1", network.near)
            inside = ["ip", "netns", "exec", network.name, BIN / "worker-agent", job]
            agents.append(fleet.start(*inside, "--device", str(device), redis_url=url))
        for agent in agents:
            wait_until(lambda agent=agent: " serves " in agent.stderr, 30, what="the agent has its device")
        network_cuts = NetworkCuts(context, fleet)
        with Watch(fleet) as watch:
            for _ in range(cuts):
                victim = context.random.randrange(len(agents))
                network_cuts.with_tasks(agents[victim], networks[victim].cut, networks[victim].restore)
            row = network_cuts.judged(watch, cuts, agents)
        expect_running(row, [server])
    return row


if networks_allowed():
    scenario("links-down", "the link of an agent's network namespace taken down for longer than the lease")(
        real_networks_cut
    )
