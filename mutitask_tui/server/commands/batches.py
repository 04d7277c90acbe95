"""Carries out one command on many devices or failed tasks, in as few calls as the broker allows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mutitask_tui.server.commands.commander import Commander
from mutitask_tui.server.commands.registry import Command, CommandError, Outcome, channels_argument
from worker_agent.protocol.errors import ConcurrentChange


def run_many(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
    """Carry out `command` on each target (the arguments of one call). Returns one sentence for all targets.

    Targets that no longer exist are counted and raise nothing. `data` holds `asked` and `done`. Raises
    `CommandError` if the command was carried out on no target.
    """
    if not targets:
        raise CommandError(f"{command.name}: nothing is selected")
    outcome = _in_few_calls(commander, command, targets) or _one_by_one(commander, command, targets)
    commander.log_outcome(f"{command.name} on {len(targets)} - {outcome.text}", command)
    return outcome


def _in_few_calls(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome | None:
    """Return the outcome, or None if the broker has no call that takes many targets of this command."""
    if command.name in ("reload_one_fail_task", "delete_one_fail_task"):
        fails = [(channel, id_) for channel, id_ in targets]
        return commander.move_failed_tasks(fails, delete=command.name == "delete_one_fail_task")
    same_arguments = all(target[1:] == targets[0][1:] for target in targets)
    if (
        command.name not in ("pause_one", "start_one", "stop_one", "restart_one", "detect_one", "assign")
        or not same_arguments
    ):
        return None
    asked = [target[0] for target in targets]
    known = set(commander.device_numbers())
    devices = [device for device in asked if device in known]
    if not devices:
        raise CommandError("none of these devices exists any more")
    if command.name == "detect_one":
        return commander.detect(devices)
    if command.name in ("stop_one", "restart_one"):
        agents = {device: actor for device, actor in commander.agents().items() if device in set(devices)}
        if not agents:
            verb = command.name.removesuffix("_one")
            raise CommandError(f"none of these devices has an agent that could {verb}")
        ask = commander.stop_agents if command.name == "stop_one" else commander.restart_agents
        outcome, done = ask(agents), len(agents)
    elif command.name == "assign":
        outcome, done = commander.assign_channels(devices, channels_argument(targets[0][1])), len(devices)
    else:
        outcome = commander.set_desired_state(devices, "paused" if command.name == "pause_one" else "running")
        done = len(devices)
    return Outcome(outcome.text, data={**outcome.data, "asked": len(asked), "done": done})


def _one_by_one(commander: Commander, command: Command, targets: Sequence[Sequence[Any]]) -> Outcome:
    done, refusal = 0, ""
    for target in targets:
        try:
            command(commander, *target)
            done += 1
        except (CommandError, ConcurrentChange) as error:
            refusal = str(error)
    if not done:
        raise CommandError(refusal)
    text = f"{command.name} on {done:,} of {len(targets):,}" + (f"; refused: {refusal}" if refusal else "")
    return Outcome(text, data={"asked": len(targets), "done": done})
