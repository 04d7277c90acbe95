"""Describes in words what a command will act on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mutitask_tui.dashboard.formats import span
from mutitask_tui.dashboard.model.health import count_devices
from mutitask_tui.dashboard.model.selection import Batch
from mutitask_tui.dashboard.model.states import device_state
from mutitask_tui.dashboard.safe_text import safe_str
from mutitask_tui.server.commands.registry import Command
from mutitask_tui.server.snapshot import Snapshot
from worker_agent.protocol.text import plural

_MAX_NAMED = 8
"""The number of targets of a batch that are named."""


def line_of(command: Command, values: Sequence[Any]) -> str:
    """Return the command as a person would type it: `pause_one 3`."""
    return " ".join([command.name, *(safe_str(value, 40) for value in values)])


def by_name(command: Command, values: Sequence[Any]) -> dict[str, Any]:
    """Return the arguments by parameter name."""
    return dict(zip((param.name for param in command.params), values, strict=False))


def target_of(command: Command, values: Mapping[str, Any], snapshot: Snapshot | None, hidden: int = 0) -> str:
    """Return exactly what the command acts on, given its known arguments: names, states, counts.

    `hidden` is the number of devices that a filter or a toggle hides. A command for all devices acts on them too, so
    the text names that number.
    """
    named = {param.kind: values[param.name] for param in command.params if param.name in values}
    if "fail" in named:
        return f"task {safe_str(named['fail'], 40)} in the FailChannel of TaskChannel{named['channel']}"
    if "task" in named:
        return _running(int(named["channel"]), str(named["task"]), snapshot)
    if "device" in named:
        return _device(int(named["device"]), snapshot)
    if command.name == "del_device" and snapshot and snapshot.devices:
        return _device(snapshot.devices[-1].id, snapshot)
    if "fail" in command.name:
        return _fails(named.get("channel"), snapshot)
    if "channel" in named:
        return _channel(int(named["channel"]), snapshot)
    if command.scope == "channel" and snapshot is not None:
        return f"all {plural(len(snapshot.channels), 'channel')}"
    return _all(command, snapshot, hidden)


def batch_target(batch: Batch, snapshot: Snapshot | None) -> str:
    """Return exactly what a batch acts on: how many targets, which, in which states, and how many are hidden."""
    words = [batch.filtered] if batch.filtered else []
    if batch.command.scope == "device":
        numbers = [int(values[0]) for values in batch.targets]
        names = [f"Device{number}" for number in numbers[:_MAX_NAMED]]
        if snapshot is not None:
            chosen = set(numbers)
            states = Counter(device.state for device in snapshot.devices if device.id in chosen)
            words += [
                f"{states[state]} {state}" for state in ("running", "paused", "offline") if states[state]
            ]
        count = plural(len(numbers), "device")
    else:
        names = [
            f"{safe_str(id_, 40)} of TaskChannel{channel}" for channel, id_ in batch.targets[:_MAX_NAMED]
        ]
        count = plural(len(batch.targets), "failed task")
    more = f" and {len(batch.targets) - _MAX_NAMED:,} more" if len(batch.targets) > _MAX_NAMED else ""
    if batch.hidden:
        words.append(f"{batch.hidden:,} of them hidden")
    state = f" ({', '.join(words)})" if words else ""
    return f"{count}{state}: {', '.join(names)}{more}"


def _running(channel: int, id_: str, snapshot: Snapshot | None) -> str:
    """Return which task runs where and for how long, as far as the snapshot shows it."""
    name = f"task {safe_str(id_, 40)} of TaskChannel{channel}"
    for device in snapshot.devices if snapshot else ():
        for task in device.tasks:
            if task.id == id_ and task.channel == channel:
                where = f"task #{task.number} of TaskChannel{channel} on Device{device.id}"
                return f"{where}, for {span(task.seconds)}: {safe_str(task.text, 60)}"
    return name


def _device(number: int, snapshot: Snapshot | None) -> str:
    device = next((d for d in snapshot.devices if d.id == number), None) if snapshot else None
    if device is None:
        return f"Device{number}"
    facts = [device_state(device).word]
    if device.host:
        facts.append(f"{safe_str(device.host, 30)}:{device.pid}")
    if device.running:
        facts.append(f"runs {plural(device.running, 'task')}")
    return f"Device{number} ({', '.join(facts)})"


def _channel(number: int, snapshot: Snapshot | None) -> str:
    channel = next((c for c in snapshot.channels if c.id == number), None) if snapshot else None
    if channel is None:
        return f"TaskChannel{number}"
    halted = f", halted: {safe_str(channel.halted, 160)}" if channel.halted else ""
    return f"TaskChannel{number} ({channel.waiting:,}/{channel.capacity:,} waiting{halted})"


def _fails(channel: int | None, snapshot: Snapshot | None) -> str:
    channels = [c for c in snapshot.channels if channel in (None, c.id)] if snapshot else []
    failed = plural(sum(c.failed for c in channels), "failed task")
    return f"{failed} of TaskChannel{channel}" if channel is not None else f"{failed} of all channels"


def _all(command: Command, snapshot: Snapshot | None, hidden: int) -> str:
    if snapshot is None:
        return "the whole namespace"
    if "allot" in command.name:
        return f"the generators of {plural(len(snapshot.channels), 'channel')}"
    counts = count_devices(snapshot)
    hidden_text = f"; {hidden} of them hidden" if hidden else ""
    return (
        f"all {plural(len(snapshot.devices), 'device')} "
        f"({counts.running} running, {counts.paused} paused, {counts.offline} offline{hidden_text})"
    )
