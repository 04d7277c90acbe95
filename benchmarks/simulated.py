"""Simulates many agents in one process: `python -m benchmarks.simulated --first 0 --count 250 --name NS`.

Each agent is a separate actor that speaks the real protocol. It registers, sends a heartbeat every second, at rest less
often, waits for its device's token, follows its desired state, and settles and claims in one call. Only the tasks are
simulated: a task takes `--task-ms` of waiting. Its result is the task itself with `--results`, and nothing without.

All agents of the process share three kinds of threads, which a real agent has for itself: one reconciles and sends
heartbeats, one settles and claims, and one per channel waits for tasks. While Redis is unavailable they wait, like real
agents. The address of Redis comes from MUTITASK_REDIS_URL.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redis.exceptions import NoScriptError, RedisError

from worker_agent.agent.heartbeat import REST_LEASE_SHARE
from worker_agent.agent.registration import REST_BLOCK_S, REST_INTERVAL_S, HeartbeatPace
from worker_agent.execution.in_flight import text_of
from worker_agent.protocol import list_item, wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE, redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.connection.retry import RetryPolicy, pause_s
from worker_agent.protocol.connection.waiting import send_together
from worker_agent.protocol.errors import LeaseLost, MutiTaskError, RedisUnavailable
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.scripts import script
from worker_agent.protocol.settlements import Settlement

HEARTBEAT_S = 1.0
"""The interval between two heartbeats of an agent that has tasks."""
PIPELINE_S = 0.02
"""Calls that are due within this time share a round trip, to save CPU that real agents use on other machines."""
PIPELINE_DEVICES = 8
"""How many agents share a round trip to settle and claim, at most."""
RETRY_S = 0.2
"""The pause before the next attempt while Redis is unavailable."""
REPORT = b"report"
"""Stands for the report in a recorded heartbeat."""
DESIRED = [b""] * 5
"""An empty desired state: the answer to a call that is only recorded."""
Command = tuple[Any, ...]
IDLE_GROUPS = tuple(Path(root, "mutitask-simulated") for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"))
"""Control groups (version 1 or 2) that run only when other processes are idle. Only root can create them."""


@dataclass(slots=True, eq=False)
class Device:
    """One simulated agent."""

    number: int
    channel: int
    task_broker: Broker
    heartbeat_broker: Broker
    heartbeat_due: float
    """When the next heartbeat is due (monotonic, in seconds)."""
    paused: bool = True
    items: list[bytes] = field(default_factory=list)
    """The claimed items."""
    claim: int = 0
    """The number of the claim."""
    claimed_at: float = 0.0
    """When the items were claimed (monotonic, in seconds)."""
    done: int = 0
    detect_answered: str = ""
    """The last detect that was answered."""
    announced: str = ""
    """The state in the last heartbeat."""
    since_ms: int = field(default_factory=lambda: int(time.time() * 1000))
    rest_s: float = HEARTBEAT_S
    """The interval between two heartbeats at rest."""
    pace: HeartbeatPace = field(default_factory=HeartbeatPace)
    """How soon a refused heartbeat is sent again."""
    tries: int = 0
    """How often the heartbeat was refused."""
    commands: dict[str, Command] = field(default_factory=dict)
    """Commands that were recorded once. A thousand agents share the CPU that each of them has for itself in reality."""

    @property
    def beat_s(self) -> float:
        """The interval between two heartbeats now."""
        return HEARTBEAT_S if self.items else self.rest_s

    @property
    def state(self) -> Literal["running", "paused"]:
        """The observed state of the agent."""
        return "paused" if self.paused else "running"

    def report(self) -> bytes:
        """Return the report of a heartbeat, like that of a real agent."""
        return wire.pack(
            {
                "host": f"sim-{self.number // 50:02}", "version": "simulated", "python": "3", "concurrency": 1,
                "channel": self.channel, "channels": str(self.channel), "state": self.state,
                "pid": 10_000 + self.number, "since_ms": self.since_ms, "running": min(1, len(self.items)),
                "tasks": [self._running()] if self.items else [],
                "done": self.done, "failed": 0, "beat_s": self.beat_s,
            }
        )  # fmt: skip

    def _running(self) -> dict[str, Any]:
        """Return what a heartbeat tells of the running task."""
        item = self.items[0]
        seconds, id_ = time.monotonic() - self.claimed_at, item[2:22].decode()
        return {"text": text_of(item), "seconds": seconds, "id": id_, "channel": self.channel}

    def heartbeat_command(self) -> Command:
        """Return the command of a heartbeat. It names the channel only if that has changed, like most real ones."""
        changed, self.announced = self.state != self.announced, self.state
        kind = f"{self.state} {changed}"
        if kind not in self.commands:
            channel = [self.channel] if changed else []
            named = {"not_from" if self.paused else "claims_from": channel}
            calls = CallRecorder([b"ok", b"0", b"0", b"0", *DESIRED])
            calls.record(self.heartbeat_broker, lambda broker: broker.heartbeat(self.number, REPORT, **named))
            self.commands[kind] = calls.commands[0]
        command, report = self.commands[kind], self.report()
        return tuple(report if part is REPORT else part for part in command)

    def read_command(self) -> Command:
        """Return the command that reads the desired state."""
        if "read" not in self.commands:
            calls = CallRecorder(DESIRED)
            calls.record(self.heartbeat_broker, lambda broker: broker.read_desired(self.number))
            self.commands["read"] = calls.commands[0]
        return self.commands["read"]


class CallRecorder:
    """A stand-in for a Redis client. It records the calls of several brokers and sends them in one pipeline."""

    def __init__(self, placeholder: list[Any]) -> None:
        """`placeholder` is the reply that a broker gets while its call is only recorded."""
        self.commands: list[Command] = []
        self._placeholder = placeholder

    def execute_command(self, *command: Any) -> list[Any]:
        """Record a call and return the placeholder."""
        self.commands.append(command)
        return self._placeholder

    def record(self, broker: Broker, call: Callable[[Broker], object]) -> None:
        """Record the commands that `call` sends by this broker."""
        client, broker.client = broker.client, self
        try:
            call(broker)
        finally:
            broker.client = client


def send_all(client: Any, commands: Sequence[Command]) -> list[Any]:
    """Send all commands in one round trip. Return the replies."""
    if not commands:
        return []
    replies = send_together(client, commands, lambda: False)
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return replies


class Fleet:
    """The agents of one process."""

    def __init__(
        self,
        url: str,
        namespace: str,
        numbers: range,
        channels: int,
        task_s: float,
        batch: int,
        results: bool,
        eager: bool,
    ) -> None:
        self._pipeline_s, self._pipeline_devices = (0.0, 1) if eager else (PIPELINE_S, PIPELINE_DEVICES)
        self._task_s, self._batch, self._results = task_s, batch, results
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Device]] = []
        self._idle: dict[int, deque[tuple[float, Device]]] = {channel: deque() for channel in range(channels)}
        """By channel: the idle agents, each with the time (monotonic) at which its wait for a token ends."""
        self._url = url
        self._where, identity = redact(url), this_process()
        self._retry = RetryPolicy()
        task_client, heartbeat_client = connect(url), connect(url)
        self._task_client, self._heartbeat_client = task_client, heartbeat_client
        now = time.monotonic()
        self._devices: dict[int, Device] = {}
        for number in numbers:
            channel = number % channels
            actor = Actor.agent()
            task_broker = Broker(task_client, namespace, actor, address=self._where, retry=self._retry)
            task_broker.join(number, (channel,), identity)
            heartbeat_broker = Broker(
                heartbeat_client, namespace, actor, address=self._where, retry=self._retry
            )
            due = now + random.random() * HEARTBEAT_S
            self._devices[number] = Device(number, channel, task_broker, heartbeat_broker, due)
        self._tokens = {task_broker.keys.device_token(n).encode(): d for n, d in self._devices.items()}
        self._channel_keys = [task_broker.keys.channel(channel).token for channel in range(channels)]

    def run(self) -> None:
        """Run until the process is killed."""
        for target in (self._run_tasks, *(lambda c=c: self._wait_for_tasks(c) for c in self._idle)):
            threading.Thread(target=target, daemon=True).start()
        self._heartbeat_loop()

    def _heartbeat_loop(self) -> None:
        client = connect(self._url, blocking=True)
        self._send_heartbeats(list(self._devices.values()))
        names: list[Any] = list(self._tokens)
        while True:
            now = time.monotonic()
            due = [device for device in self._devices.values() if device.heartbeat_due <= now]
            self._send_heartbeats(due)
            next_due = min(device.heartbeat_due for device in self._devices.values()) + self._pipeline_s
            wait = max(0.001, next_due - time.monotonic())
            try:
                woken = self._wait_for_device_tokens(client, names, wait)
            except (RedisError, OSError):
                time.sleep(min(wait, RETRY_S))
            else:
                self._reconcile(woken)

    def _wait_for_device_tokens(self, client: Any, names: list[Any], wait: float) -> list[Device]:
        """Wait at most `wait` seconds for device tokens. Return the devices that got one."""
        (found,) = send_all(client, [("BLPOP", *names, f"{wait:.3f}")])
        if not found:
            return []
        popped = send_all(client, [("LPOP", name) for name in names])
        more = [self._tokens[name] for name, value in zip(names, popped, strict=True) if value]
        return [self._tokens[found[0]], *more]

    def _send(self, commands: Sequence[Command], client: Any) -> list[Any]:
        """Send commands and return the replies. Waits for a Redis that is away."""
        return self._retry(lambda: self._send_once(commands, client))

    def _send_once(self, commands: Sequence[Command], client: Any) -> list[Any]:
        """Send commands and return the replies. Raises `RedisUnavailable`.

        A restarted Redis does not know the scripts, and these commands cannot fall back to EVAL, so they are loaded.
        """
        try:
            try:
                return send_all(client, commands)
            except NoScriptError:
                for name in ("read_desired", "heartbeat", "settle_and_claim"):
                    client.script_load(script(name).source)
                return send_all(client, commands)
        except (RedisError, OSError) as error:
            raise translate(error, self._where) from error

    def _reconcile(self, devices: list[Device]) -> None:
        """Read the desired states of some devices and follow them. Devices that changed report it."""
        replies = self._send([device.read_command() for device in devices], self._heartbeat_client)
        changed = [
            device for device, reply in zip(devices, replies, strict=True) if self._follow(device, reply)
        ]
        self._send_changes(changed)

    def _send_changes(self, changed: list[Device]) -> None:
        """Report changed states, then let the agents claim or hand back. All agents share this thread's CPU."""
        self._send_heartbeats(changed)
        for device in changed:
            self._push(time.monotonic(), device)

    def _follow(self, device: Device, desired: list[bytes]) -> bool:
        """Follow a desired state. Return whether the device's state has changed."""
        paused, answer = desired[0] != b"running", desired[2].decode()
        changed = paused != device.paused
        device.paused = paused
        if answer and answer != device.detect_answered:
            device.detect_answered = answer
            device.heartbeat_broker.answer_detect(answer, wire.pack([device.number, device.state]))
        return changed

    def _send_heartbeats(self, devices: list[Device]) -> None:
        """Send a heartbeat of each device in one round trip, and follow the desired states that they return."""
        if not devices:
            return
        commands = [device.heartbeat_command() for device in devices]
        try:
            replies = self._send_once(commands, self._heartbeat_client)
        except RedisUnavailable:
            # Each agent tries again when it would do so alone, so that not all of them come at once.
            for device in devices:
                device.tries, device.announced = device.tries + 1, ""
                device.heartbeat_due = time.monotonic() + pause_s(device.tries, device.pace())
            return
        now, changed = time.monotonic(), []
        for device, reply in zip(devices, replies, strict=True):
            if reply[0] == b"lost":
                sys.exit(f"the lease of Device{device.number} expired")
            device.tries = 0
            device.pace.renewed(int(reply[2]) / 1000)
            device.rest_s = max(HEARTBEAT_S, min(REST_INTERVAL_S, int(reply[2]) / 1000 / REST_LEASE_SHARE))
            sweep_due = reply[1] == b"1"
            device.heartbeat_due = now + (HEARTBEAT_S if sweep_due else device.beat_s)
            if self._follow(device, reply[4:]):
                changed.append(device)
            if sweep_due:
                recover_and_promote(device.heartbeat_broker, device.number, int(reply[3]))
        self._send_changes(changed)

    def _push(self, due: float, device: Device) -> None:
        with self._wake:
            heapq.heappush(self._due, (due, device.number, device))
            self._wake.notify()

    def _run_tasks(self) -> None:
        try:
            self._task_loop()
        except MutiTaskError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)

    def _task_loop(self) -> None:
        while True:
            with self._wake:
                while (wait := self._due[0][0] - time.monotonic() if self._due else None) is None or wait > 0:
                    self._wake.wait(wait)
            # Wait a little longer, so that several devices are due and share a round trip.
            time.sleep(max(0.0, wait + self._pipeline_s / 2))
            now, due = time.monotonic(), []
            with self._wake:
                while self._due and self._due[0][0] <= now and len(due) < self._pipeline_devices:
                    due.append(heapq.heappop(self._due)[2])
            self._settle_and_claim(list(dict.fromkeys(due)), now)

    def _settle_and_claim(self, devices: list[Device], now: float) -> None:
        calls, asking = CallRecorder([b"ok", b"0", b"0", b"", b"0", [], b"0", b"0"]), []
        for device in devices:
            finished = min(len(device.items), int((now - device.claimed_at) / self._task_s + 0.01))
            if finished < len(device.items) and not device.paused:
                continue  # Woken by a state change during a batch. Another entry of the heap stands for its end.
            settlements = self._settlements(device, finished)
            if device.paused and not settlements:
                continue
            want = 0 if device.paused else self._batch
            calls.record(
                device.task_broker,
                lambda broker, d=device, s=settlements, w=want: broker.settle_and_claim(d.channel, s, w),
            )
            asking.append((device, finished))
        for (device, finished), reply in zip(
            asking, self._send(calls.commands, self._task_client), strict=True
        ):
            if reply[0] != b"ok":
                raise LeaseLost(f"the lease of Device{device.number} expired")
            items = list_item.unpack_items(reply[3])
            device.done += finished
            device.items, device.claim, device.claimed_at = items, int(reply[4]), now
            if items:
                self._push(now + len(items) * self._task_s, device)
                device.heartbeat_due = min(device.heartbeat_due, now + HEARTBEAT_S)
            elif not device.paused:
                self._idle[device.channel].append((now + REST_BLOCK_S, device))

    def _settlements(self, device: Device, finished: int) -> list[Settlement]:
        """Return the settlements of a batch: the first `finished` items are done, the others are handed back."""
        settlements: list[Settlement] = []
        for place, item in enumerate(device.items, 1):
            if place > finished:
                settlements.append((device.claim, place, b"b", b""))
            elif self._results:
                settlements.append((device.claim, place, b"d", _result(device.number, item)))
            else:
                settlements.append((device.claim, place, b"s", b""))
        return settlements

    def _wait_for_tasks(self, channel: int) -> None:
        """Wait for tasks on behalf of the idle agents of a channel. A token wakes one of them."""
        client = connect(self._url, blocking=True, block_s=REST_BLOCK_S)
        idle = self._idle[channel]
        while True:
            if not idle:
                time.sleep(0.005)
                continue
            try:
                wait = max(0.001, min(idle[0][0] - time.monotonic(), REST_BLOCK_S))
                token = client.blpop([self._channel_keys[channel]], timeout=wait)
            except (RedisError, OSError):
                time.sleep(RETRY_S)
                continue
            if token and idle:
                self._push(time.monotonic(), idle.popleft()[1])
            while idle and idle[0][0] <= time.monotonic():
                self._push(time.monotonic(), idle.popleft()[1])


def _result(device: int, item: bytes) -> bytes:
    """Return an entry of the result channel. The task is its own result."""
    task = wire.unpack(item[list_item.HEADER_BYTES :])
    return item[: list_item.HEADER_BYTES] + wire.pack([device, int(time.time() * 1000), task])


def lower_priority() -> None:
    """Lower the priority of this process, because real agents run on other machines.

    If the kernel schedules by session, the niceness of a process has no effect. Only an idle control group yields the
    CPU at once.
    """
    os.nice(19)
    with contextlib.suppress(OSError):
        Path("/proc/self/autogroup").write_text("19")
    for group in IDLE_GROUPS:
        with contextlib.suppress(OSError):
            group.mkdir(exist_ok=True)
            (group / "cpu.idle").write_text("1")
            (group / "cgroup.procs").write_text(str(os.getpid()))
            return


def remove_groups() -> None:
    """Remove the control groups that have no processes."""
    for group in IDLE_GROUPS:
        with contextlib.suppress(OSError):
            group.rmdir()


def main() -> None:
    """Simulate until the process is killed."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--name", required=True)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--channels", type=int, default=1)
    options.add_argument("--task-ms", type=float, default=20.0)
    options.add_argument("--batch", type=int, default=50)
    options.add_argument("--results", action="store_true", help="save each task as its own result")
    options.add_argument(
        "--at", type=float, default=0.0, help="join at this time, in seconds since the epoch"
    )
    options.add_argument(
        "--eager",
        action="store_true",
        help="keep the normal priority, because the agents are what is measured",
    )
    chosen = options.parse_args()
    if not chosen.eager:
        lower_priority()
    numbers = range(chosen.first, chosen.first + chosen.count)
    url = os.environ[REDIS_URL_VARIABLE]
    time.sleep(max(0.0, chosen.at - time.time()))
    try:
        fleet = Fleet(
            url,
            chosen.name,
            numbers,
            chosen.channels,
            chosen.task_ms / 1000,
            chosen.batch,
            chosen.results,
            chosen.eager,
        )
        print("joined", flush=True)
        fleet.run()
    except MutiTaskError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
