"""The commands about devices and their agents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from mutitask_tui.server.commands.base import CommandGroup, agents_text, devices_text
from mutitask_tui.server.commands.registry import CommandError, Outcome, channels_argument
from mutitask_tui.server.drain import request_restart, request_stop
from mutitask_tui.server.snapshot import channel_names
from worker_agent.protocol import wire
from worker_agent.protocol.errors import ConcurrentChange
from worker_agent.protocol.served_channels import Served, served_text
from worker_agent.protocol.unpatched import time

DETECT_WAIT_S = 1.0
DETECT_TTL_MS = 60_000
MANY_DEVICES = 4
"""Above this number a detect reports counts instead of one entry for each device."""
SILENT_DEVICES_NAMED = 8

DesiredDeviceState = Literal["running", "paused"]


class DeviceCommands(CommandGroup):
    """The methods that detect, pause, start, assign, stop, restart, add and remove."""

    def detect_all(self) -> Outcome:
        """Ask every device of the grid."""
        return self.detect(self.device_numbers())

    def detect_one(self, device: int) -> Outcome:
        """Ask one device."""
        return self.detect([self.require_device(device)])

    def detect(self, devices: list[int]) -> Outcome:
        """Ask these devices now. A device that does not answer within `DETECT_WAIT_S` is reported as offline."""
        if not devices:
            raise CommandError("there is no device yet: add_device makes one, or start a worker-agent")
        detect = f"{time.time_ns():x}"
        started = time.perf_counter()
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_detect,
                {str(device): detect for device in devices},
                tokens=[b.keys.device_token(device) for device in devices],
                ttl_ms=DETECT_TTL_MS,
            )
        )
        answers = self._collect_answers(detect, set(devices), started)
        found = {
            str(device): {"state": answers[device][0], "ms": answers[device][1]}
            if device in answers
            else {"state": "offline", "ms": None}
            for device in devices
        }
        return Outcome(_detect_text(devices, answers), data={"devices": found})

    def _collect_answers(
        self, detect: str, expected: set[int], started: float
    ) -> dict[int, tuple[str, float]]:
        """Return the answers that arrive in time: device to state and round trip in ms."""
        answers: dict[int, tuple[str, float]] = {}
        wait_s = started + DETECT_WAIT_S - time.perf_counter() if expected else 0.0
        for packed in self.agents_answers(detect, wait_s):
            if (answer := parse_answer(packed)) is not None:
                device, state = answer
                answers.setdefault(device, (state, (time.perf_counter() - started) * 1000))
                if not expected - answers.keys():
                    break
        return answers

    def pause_all(self) -> Outcome:
        """Pause every device, also those that register later."""
        return self._set_desired_of_all("paused")

    def start_all(self) -> Outcome:
        """Start every device, also those that register later."""
        return self._set_desired_of_all("running")

    def _set_desired_of_all(self, state: DesiredDeviceState) -> Outcome:
        numbers = self.device_numbers()
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_devices,
                {"default": state},
                tokens=[b.keys.device_token(n) for n in numbers],
                reset=True,
            )
        )
        verb = "pause" if state == "paused" else "start"
        return Outcome(
            f"asked {devices_text(len(numbers))} to {verb}", data={"devices": numbers, "wished": state}
        )

    def pause_one(self, device: int) -> Outcome:
        """Pause one device."""
        return self.set_desired_state([self.require_device(device)], "paused")

    def start_one(self, device: int) -> Outcome:
        """Start one device."""
        return self.set_desired_state([self.require_device(device)], "running")

    def set_desired_state(self, devices: Sequence[int], state: DesiredDeviceState) -> Outcome:
        """Ask these devices to pause or to start. They must exist."""
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_devices,
                {str(device): state for device in devices},
                tokens=[b.keys.device_token(device) for device in devices],
            )
        )
        verb = "pause" if state == "paused" else "start"
        return Outcome(f"asked {_named(devices)} to {verb}", data={"devices": list(devices), "wished": state})

    def assign(self, device: int, channels: str | int | Sequence[int]) -> Outcome:
        """Set which channels a device serves: `all`, text such as `0,2`, a number, or a list of numbers."""
        return self.assign_channels([self.require_device(device)], channels_argument(channels))

    def assign_channels(self, devices: Sequence[int], served: Served) -> Outcome:
        """Ask these devices to serve these channels. The devices must exist. Raises `CommandError`."""
        numbers = self.require_served(served)
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_assignments,
                {str(device): served_text(served) for device in devices},
                tokens=[b.keys.device_token(device) for device in devices],
            )
        )
        return Outcome(
            f"asked {_named(devices)} to serve {channel_names(served)}",
            data={"devices": list(devices), "channels": list(numbers)},
        )

    def stop_all(self) -> Outcome:
        """Ask every agent to finish its running tasks, hand back the rest and exit."""
        return self.stop_agents(self.agents())

    def stop_one(self, device: int) -> Outcome:
        """Ask one agent to finish its running tasks, hand back the rest and exit."""
        actor = self.agents().get(device)
        if actor is None:
            raise CommandError(f"Device{device} has no agent that could stop: it is offline")
        return self.stop_agents({device: actor})

    def stop_agents(self, agents: Mapping[int, str]) -> Outcome:
        """Ask these agents (device to actor) to stop. Agents that were asked before hand back running tasks too."""
        asked_before = request_stop(self, agents)
        at_once = (
            f"; {agents_text(len(asked_before))} for the second time: running tasks are handed back"
            if asked_before
            else ""
        )
        return Outcome(f"asked {agents_text(len(agents))} to stop{at_once}", data={"devices": sorted(agents)})

    def restart_all(self) -> Outcome:
        """Ask every agent to finish its running tasks, hand back the rest and start anew with the present job."""
        return self.restart_agents(self.agents())

    def restart_one(self, device: int) -> Outcome:
        """Ask one agent to finish its running tasks, hand back the rest and start anew with the present job."""
        actor = self.agents().get(self.require_device(device))
        if actor is None:
            raise CommandError(f"Device{device} has no agent that could restart: it is offline")
        return self.restart_agents({device: actor})

    def restart_agents(self, agents: Mapping[int, str]) -> Outcome:
        """Ask these agents (device to actor) to restart. Raises `CommandError` if all of them were asked to stop."""
        again, stopping = request_restart(self, agents)
        if agents and len(stopping) == len(agents):
            raise CommandError(f"{agents_text(len(agents))} cannot restart: asked to stop before")
        text = f"asked {agents_text(len(agents) - len(stopping))} to restart"
        if again:
            text += f"; {agents_text(len(again))} for the second time: running tasks are handed back"
        if stopping:
            text += f"; {agents_text(len(stopping))} stop, as asked before"
        devices = sorted(device for device, actor in agents.items() if actor not in stopping)
        return Outcome(text, data={"devices": devices})

    def add_device(self) -> Outcome:
        """Add one device to the grid."""
        count = self.call(lambda b: b.add_devices(1))
        return Outcome(f"Device{count - 1} added; {devices_text(count)} now", data={"devices": count})

    def del_device(self) -> Outcome:
        """Remove the last device from the grid."""
        snapshot = self.reader.snapshot()
        if not snapshot.devices:
            raise CommandError("there is no device left to remove")
        last = snapshot.devices[-1]
        if last.state != "offline":
            raise CommandError(f"Device{last.id} has an agent; stop it first with `stop_one {last.id}`")
        try:
            count = self.call(lambda b: b.add_devices(-1))
        except ValueError:
            raise CommandError("there is no device left to remove") from None
        return Outcome(f"Device{last.id} removed; {devices_text(count)} now", data={"devices": count})

    def purge_device(self, device: int) -> Outcome:
        """Delete an offline device's last heartbeat, desired state and assigned channels."""
        self.require_device(device)
        try:
            known = self.call(lambda b: b.purge_device(device))
        except ConcurrentChange:
            raise CommandError(f"Device{device} has an agent; only an offline device can be purged") from None
        text = f"Device{device} forgotten" if known else f"Device{device} had never reported"
        return Outcome(text, data={"device": device, "purged": known})


def _named(devices: Sequence[int]) -> str:
    """Return the name of a single device, or the number of devices."""
    return f"Device{devices[0]}" if len(devices) == 1 else devices_text(len(devices))


def parse_answer(data: bytes) -> tuple[int, str] | None:
    """Return the device that answered a detect and its state, or None if the data is no such answer."""
    try:
        device, state = wire.unpack(data)
    except (wire.Undecodable, ValueError, TypeError):
        return None
    return (device, str(state)) if type(device) is int else None


def _detect_text(devices: list[int], answers: Mapping[int, tuple[str, float]]) -> str:
    """Return one entry for each device, or counts if there are many devices."""
    if len(devices) <= MANY_DEVICES:
        return "; ".join(
            f"Device{device} {answers[device][0]}, {answers[device][1]:.1f} ms" if device in answers
            else f"Device{device} offline (no answer in {DETECT_WAIT_S:g} s)"
            for device in devices
        )  # fmt: skip
    states = [answers[device][0] if device in answers else "offline" for device in devices]
    counts = [f"{states.count(state)} {state}" for state in ("running", "paused", "offline")]
    slowest = max((ms for _, ms in answers.values()), default=0.0)
    text = f"{', '.join(counts)}; slowest answer {slowest:.1f} ms"
    silent = [f"Device{device}" for device in devices if device not in answers]
    if not silent:
        return text
    unnamed = len(silent) - SILENT_DEVICES_NAMED
    more = f" and {unnamed} more" if unnamed > 0 else ""
    return f"{text}; no answer: {', '.join(silent[:SILENT_DEVICES_NAMED])}{more}"
