"""Carries commands out: writes wishes (law 4), moves failed tasks, and tells in one sentence what came of it."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

from redis.exceptions import RedisError

from mutitask_tui.server.commands import Command, CommandError, Outcome
from mutitask_tui.server.exports import export_failed
from mutitask_tui.server.reading import Reader
from worker_agent.protocol import wire
from worker_agent.protocol.actor import Actor
from worker_agent.protocol.broker import Broker
from worker_agent.protocol.connect import connect, translate
from worker_agent.protocol.errors import Changed, LeaseLost, MutiTaskError, Unpackable
from worker_agent.protocol.identity import me

DETECT_WAIT_S = 1.0
STOP_TTL_MS = 86_400_000
DETECT_TTL_MS = 60_000

T = TypeVar("T")


class Commander:
    """Every command of the registry as a method of its name.

    They raise `CommandError`, or `RedisUnavailable` / `RedisRefused` where Redis is away or says no.
    """

    def __init__(self, url: str, name: str, who: str = "") -> None:
        identity = me()
        self.who = who or f"{identity.host}:{identity.pid}"
        self.reader = Reader(url, name)
        self._url = url
        self._client = connect(url)
        self._broker: Broker | None = None
        self._lock = threading.RLock()

    def run(self, command: Command, values: Sequence[Any]) -> Outcome:
        """Carry a command out and tell the event log."""
        outcome = command(self, *values)
        if not command.name.startswith(("detect", "export")):
            words = [str(value) if not isinstance(value, dict | list) else "..." for value in values]
            # `exit` may take the embedded Valkey away before this line; what was done is done all the same.
            with contextlib.suppress(MutiTaskError):
                self._broker_call(
                    lambda b: b.log("info", self.who, " ".join([command.name, *words, "-", outcome.text]))
                )
        return outcome

    def _broker_call(self, call: Callable[[Broker], T]) -> T:
        """What `call` returns; a record that ran out (an hour without a command) is made anew."""
        with self._lock:
            if self._broker is None:
                self._broker = self._enter()
            try:
                return call(self._broker)
            except LeaseLost:
                self._broker = self._enter()
                return call(self._broker)

    def _enter(self) -> Broker:
        broker = Broker(self._client, self.reader.name, Actor.passing(), where=self.reader.where)
        broker.enter()
        return broker

    # -- devices -------------------------------------------------------------------------------------

    def detect_all(self) -> Outcome:
        """Ask every device of the grid."""
        return self._detect([device.id for device in self.reader.snapshot().devices])

    def detect_one(self, device: int) -> Outcome:
        """Ask one device."""
        return self._detect([self._known_device(device)])

    def _detect(self, devices: list[int]) -> Outcome:
        if not devices:
            raise CommandError("there is no device yet: add_device makes one, or start a worker-agent")
        detect = f"{time.time_ns():x}"
        began = time.perf_counter()
        self._broker_call(
            lambda b: b.wish(
                b.keys.wish_detect,
                {str(device): detect for device in devices},
                tokens=[b.keys.device_token(device) for device in devices],
                ttl_ms=DETECT_TTL_MS,
            )
        )
        answers = self._answers(detect, set(devices), began)
        found = {
            str(device): {"state": answers[device][0], "ms": answers[device][1]}
            if device in answers
            else {"state": "offline", "ms": None}
            for device in devices
        }
        lines = [
            f"Device{device} {answers[device][0]}, {answers[device][1]:.1f} ms" if device in answers
            else f"Device{device} offline (no answer in {DETECT_WAIT_S:g} s)"
            for device in devices
        ]  # fmt: skip
        if len(devices) > 4:
            states = [entry["state"] for entry in found.values()]
            counted = [f"{states.count(state)} {state}" for state in ("running", "paused", "offline")]
            slowest = max((ms for _, ms in answers.values()), default=0.0)
            silent = [f"Device{device}" for device in devices if device not in answers]
            text = f"{', '.join(counted)}; slowest answer {slowest:.1f} ms"
            if silent:
                more = f" and {len(silent) - 8} more" if len(silent) > 8 else ""
                text += f"; no answer: {', '.join(silent[:8])}{more}"
            return Outcome(text, ok=True, data={"devices": found})
        return Outcome("; ".join(lines), data={"devices": found})

    def _answers(self, detect: str, wanted: set[int], began: float) -> dict[int, tuple[str, float]]:
        """The answers that came in the wait time: state and round trip in ms."""
        key = self.reader.keys.answers(detect)
        answers: dict[int, tuple[str, float]] = {}
        with connect(self._url, blocking=True) as client:
            while wanted - answers.keys():
                left = began + DETECT_WAIT_S - time.perf_counter()
                if left <= 0:
                    break
                try:
                    answer = client.execute_command("BLPOP", key, f"{left:.3f}")
                except (RedisError, OSError) as error:
                    raise translate(error, self.reader.where) from error
                if answer is None:
                    break
                try:
                    device, state = wire.unpack(answer[1])
                except (wire.Undecodable, ValueError, TypeError):
                    continue
                answers.setdefault(device, (str(state), (time.perf_counter() - began) * 1000))
        return answers

    def pause_all(self) -> Outcome:
        """Every device stops taking tasks, those that come later too."""
        return self._wish_all("paused")

    def start_all(self) -> Outcome:
        """Every device takes tasks, those that come later too."""
        return self._wish_all("running")

    def _wish_all(self, state: Literal["running", "paused"]) -> Outcome:
        numbers = self._device_numbers()
        self._broker_call(
            lambda b: b.wish(
                b.keys.wish_devices,
                {"default": state},
                tokens=[b.keys.device_token(n) for n in numbers],
                reset=True,
            )
        )
        verb = "pause" if state == "paused" else "start"
        return Outcome(
            f"asked {_devices(len(numbers))} to {verb}", data={"devices": numbers, "wished": state}
        )

    def pause_one(self, device: int) -> Outcome:
        """One device stops taking tasks."""
        return self._wish_one(device, "paused")

    def start_one(self, device: int) -> Outcome:
        """One device takes tasks."""
        return self._wish_one(device, "running")

    def _wish_one(self, device: int, state: Literal["running", "paused"]) -> Outcome:
        self._known_device(device)
        self._broker_call(
            lambda b: b.wish(b.keys.wish_devices, {str(device): state}, tokens=[b.keys.device_token(device)])
        )
        verb = "pause" if state == "paused" else "start"
        return Outcome(f"asked Device{device} to {verb}", data={"devices": [device], "wished": state})

    def stop_all(self) -> Outcome:
        """Every agent finishes what runs, hands back the rest and exits."""
        return self._stop(self._agents())

    def stop_one(self, device: int) -> Outcome:
        """One agent finishes what runs, hands back the rest and exits."""
        actor = self._agents().get(device)
        if actor is None:
            raise CommandError(f"Device{device} has no agent that could stop: it is offline")
        return self._stop({device: actor})

    def _stop(self, agents: dict[int, str]) -> Outcome:
        if agents:
            self._broker_call(
                lambda b: b.wish(
                    b.keys.wish_stop,
                    dict.fromkeys(agents.values(), "1"),
                    tokens=[b.keys.device_token(device) for device in agents],
                    ttl_ms=STOP_TTL_MS,
                )
            )
        return Outcome(f"asked {_agents_text(len(agents))} to stop", data={"devices": sorted(agents)})

    def add_device(self) -> Outcome:
        """One more device in the grid."""
        count = self._broker_call(lambda b: b.step_devices(1))
        return Outcome(f"Device{count - 1} added; {_devices(count)} now", data={"devices": count})

    def del_device(self) -> Outcome:
        """One device less in the grid."""
        snapshot = self.reader.snapshot()
        if not snapshot.devices:
            raise CommandError("there is no device left to take away")
        last = snapshot.devices[-1]
        if last.state != "offline":
            raise CommandError(f"Device{last.id} has an agent; `stop_one {last.id}` comes first")
        try:
            count = self._broker_call(lambda b: b.step_devices(-1))
        except ValueError:
            raise CommandError("there is no device left to take away") from None
        return Outcome(f"Device{last.id} taken away; {_devices(count)} now", data={"devices": count})

    def purge_device(self, device: int) -> Outcome:
        """Forget an offline device's last report and wish."""
        self._known_device(device)
        try:
            known = self._broker_call(lambda b: b.purge(device))
        except Changed:
            raise CommandError(f"Device{device} has an agent; only an offline device can be purged") from None
        text = f"Device{device} forgotten" if known else f"Device{device} had never reported"
        return Outcome(text, data={"device": device, "purged": known})

    # -- feeding -------------------------------------------------------------------------------------

    def pause_allot(self) -> Outcome:
        """Stop feeding; devices go on."""
        if self._allot_wish() == "ended":
            raise CommandError("feeding was ended for good by stop_allot: only a new run feeds again")
        self._wish_allot("paused")
        return Outcome("feeding paused; devices go on with what waits", data={"allotting": False})

    def start_allot(self) -> Outcome:
        """Resume feeding."""
        if self._allot_wish() == "ended":
            raise CommandError("feeding was ended for good by stop_allot: only a new run feeds again")
        self._wish_allot("")
        return Outcome("feeding resumed", data={"allotting": True})

    def stop_allot(self) -> Outcome:
        """End feeding for good."""
        self._wish_allot("ended")
        return Outcome("feeding ended for good; what waits runs out", data={"allotting": False})

    def _allot_wish(self) -> str:
        wish: bytes | None = self._broker_call(lambda b: b.ask("HGET", b.keys.wish_server, "allot"))
        return (wish or b"").decode()

    def _wish_allot(self, value: str) -> None:
        self._broker_call(
            lambda b: b.wish(b.keys.wish_server, {"allot": value}, tokens=[b.keys.server_token])
        )

    def reset_max_task(self, capacity: int, channel: int | None = None) -> Outcome:
        """Set the capacity of one channel, or of all."""
        channels = self._channels(channel)
        for number in channels:
            self._broker_call(lambda b, number=number: b.set_capacity(number, capacity))  # type: ignore[misc]
        return Outcome(
            f"capacity of {_channels_text(channels)} is {capacity:,} now",
            data={"capacity": capacity, "channels": channels},
        )

    def pause_channel(self, channel: int) -> Outcome:
        """No device claims from the channel."""
        self._channels(channel)
        self._broker_call(lambda b: b.wish(b.keys.wish_channels, {str(channel): "paused"}))
        return Outcome(f"TaskChannel{channel} paused: nothing is claimed from it", data={"channel": channel})

    def start_channel(self, channel: int) -> Outcome:
        """Devices claim from the channel again."""
        self._channels(channel)
        self._broker_call(
            lambda b: b.wish(b.keys.wish_channels, {str(channel): ""}, tokens=[b.keys.channel(channel).token])
        )
        return Outcome(f"TaskChannel{channel} started", data={"channel": channel})

    def skip_item(self, channel: int) -> Outcome:
        """Pass over the item at which the feed stopped."""
        self._channels(channel)
        books = self.reader.keys.channel(channel).books
        cursor, halted = self._broker_call(lambda b: b.ask("HMGET", books, "cursor", "halted"))
        if not halted:
            raise CommandError(
                f"TaskChannel{channel}'s feed has not stopped at an item: there is none to skip"
            )
        number = int(cursor or 0)
        self._broker_call(
            lambda b: b.wish(
                b.keys.wish_channels, {f"skip:{channel}": str(number)}, tokens=[b.keys.server_token]
            )
        )
        return Outcome(
            f"asked the server to pass over item {number} of TaskChannel{channel}", data={"item": number}
        )

    # -- failed tasks --------------------------------------------------------------------------------

    def detect_fail_channel(self) -> Outcome:
        """Count the failed tasks of each channel."""
        counts = {channel.id: channel.failed for channel in self.reader.snapshot().channels}
        text = "; ".join(f"FailChannel{number} {count:,} failed" for number, count in counts.items())
        return Outcome(text or "no channels", data={"failed": {str(n): count for n, count in counts.items()}})

    def reload_all_fail_tasks(self, channel: int | None = None) -> Outcome:
        """Bring failed tasks back, with fresh retries."""
        channels = self._channels(channel)
        moved = sum(self._broker_call(lambda b, n=number: b.reload_all(n)) for number in channels)  # type: ignore[misc]
        text = f"{moved:,} failed tasks of {_channels_text(channels)} went back"
        return Outcome(text, data={"reloaded": moved, "channels": channels})

    def reload_one_fail_task(self, channel: int, id_: str) -> Outcome:
        """Bring one failed task back, with fresh retries."""
        self._channels(channel)
        full = self.reader.full_id(channel, id_)
        if self._broker_call(lambda b: b.reload(channel, [full])):
            return Outcome(f"task {id_} went back to TaskChannel{channel}", data={"reloaded": 1})
        record = self.reader.failed_record(channel, full)
        if record is not None and record.view.stage == "foreign":
            raise CommandError(f"task {id_} is foreign: it has no header to run it by; edit or delete it")
        raise _no_longer_there(channel, id_)

    def delete_one_fail_task(self, channel: int, id_: str) -> Outcome:
        """Drop one failed task for good."""
        self._channels(channel)
        full = self.reader.full_id(channel, id_)
        if not self._broker_call(lambda b: b.delete(channel, [full])):
            raise _no_longer_there(channel, id_)
        return Outcome(f"task {id_} deleted from FailChannel{channel}", data={"deleted": 1})

    def edit_fail_task(self, channel: int, id_: str, task: Any) -> Outcome:
        """Give a failed task another payload and bring it back."""
        self._channels(channel)
        full = self.reader.full_id(channel, id_)
        try:
            body = wire.pack(task)
        except Unpackable as error:
            raise CommandError(f"the new payload is {error}") from None
        if not self._broker_call(lambda b: b.edit(channel, full, body)):
            raise _no_longer_there(channel, id_)
        return Outcome(f"task {id_} edited; it went back to TaskChannel{channel}", data={"edited": 1})

    def export_fail_tasks(self, channel: int | None = None) -> Outcome:
        """Write failed tasks to a file in the current directory."""
        self._channels(channel)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        part = "" if channel is None else f"-{channel}"
        path = Path.cwd() / f"fail-tasks-{self.reader.name}{part}-{stamp}.jsonl"
        try:
            count = export_failed(self.reader, channel, path)
        except OSError as error:
            raise CommandError(f"cannot write {path}: {error.strerror}") from None
        return Outcome(f"{count:,} failed tasks written to {path}", data={"count": count, "path": str(path)})

    # -- the end -------------------------------------------------------------------------------------

    def exit(self) -> Outcome:
        """Stop all devices, then the server; what waits stays in Redis."""
        agents = self._agents()
        self._stop(agents)
        server: bytes | None = self._broker_call(lambda b: b.ask("HGET", b.keys.meta, "server"))
        if server is None:
            return Outcome(
                f"asked {_agents_text(len(agents))} to stop; there is no server to close",
                data={"server": False},
            )
        self._broker_call(
            lambda b: b.wish(b.keys.wish_server, {"quit": server.decode()}, tokens=[b.keys.server_token])
        )
        return Outcome(
            f"asked {_agents_text(len(agents))} to stop and the server to close behind them",
            data={"server": True},
        )

    # -- helpers -------------------------------------------------------------------------------------

    def _device_numbers(self) -> list[int]:
        return [device.id for device in self.reader.snapshot().devices]

    def _known_device(self, device: int) -> int:
        numbers = self._device_numbers()
        if device not in numbers:
            span = f"Device0 to Device{numbers[-1]}" if numbers else "none yet"
            raise CommandError(f"there is no Device{device}; there is {span}")
        return device

    def _agents(self) -> dict[int, str]:
        return {
            device.id: device.actor for device in self.reader.snapshot().devices if device.state != "offline"
        }

    def _channels(self, channel: int | None) -> list[int]:
        count = self.reader.channels()
        if channel is None:
            return list(range(count))
        if channel >= count:
            raise CommandError(
                f"there is no TaskChannel{channel}; there is TaskChannel0 to TaskChannel{count - 1}"
            )
        return [channel]


def _no_longer_there(channel: int, id_: str) -> CommandError:
    return CommandError(
        f"task {id_} is no longer there in FailChannel{channel}: it was reloaded or deleted, or never failed"
    )


def _devices(count: int) -> str:
    return "1 device" if count == 1 else f"{count} devices"


def _agents_text(count: int) -> str:
    return "1 agent" if count == 1 else f"{count} agents"


def _channels_text(channels: list[int]) -> str:
    names = ", ".join(f"TaskChannel{number}" for number in channels[:4])
    return names if len(channels) <= 4 else f"all {len(channels)} channels"
