"""Which versions of the job file the agents of a snapshot run."""

from __future__ import annotations

from collections.abc import Sequence

from mutitask_tui.server.snapshot import DeviceView, Snapshot, names_of
from worker_agent.protocol.text import plural

SHORT = 6
"""How many digits of a version are shown in short."""
_MAX_NAMED = 4


def versions(snapshot: Snapshot) -> dict[str, list[int]]:
    """Return the devices that run each version, the version of most devices first."""
    found: dict[str, list[int]] = {}
    for device in snapshot.devices:
        if device.job:
            found.setdefault(device.job, []).append(device.id)
    return dict(sorted(found.items(), key=lambda pair: -len(pair[1])))


def is_other(device: DeviceView, snapshot: Snapshot) -> bool:
    """Return whether a device runs another version than the server."""
    return bool(device.job and snapshot.server and snapshot.server.job not in ("", device.job))


def changed_devices(snapshot: Snapshot) -> list[int]:
    """Return the devices whose job file has changed since their agents loaded it."""
    return [device.id for device in snapshot.devices if device.job_changed]


def version_texts(snapshot: Snapshot) -> list[str]:
    """Return a sentence about changed job files, and one about agents that run different versions."""
    texts = []
    if changed := changed_devices(snapshot):
        command = f"restart_one {changed[0]} loads" if len(changed) == 1 else "restart_all loads"
        texts.append(
            f"job changed: {names_of('Device', changed)} loaded it before; {command} it as it is now"
        )
    if len(found := versions(snapshot)) > 1:
        texts.append(f"the devices run {len(found)} versions of the job: {_listed(found, snapshot)}")
    return texts


def _listed(found: dict[str, list[int]], snapshot: Snapshot) -> str:
    server = snapshot.server.job if snapshot.server else ""
    parts = [_described(version, devices, server) for version, devices in list(found.items())[:_MAX_NAMED]]
    if len(found) > _MAX_NAMED:
        parts.append(f"{len(found) - _MAX_NAMED} more")
    return ", ".join(parts)


def _described(version: str, devices: Sequence[int], server: str) -> str:
    as_server = ", as the server" if version == server else ""
    return f"{version[:SHORT]} ({plural(len(devices), 'device')}{as_server})"
