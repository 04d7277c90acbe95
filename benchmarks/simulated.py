"""Many simulated agents in one process: `python -m benchmarks.simulated --first 0 --count 250 --name NS`.

Each is an actor of its own that speaks the real protocol: it joins its device, reports every second, blocks on its
device's token, looks at its wishes and obeys them, settles and claims in one call. Only the tasks are simulated: a
batch takes `--task-ms` a task of waiting, and results in the tasks themselves with `--results`, else in nothing. One
thread obeys and reports, one settles and claims, one waits for tasks; a real agent has these to itself. While Redis is
away they wait, as real ones do. The address comes from MUTITASK_REDIS_URL.
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
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from redis.exceptions import NoScriptError, RedisError

from worker_agent.execution.in_flight import text_of
from worker_agent.protocol import wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connection.address import REDIS_URL_VARIABLE, redact
from worker_agent.protocol.connection.connect import connect
from worker_agent.protocol.connection.redis_errors import translate
from worker_agent.protocol.connection.retry import RetryPolicy
from worker_agent.protocol.errors import LeaseLost, MutiTaskError
from worker_agent.protocol.identity import this_process
from worker_agent.protocol.recovery import recover_and_promote
from worker_agent.protocol.scripts import script
from worker_agent.protocol.settlements import Settlement

REPORT_S = 1.0
MOST_TOGETHER = 8
TOGETHER_S = 0.02
"""Reports that are due within this time go in one trip: real agents are many, and their machines are others."""
NOTHING_S = 1.0
"""How long a device that found nothing waits if no token comes."""
AWAY_S = 0.2
"""How long a waiter rests while Redis is away."""
IDLE_GROUPS = tuple(Path(root, "mutitask-simulated") for root in ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup"))
"""Control groups, of the first or the second version, that get only what others leave; root may make them."""


@dataclass(slots=True, eq=False)
class Device:
    """One simulated agent."""

    number: int
    channel: int
    work: Broker
    reports: Broker
    report_due: float
    paused: bool = True
    items: list[bytes] = field(default_factory=list)
    claim: int = 0
    begun: float = 0.0
    done: int = 0
    answered: str = ""
    since_ms: int = field(default_factory=lambda: int(time.time() * 1000))

    @property
    def state(self) -> Literal["running", "paused"]:
        """What it reports."""
        return "paused" if self.paused else "running"

    def report(self) -> bytes:
        """What a real agent's report holds."""
        return wire.pack(
            {
                "host": f"sim-{self.number // 50:02}", "version": "simulated", "python": "3", "concurrency": 1,
                "channel": self.channel, "state": self.state,
                "pid": 10_000 + self.number, "since_ms": self.since_ms, "running": min(1, len(self.items)),
                "tasks": [[text_of(self.items[0]), time.monotonic() - self.begun]] if self.items else [],
                "done": self.done, "failed": 0,
            }
        )  # fmt: skip


class CallRecorder:
    """A client that only notes what brokers ask of it, and asks it all in one pipeline."""

    def __init__(self, meanwhile: list[Any]) -> None:
        self._calls: list[tuple[Any, ...]] = []
        self._meanwhile = meanwhile

    def execute_command(self, *command: Any) -> list[Any]:
        """Note a call; what it returns is thrown away."""
        self._calls.append(command)
        return self._meanwhile

    def by(self, broker: Broker, call: Callable[[Broker], object]) -> None:
        """Note what this call asks."""
        client, broker.client = broker.client, self
        try:
            call(broker)
        finally:
            broker.client = client

    def send(self, client: Any) -> list[Any]:
        """The answers."""
        if not self._calls:
            return []
        with client.pipeline(transaction=False) as pipe:
            for command in self._calls:
                pipe.execute_command(*command)
            answers: list[Any] = pipe.execute()
            return answers


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
        self._together_s, self._most_together = (0.0, 1) if eager else (TOGETHER_S, MOST_TOGETHER)
        self._task_s, self._batch, self._results = task_s, batch, results
        self._wake = threading.Condition()
        self._due: list[tuple[float, int, Device]] = []
        self._idle: dict[int, deque[Device]] = {channel: deque() for channel in range(channels)}
        self._url = url
        self._where, identity = redact(url), this_process()
        self._retry = RetryPolicy()
        working, reporting = connect(url), connect(url)
        self._working, self._reporting = working, reporting
        now = time.monotonic()
        self._devices: dict[int, Device] = {}
        for number in numbers:
            channel = number % channels
            actor = Actor.agent(channel)
            work = Broker(working, namespace, actor, address=self._where, retry=self._retry)
            work.join(number, channel, identity)
            reports = Broker(reporting, namespace, actor, address=self._where, retry=self._retry)
            due = now + random.random() * REPORT_S
            self._devices[number] = Device(number, channel, work, reports, due)
        self._tokens = {work.keys.device_token(n).encode(): d for n, d in self._devices.items()}
        self._channel_keys = [work.keys.channel(channel).token for channel in range(channels)]

    def run(self) -> None:
        """Until the process is ended."""
        for target in (self._work, *(lambda c=c: self._wait(c) for c in self._idle)):
            threading.Thread(target=target, daemon=True).start()
        self._obey()

    # -- wishes and reports --------------------------------------------------------------------------

    def _obey(self) -> None:
        client = connect(self._url, blocking=True)
        self._look(list(self._devices.values()), report=True)
        names: list[Any] = list(self._tokens)
        while True:
            now = time.monotonic()
            late = [device for device in self._devices.values() if device.report_due <= now]
            for device in late:
                device.report_due += REPORT_S
            self._look(late, report=True)
            next_due = min(device.report_due for device in self._devices.values()) + self._together_s
            wait = max(0.001, next_due - time.monotonic())
            try:
                woken = self._woken(client, names, wait)
            except (RedisError, OSError):
                time.sleep(min(wait, AWAY_S))
            else:
                self._look(woken)

    def _woken(self, client: Any, names: list[Any], wait: float) -> list[Device]:
        """The devices whose token came within `wait` seconds."""
        found = client.blpop(names, timeout=wait)
        if not found:
            return []
        with client.pipeline(transaction=False) as pipe:
            for token in names:
                pipe.lpop(token)
            more = [self._tokens[name] for name, value in zip(names, pipe.execute(), strict=True) if value]
        return [self._tokens[found[0]], *more]

    def _send(self, calls: CallRecorder, client: Any) -> list[Any]:
        """The answers; a started Redis knows no scripts, and a pipeline cannot fall back to the whole script."""

        def once() -> list[Any]:
            try:
                try:
                    return calls.send(client)
                except NoScriptError:
                    for name in ("read_desired", "heartbeat", "settle_and_claim"):
                        client.script_load(script(name).source)
                    return calls.send(client)
            except (RedisError, OSError) as error:
                raise translate(error, self._where) from error

        return self._retry(once)

    def _look(self, devices: list[Device], *, report: bool = False) -> None:
        """Look at the wishes of some, obey, and report: each kind of call in one pipeline for all of them."""
        calls = CallRecorder([b"", b"", b""])
        for device in devices:
            calls.by(device.reports, lambda broker, d=device: broker.read_desired(d.number))
        reporting = []
        for device, (desired, _, detect) in zip(devices, self._send(calls, self._reporting), strict=True):
            paused, answer = desired != b"running", detect.decode()
            changed = paused != device.paused
            if changed:
                device.paused = paused
                self._push(time.monotonic(), device)
            if answer and answer != device.answered:
                device.answered = answer
                device.reports.answer_detect(answer, wire.pack([device.number, device.state]))
            if changed or report:
                reporting.append(device)
        calls = CallRecorder([b"ok", b"0", b"0", b"0", b"0"])
        for device in reporting:
            calls.by(
                device.reports,
                lambda broker, d=device: broker.heartbeat(d.number, d.channel, d.state, d.report()),
            )
        answers = self._send(calls, self._reporting)
        for device, told in zip(reporting, answers, strict=True):
            if told[0] == b"lost":
                sys.exit(f"Device{device.number} was declared dead")
            if told[1] == b"1":
                recover_and_promote(device.reports, device.number)

    # -- tasks ---------------------------------------------------------------------------------------

    def _push(self, due: float, device: Device) -> None:
        with self._wake:
            heapq.heappush(self._due, (due, device.number, device))
            self._wake.notify()

    def _work(self) -> None:
        try:
            self._work_on()
        except MutiTaskError as error:
            print(error, file=sys.stderr, flush=True)
            os._exit(1)

    def _work_on(self) -> None:
        while True:
            with self._wake:
                while (wait := self._due[0][0] - time.monotonic() if self._due else None) is None or wait > 0:
                    self._wake.wait(wait)
            # A little later than the first of them, so that some are due together and go in one trip.
            time.sleep(max(0.0, wait + self._together_s / 2))
            now, due = time.monotonic(), []
            with self._wake:
                while self._due and self._due[0][0] <= now and len(due) < self._most_together:
                    due.append(heapq.heappop(self._due)[2])
            self._exchange(list(dict.fromkeys(due)), now)

    def _exchange(self, devices: list[Device], now: float) -> None:
        calls, asking = CallRecorder([b"ok", b"0", b"0", b"", b"0"]), []
        for device in devices:
            finished = min(len(device.items), int((now - device.begun) / self._task_s + 0.01))
            if finished < len(device.items) and not device.paused:
                continue  # Woken by a wish, in the midst of a batch: its end is on the list.
            settlements = self._settlements(device, finished)
            if device.paused and not settlements:
                continue
            want = 0 if device.paused else self._batch
            calls.by(
                device.work,
                lambda broker, d=device, s=settlements, w=want: broker.settle_and_claim(d.channel, s, w),
            )
            asking.append((device, finished))
        for (device, finished), reply in zip(asking, self._send(calls, self._working), strict=True):
            if reply[0] != b"ok":
                raise LeaseLost(f"Device{device.number} was declared dead")
            items = wire.unpack_items(reply[3])
            device.done += finished
            device.items, device.claim, device.begun = items, int(reply[4]), now
            if items:
                self._push(now + len(items) * self._task_s, device)
            elif not device.paused:
                self._idle[device.channel].append(device)

    def _settlements(self, device: Device, finished: int) -> list[Settlement]:
        """Settles what is finished and hands back the rest."""
        settlements: list[Settlement] = []
        for place, item in enumerate(device.items, 1):
            if place > finished:
                settlements.append((device.claim, place, b"b", b""))
            elif self._results:
                settlements.append((device.claim, place, b"d", _result(device.number, item)))
            else:
                settlements.append((device.claim, place, b"s", b""))
        return settlements

    def _wait(self, channel: int) -> None:
        """Wait for tasks on behalf of the idle ones; a token wakes one, which passes it on."""
        client = connect(self._url, blocking=True)
        idle = self._idle[channel]
        while True:
            if not idle:
                time.sleep(0.005)
                continue
            try:
                came = client.blpop([self._channel_keys[channel]], timeout=NOTHING_S)
            except (RedisError, OSError):
                time.sleep(AWAY_S)
                continue
            for _ in range(1 if came else len(idle)):
                self._push(time.monotonic(), idle.popleft())


def _result(device: int, item: bytes) -> bytes:
    """A result channel's line: the task is its own result."""
    task = wire.unpack(item[wire.HEADER_BYTES :])
    return item[: wire.HEADER_BYTES] + wire.pack([device, int(time.time() * 1000), task])


def lower_priority() -> None:
    """Let others run first, as real agents do by being on other machines.

    Where the kernel shares out by session, a process's own niceness counts for nothing; and only a group that is marked
    as idle gives way at once.
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
    """Take the groups away once nobody is in them."""
    for group in IDLE_GROUPS:
        with contextlib.suppress(OSError):
            group.rmdir()


def main() -> None:
    """Simulate until the process is ended."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--name", required=True)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--count", type=int, default=100)
    options.add_argument("--channels", type=int, default=1)
    options.add_argument("--task-ms", type=float, default=20.0)
    options.add_argument("--batch", type=int, default=50)
    options.add_argument("--results", action="store_true", help="keep each task as its own result")
    options.add_argument(
        "--at", type=float, default=0.0, help="join at this time, in seconds since the epoch"
    )
    options.add_argument(
        "--eager",
        action="store_true",
        help="do not give way to other processes: the agents are what is measured",
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
