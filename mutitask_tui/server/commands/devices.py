"""The commands about devices and their agents."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from redis.exceptions import RedisError

from mutitask_tui.server.caller import Caller, agents_text, devices_text
from mutitask_tui.server.commands.registry import CommandError, Outcome
from worker_agent.protocol import wire
from worker_agent.protocol.connection.connect import connect, translate
from worker_agent.protocol.errors import Changed
from worker_agent.protocol.pristine import time

DETECT_WAIT_S = 1.0
DRAIN_S = 30.0
"""How long `exit` lets the agents finish what runs; then they are asked to hand it back."""
STOP_TTL_MS = 86_400_000
DETECT_TTL_MS = 60_000


class DeviceCommands(Caller):
    """Methods of the registry's names."""

    def detect_all(self) -> Outcome:
        """Ask every device of the grid."""
        return self.detect([device.id for device in self.reader.snapshot().devices])

    def detect_one(self, device: int) -> Outcome:
        """Ask one device."""
        return self.detect([self.known_device(device)])

    def detect(self, devices: list[int]) -> Outcome:
        """Ask these devices now; who does not answer in the wait time is offline."""
        if not devices:
            raise CommandError("there is no device yet: add_device makes one, or start a worker-agent")
        detect = f"{time.time_ns():x}"
        began = time.perf_counter()
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_detect,
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
        with connect(self.url, blocking=True) as client:
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
                if (told := answer_of(answer[1])) is not None:
                    device, state = told
                    answers.setdefault(device, (state, (time.perf_counter() - began) * 1000))
        return answers

    def pause_all(self) -> Outcome:
        """Every device stops taking tasks, those that come later too."""
        return self._wish_all("paused")

    def start_all(self) -> Outcome:
        """Every device takes tasks, those that come later too."""
        return self._wish_all("running")

    def _wish_all(self, state: Literal["running", "paused"]) -> Outcome:
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
        """One device stops taking tasks."""
        return self._wish_one(device, "paused")

    def start_one(self, device: int) -> Outcome:
        """One device takes tasks."""
        return self._wish_one(device, "running")

    def _wish_one(self, device: int, state: Literal["running", "paused"]) -> Outcome:
        return self.desired_devices([self.known_device(device)], state)

    def desired_devices(self, devices: Sequence[int], state: Literal["running", "paused"]) -> Outcome:
        """Ask these devices, which there are, to pause or to start."""
        self.call(
            lambda b: b.set_desired(
                b.keys.desired_devices,
                {str(device): state for device in devices},
                tokens=[b.keys.device_token(device) for device in devices],
            )
        )
        verb = "pause" if state == "paused" else "start"
        named = f"Device{devices[0]}" if len(devices) == 1 else devices_text(len(devices))
        return Outcome(f"asked {named} to {verb}", data={"devices": list(devices), "wished": state})

    def stop_all(self) -> Outcome:
        """Every agent finishes what runs, hands back the rest and exits."""
        return self.stop_agents(self.agents())

    def stop_one(self, device: int) -> Outcome:
        """One agent finishes what runs, hands back the rest and exits."""
        actor = self.agents().get(device)
        if actor is None:
            raise CommandError(f"Device{device} has no agent that could stop: it is offline")
        return self.stop_agents({device: actor})

    def stop_agents(self, agents: dict[int, str]) -> Outcome:
        """Ask these agents (device to actor) to finish what runs, hand back the rest and exit.

        Who was asked before is asked to hand back what runs too.
        """
        again = self._asked_to_stop(agents)
        if agents:
            self.call(
                lambda b: b.set_desired(
                    b.keys.desired_stop,
                    {actor: "2" if actor in again else "1" for actor in agents.values()},
                    tokens=[b.keys.device_token(device) for device in agents],
                    ttl_ms=STOP_TTL_MS,
                )
            )
        at_once = (
            f"; {agents_text(len(again))} for the second time: what runs is handed back" if again else ""
        )
        return Outcome(f"asked {agents_text(len(agents))} to stop{at_once}", data={"devices": sorted(agents)})

    def stop_latecomers(self, agents: dict[int, str]) -> None:
        """Ask those of the agents to stop that nobody has asked yet."""
        asked = self._asked_to_stop(agents)
        self.stop_agents({device: actor for device, actor in agents.items() if actor not in asked})

    def _asked_to_stop(self, agents: dict[int, str]) -> set[str]:
        actors = list(agents.values())
        if not actors:
            return set()
        found = self.call(lambda b: b.ask("HMGET", b.keys.desired_stop, *actors))
        return {actor for actor, asked in zip(actors, found, strict=True) if asked}

    def add_device(self) -> Outcome:
        """One more device in the grid."""
        count = self.call(lambda b: b.step_devices(1))
        return Outcome(f"Device{count - 1} added; {devices_text(count)} now", data={"devices": count})

    def del_device(self) -> Outcome:
        """One device less in the grid."""
        snapshot = self.reader.snapshot()
        if not snapshot.devices:
            raise CommandError("there is no device left to take away")
        last = snapshot.devices[-1]
        if last.state != "offline":
            raise CommandError(f"Device{last.id} has an agent; `stop_one {last.id}` comes first")
        try:
            count = self.call(lambda b: b.step_devices(-1))
        except ValueError:
            raise CommandError("there is no device left to take away") from None
        return Outcome(f"Device{last.id} taken away; {devices_text(count)} now", data={"devices": count})

    def purge_device(self, device: int) -> Outcome:
        """Forget an offline device's last report and wish."""
        self.known_device(device)
        try:
            known = self.call(lambda b: b.purge(device))
        except Changed:
            raise CommandError(f"Device{device} has an agent; only an offline device can be purged") from None
        text = f"Device{device} forgotten" if known else f"Device{device} had never reported"
        return Outcome(text, data={"device": device, "purged": known})


def answer_of(data: bytes) -> tuple[int, str] | None:
    """The device that answers a detect, and its state; None where it is no such answer."""
    try:
        device, state = wire.unpack(data)
    except (wire.Undecodable, ValueError, TypeError):
        return None
    return (device, str(state)) if type(device) is int else None
