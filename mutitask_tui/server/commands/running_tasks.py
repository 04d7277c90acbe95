"""The command about running tasks: it cancels one."""

from __future__ import annotations

from collections.abc import Mapping

from mutitask_tui.server.commands.base import CommandGroup
from mutitask_tui.server.commands.registry import CommandError, Outcome
from worker_agent.protocol.cancels import CancelAnswer, CancelRequest, answers_name, parse_answer

CANCEL_WAIT_S = 3.0
"""How long to wait for the agent's answer, in seconds. An agent that lost its token answers at its next heartbeat."""


class RunningTaskCommands(CommandGroup):
    """The method that cancels."""

    def cancel_task(self, channel: int, id_: str | int) -> Outcome:
        """Cancel a running task. It fails at stage `cancelled`, without a retry. Raises `CommandError`."""
        self.require_channels(channel)
        shown, full = str(id_), self.reader.full_id(channel, str(id_))
        holders = self._holders(channel, full)
        if not holders:
            raise CommandError(
                f"task {shown} does not run: no agent has claimed it from TaskChannel{channel}, so it waits, "
                "is done or has failed"
            )
        live = {device: actor for device, actor in self.agents().items() if actor in holders}
        if not live:
            raise CommandError(f"task {shown} cannot be cancelled: its agent is gone, and others recover it")
        request = CancelRequest.new(full, self.source)
        self.call(lambda b: b.request_cancel(request, live))
        answer = self._answer(request, live)
        names = " and ".join(f"Device{device}" for device in live)
        if answer is None:
            return Outcome(
                f"asked {names} to cancel task {shown}; it has not answered within {CANCEL_WAIT_S:g} s, and "
                "follows with its next heartbeat",
                data={"task": full, "state": "unanswered", "devices": sorted(live)},
            )
        where = f"Device{answer.device}"
        data = {"task": full, "state": answer.state, "device": answer.device}
        if answer.state == "not_running":
            raise CommandError(f"task {shown} does not run on {where}: {answer.why or 'it has ended'}")
        if answer.state == "asked":
            return Outcome(f"task {shown} on {where}: {answer.why}", data=data)
        return Outcome(
            f"task {shown} was cancelled on {where}: it fails at stage cancelled, without a retry", data=data
        )

    def _holders(self, channel: int, id_: str) -> set[str]:
        """Return the actors that have claimed a task. The text of another task may look the same; agents know."""
        at, id_bytes = self.reader.keys.channel(channel), id_.encode()
        found = set()
        for holder in self.reader.query("HKEYS", at.claim_counts):
            actor = holder.decode("utf-8", "replace")
            if any(id_bytes in claim for claim in self.reader.query("HVALS", at.claims(actor))):
                found.add(actor)
        return found

    def _answer(self, request: CancelRequest, agents: Mapping[int, str]) -> CancelAnswer | None:
        """Return the answer of the agent that runs the task, else another answer. None if nobody answers in time."""
        answers: dict[int, CancelAnswer] = {}
        for packed in self.agents_answers(answers_name(request.asked), CANCEL_WAIT_S if agents else 0.0):
            answer = parse_answer(packed)
            if answer is not None and answer.device in agents:
                answers[answer.device] = answer
                if answer.state != "not_running":
                    return answer
                if len(answers) == len(agents):
                    break
        return next(iter(answers.values()), None)
