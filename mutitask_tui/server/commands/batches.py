"""One command on many devices or failed tasks: in few calls where the broker takes many, one by one elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import Command, CommandError, Outcome
from worker_agent.protocol.errors import Changed


def run_many(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
    """Carry `command` out on each target (the values of one call); one sentence for them all.

    What is no longer there is counted, not raised. `data` holds `asked` and `done`. Raises `CommandError`
    where nothing at all was done.
    """
    if not targets:
        raise CommandError(f"{command.name}: nothing is selected")
    outcome = _in_few_calls(commander, command, targets) or _one_by_one(commander, command, targets)
    commander.tell(f"{command.name} on {len(targets)} - {outcome.text}", command)
    return outcome


def _in_few_calls(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome | None:
    if command.name in ("reload_one_fail_task", "delete_one_fail_task"):
        return _fails(commander, command, targets)
    if command.name not in ("pause_one", "start_one", "stop_one", "detect_one"):
        return None
    wanted = [target[0] for target in targets]
    known = set(commander.device_numbers())
    devices = [device for device in wanted if device in known]
    if not devices:
        raise CommandError("none of these devices is there any more")
    if command.name == "detect_one":
        return commander.detect(devices)
    if command.name == "stop_one":
        agents = {device: actor for device, actor in commander.agents().items() if device in set(devices)}
        if not agents:
            raise CommandError("none of these devices has an agent that could stop")
        outcome, done = commander.stop_agents(agents), len(agents)
    else:
        outcome = commander.desired_devices(devices, "paused" if command.name == "pause_one" else "running")
        done = len(devices)
    return Outcome(outcome.text, data={**outcome.data, "asked": len(wanted), "done": done})


def _fails(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
    by_channel: dict[int, list[str]] = {}
    for channel, id_ in targets:
        by_channel.setdefault(channel, []).append(id_)
    reload = command.name == "reload_one_fail_task"
    done = 0
    for channel, ids in by_channel.items():
        commander.channels(channel)
        done += commander.call(
            lambda b, c=channel, i=ids: b.reload(c, i) if reload else b.delete(c, i)  # type: ignore[misc]
        )
    verb = "went back to their task channels" if reload else "deleted"
    gone = len(targets) - done
    text = f"{done:,} failed task{'' if done == 1 else 's'} {verb}" + (
        f"; {gone:,} no longer there" if gone else ""
    )
    return Outcome(text, ok=done > 0, data={"asked": len(targets), "done": done})


def _one_by_one(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
    done, refused = 0, ""
    for target in targets:
        try:
            command(commander, *target)
            done += 1
        except (CommandError, Changed) as error:
            refused = str(error)
    if not done:
        raise CommandError(refused)
    text = f"{command.name} on {done:,} of {len(targets):,}" + (f"; refused: {refused}" if refused else "")
    return Outcome(text, data={"asked": len(targets), "done": done})
