"""Part 4: latency at light load: from a task's yield to its start, and to the result that can be read.

A task notes itself when it begins. An observer, the same for all, asks Redis each millisecond which results have come;
it reads what the system's own client would read.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import redis

from benchmarks.figures import percentile
from benchmarks.measure import place, tried
from benchmarks.mutitask import MutiTask
from benchmarks.peers.kit import Options, Stamps
from benchmarks.plan import Plan, say
from benchmarks.processes import Broken, Desk, desk
from benchmarks.systems import Peer

RATE = 100.0
WARM_UP = 100
"""The first tasks, one second of them, are not counted."""
LOOK_S = 0.001

Sent = tuple[int, float, list[str]]


class Sender:
    """Reads what a trickling adapter says it has sent."""

    def __init__(self, process: Any) -> None:
        self.sent: deque[Sent] = deque()
        self.over = threading.Event()
        self._process = process
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for said in self._process.stdout:
            if said.startswith(b"["):
                index, yielded, command = json.loads(said)
                self.sent.append((index, yielded, command))
        self.over.set()


def readable(client: redis.Redis, sender: Sender, count: int, desk: Desk) -> dict[int, tuple[float, float]]:
    """For each index when it was yielded and when its result could be read."""
    found: dict[int, tuple[float, float]] = {}
    waiting: list[Sent] = []
    until = time.monotonic() + count / RATE + 30
    while len(found) < count:
        while sender.sent:
            waiting.append(sender.sent.popleft())
        here = [one for one in waiting if one[2][0] == "READ-AT"]
        found.update({index: (yielded, float(command[1])) for index, yielded, command in here})
        asked = [one for one in waiting if one[2][0] != "READ-AT"]
        answers: list[Any] = []
        if asked:
            with client.pipeline(transaction=False) as pipe:
                for _, _, command in asked:
                    gone = command[0] == "ZSCORE-GONE"
                    pipe.execute_command("ZSCORE" if gone else command[0], *command[1:])
                answers = pipe.execute()
        now = time.monotonic()
        waiting = []
        for one, answer in zip(asked, answers, strict=True):
            if (answer is None) if one[2][0] == "ZSCORE-GONE" else answer:
                found[one[0]] = one[1], now
            else:
                waiting.append(one)
        if now > until:
            raise Broken(f"{len(found)} of {count} results came: {desk.log()}")
        time.sleep(LOOK_S)
    return found


def ours_readable(system: MutiTask, sender: Sender, count: int) -> dict[int, tuple[float, float]]:
    """The same from MutiTask's result channel, in which a result's header holds its task's number."""
    seen: dict[int, float] = {}
    until = time.monotonic() + count / RATE + 30
    while len(seen) < count:
        items: Any = system.client.lrange(system.channel.results, len(seen), -1)
        now = time.monotonic()
        for item in items:
            seen[int(item[10:22])] = now
        if now > until:
            raise Broken(f"MutiTask: {len(seen)} of {count} results came: {system.desk.log()}")
        time.sleep(LOOK_S)
    yielded = {index: at for index, at, _ in sender.sent}
    return {index: (yielded[index], at) for index, at in seen.items()}


def summed(name: str, desk: Desk, found: dict[int, tuple[float, float]]) -> dict[str, Any]:
    """The waits in ms, without the warm-up; negative ones cannot be."""
    stamps = Stamps(str(desk.path)).at
    counted = [index for index in found if index >= WARM_UP]
    started = [(stamps[index] - found[index][0]) * 1000 for index in counted]
    read = [(found[index][1] - found[index][0]) * 1000 for index in counted]
    if min(started) < 0:
        raise Broken(f"{name}: a task began before it was yielded")
    say(
        f"  {name:20} "
        + "  ".join(f"{label} {text(values)}" for label, values in (("started", started), ("read", read)))
    )
    return {"system": name, "started": started, "read": read}


def text(values: list[float]) -> str:
    """p50, p99 and p99.9."""
    return " ".join(f"{percentile(values, share):8.2f}" for share in (0.5, 0.99, 0.999))


def of_peer(peer: Peer, options: Options) -> dict[str, Any]:
    """A peer with one worker."""
    count = int(options.rate * options.seconds)
    with place("off") as (server, url), desk(replace(options, url=url, function="noop", tasks=50)) as here:
        if peer.redis:
            here.told(peer, "feed")
            here.peer(peer, "work")
            here.until_run(50)
        sender = Sender(here.peer(peer, "trickle", pipes=True))
        return summed(peer.label, here, readable(server.client(), sender, count, here))


def of_mutitask(options: Options) -> dict[str, Any]:
    """MutiTask with one agent."""
    count = int(options.rate * options.seconds)
    asked = replace(options, function="stamp", capacity=1000)
    with place("off") as (server, url), desk(replace(asked, url=url)) as here:
        system = MutiTask(here, server, trickle=True)
        system.join()
        system.start_agents()
        system.feed()
        sender = Sender(system.server)
        return summed("MutiTask", here, ours_readable(system, sender, count))


def run(plan: Plan) -> list[dict[str, Any]]:
    """All rounds; the waits of a system's rounds are counted together."""
    rows = []
    options = Options("", "", rate=RATE, seconds=4.0 if plan.quick else 11.0)
    rounds: list[Callable[[], Any]] = []
    for number in range(min(2, plan.rounds)):
        rounds.append(lambda: of_mutitask(options))
        rounds += [
            lambda peer=peer: tried(peer.label, of_peer, peer, options)  # type: ignore[misc]
            for peer in plan.turn(number)
        ]
    for measure in rounds:
        found = measure()
        if found:
            rows.append(
                {
                    key: value if key == "system" else [round(v, 3) for v in value]
                    for key, value in found.items()
                }
            )
    return rows
