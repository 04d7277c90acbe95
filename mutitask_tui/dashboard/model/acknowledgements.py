"""Watches whether what was asked for has come about: a command writes a wish, the devices obey it later (law 4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mutitask_tui.dashboard.formats import seen_text, span, took
from mutitask_tui.dashboard.model.states import Tone
from mutitask_tui.server.commands.registry import Command
from mutitask_tui.server.snapshot import DeviceView, Snapshot
from worker_agent.protocol.pristine import time
from worker_agent.protocol.words import plural

PATIENCE_S = 5.0
"""After so long somebody who has not obeyed is named."""
_FORGET_S = 120.0
_NAMED = 3

Key = tuple[str, int]
"""`device` and its number, `channel` and its number, or `server` and 0."""

_STATES = {"pause_one": "paused", "pause_all": "paused", "start_one": "running", "start_all": "running"}
_STOPS = ("stop_one", "stop_all")
_CHANNELS = {"pause_channel": True, "start_channel": False}
_FEEDS = {"pause_allot": False, "start_allot": True}


@dataclass(slots=True)
class _Asked:
    """One act that was carried out and is not obeyed by everyone yet."""

    line: str
    name: str
    asked_s: float
    many: int
    waiting: set[Key]
    actors: dict[int, str]
    confirmed: bool = False
    complained: bool = False


class Obedience:
    """Keeps the acts that somebody still has to obey."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._asked: list[_Asked] = []

    @property
    def urgent(self) -> bool:
        """Whether somebody may obey any moment: snapshots are wanted sooner then."""
        now = self._now()
        return any(now - asked.asked_s < PATIENCE_S for asked in self._asked)

    def ask(self, line: str, command: Command, targets: Sequence[Sequence[Any]], snapshot: Snapshot) -> None:
        """An act was sent; `targets` are the values of each call."""
        keys = _keys(command.name, targets, snapshot)
        if not keys:
            return
        for asked in self._asked:
            asked.waiting -= keys
        actors = {device.id: device.actor for device in snapshot.devices}
        self._asked = [asked for asked in self._asked if asked.waiting]
        self._asked.append(_Asked(line, command.name, self._now(), len(keys), keys, actors))

    def confirm(self, line: str) -> bool:
        """The act was carried out: from now on it can be obeyed. Whether anybody has to."""
        found = [asked for asked in self._asked if asked.line == line]
        for asked in found:
            asked.confirmed = True
        return bool(found)

    def drop(self, line: str) -> None:
        """The act was refused: nobody has to obey."""
        self._asked = [asked for asked in self._asked if asked.line != line]

    def look(self, snapshot: Snapshot) -> list[tuple[str, Tone]]:
        """What a new snapshot tells: who has obeyed, who ought to have."""
        now = self._now()
        devices = {device.id: device for device in snapshot.devices}
        said: list[tuple[str, Tone]] = []
        for asked in self._asked:
            if not asked.confirmed:
                continue
            asked.waiting = {key for key in asked.waiting if not _obeyed(key, asked, snapshot, devices)}
            waited = now - asked.asked_s
            if not asked.waiting:
                who = f"{plural(asked.many, _noun(asked.name))} obeyed" if asked.many > 1 else "obeyed"
                said.append((f"{asked.line}: {who} after {took(waited)}", "good"))
            elif waited >= PATIENCE_S and not asked.complained:
                asked.complained = True
                said.append((_complaint(asked, devices, waited), "warn"))
        self._asked = [a for a in self._asked if a.waiting and now - a.asked_s < _FORGET_S]
        return said


def _keys(name: str, targets: Sequence[Sequence[Any]], snapshot: Snapshot) -> set[Key]:
    """Who has to obey."""
    if name in ("pause_all", "start_all", "stop_all"):
        return {("device", device.id) for device in snapshot.devices if device.state != "offline"}
    if name in ("pause_one", "start_one", "stop_one"):
        return {("device", int(values[0])) for values in targets if values}
    if name in _CHANNELS:
        return {("channel", int(values[0])) for values in targets if values}
    return {("server", 0)} if name in _FEEDS and snapshot.server is not None else set()


def _obeyed(key: Key, asked: _Asked, snapshot: Snapshot, devices: dict[int, DeviceView]) -> bool:
    kind, number = key
    if kind == "server":
        return snapshot.server is None or snapshot.server.allotting == _FEEDS[asked.name]
    if kind == "channel":
        wanted = _CHANNELS[asked.name]
        return all(channel.paused == wanted for channel in snapshot.channels if channel.id == number)
    device = devices.get(number)
    if device is None:
        return True
    if asked.name in _STOPS:
        return device.state == "offline" or device.actor != asked.actors.get(number)
    wish = _STATES[asked.name]
    return device.state == wish == device.desired


def _complaint(asked: _Asked, devices: dict[int, DeviceView], waited: float) -> str:
    """Who has not obeyed, and why, as far as a snapshot tells."""
    late = sorted(asked.waiting)
    if asked.many == 1:
        name, why = _name(late[0]), _why(late[0], devices)
        return f"{name} has not obeyed {asked.line.split()[0]} for {round(waited)} s: it {why}"
    named = [f"{_name(key)} {_why(key, devices)}" for key in late[:_NAMED]]
    more = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
    count = f"{len(late)} of {plural(asked.many, _noun(asked.name))}"
    return f"{asked.line}: {count} {_have(len(late))} not obeyed for {round(waited)} s: {_list(named)}{more}"


def _why(key: Key, devices: dict[int, DeviceView]) -> str:
    device = devices.get(key[1]) if key[0] == "device" else None
    if device is None:
        return "has not answered"
    if device.state == "offline":
        return "is offline"
    if device.running:
        return f"is still running its task ({span(device.current_s)})"
    return f"was last seen {seen_text(device.seen_s)}"


def _name(key: Key) -> str:
    kind, number = key
    return {"device": f"Device{number}", "channel": f"TaskChannel{number}"}.get(kind, "the server")


def _noun(name: str) -> str:
    return "channel" if name in _CHANNELS else "device"


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def _list(words: Iterable[str]) -> str:
    return ", ".join(words)
