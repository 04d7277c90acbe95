"""`Server`: the class with which a program starts a server and calls its commands."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mutitask_tui.server.commands.registry import COMMANDS, Command, Outcome
from worker_agent.protocol.channel_terms import checked_policies, checked_rates, policy_fields, rate_fields
from worker_agent.protocol.counts import is_count
from worker_agent.protocol.keys import MAX_CHANNELS
from worker_agent.protocol.retry_policy import Retry
from worker_agent.protocol.text import shown


class Server:
    """Feeds generators to channels and shows the dashboard.

    `WorksNumb` is the number of devices. `InstructionChannelNumb` is the number of channels (by default, the number of
    generators). `TasksChannelMax` is each channel's capacity in tasks. If no address is given and no Redis listens on
    the default one, an embedded Valkey is started there. `retry_delay` and `lease` are in seconds.

    `retry` is the retry policy of all channels, or a list with one for each. `retries` and `retry_delay` take the place
    of its `times` and `delay`. `rates` is text such as `"10/s"` for all channels, or a list with one for each.

    Every command is also a method, such as `server.pause_one(0)`. Call it from another thread while `start()` runs.
    """

    def __init__(
        self,
        WorksNumb: int,  # noqa: N803 (public name)
        host: str = "localhost",
        port: int = 6379,
        db: int = 0,
        password: str | None = None,
        InstructionChannelNumb: int | None = None,  # noqa: N803
        TasksChannelMax: int = 50,  # noqa: N803
        *,
        redis_url: str | None = None,
        name: str = "default",
        autostart: bool = False,
        resume: bool = False,
        resume_anyway: bool = False,
        fresh: bool = False,
        headless: bool = False,
        until_done: bool = False,
        failed_ok: bool = False,
        retries: int | None = None,
        retry_delay: float | None = None,
        retry: Retry | Sequence[Retry | None] | None = None,
        rates: str | Sequence[str | None] | None = None,
        lease: float = 10.0,
        results_max: int = 1_000_000,
        totals: Sequence[int | None] = (),
        on_allotted: Callable[..., None] | None = None,
    ) -> None:
        from worker_agent.job_checks import check_on_allotted
        from worker_agent.protocol.connection.address import check_name

        for label, value, least in (
            ("WorksNumb", WorksNumb, 0),
            ("InstructionChannelNumb", 1 if InstructionChannelNumb is None else InstructionChannelNumb, 1),
            ("TasksChannelMax", TasksChannelMax, 1),
        ):
            if not is_count(value, least):
                raise TypeError(f"{label} must be a whole number of {least} or more, not {shown(value)}")
        if (resume or resume_anyway) and fresh:
            raise ValueError(
                "resume continues with the work in the namespace and fresh drops it: pass one of them"
            )
        self._devices = WorksNumb
        self._channels = InstructionChannelNumb
        self._capacity = TasksChannelMax
        self._address = (host, port, db, password)
        self._redis_url = redis_url
        self._name = check_name(name)
        self._autostart = autostart
        self._mode = "resume" if resume or resume_anyway else "fresh" if fresh else ""
        self._anyway = resume_anyway
        self._headless = headless
        self._until_done = until_done
        self._failed_ok = failed_ok
        self._retry = checked_policies(retry)
        self._retry_values = retries, retry_delay
        policy_fields(self._retry, MAX_CHANNELS, times=retries, delay=retry_delay)
        self._rates = checked_rates(rates)
        self._terms = (round(lease * 1000), results_max)
        self._totals = tuple(totals)
        self._on_allotted = check_on_allotted(on_allotted)
        self._url = ""

    def start(self, tasks: Sequence[Iterator[Any]]) -> None:
        """Feed one generator or iterator for each channel until the server quits.

        Opens the dashboard on a terminal and runs headless without one. Raises `TypeError` if `tasks` is no list of
        generators, and `ValueError` if their number is not `InstructionChannelNumb`. Ends the process with a message
        and a status if Redis or the namespace is not available, and with status 7 if tasks failed in a run with
        `until_done=True` (unless `failed_ok=True`).
        """
        from worker_agent.console import lines
        from worker_agent.job_checks import as_iterators
        from worker_agent.protocol.connection.redis_errors import advice
        from worker_agent.protocol.errors import MutiTaskError

        iterators = as_iterators(tasks)
        if self._channels is not None and self._channels != len(iterators):
            raise ValueError(
                f"InstructionChannelNumb={self._channels} and {len(iterators)} generators: "
                "pass one generator for each channel, or leave InstructionChannelNumb out"
            )
        try:
            status = self._run(iterators)
        except MutiTaskError as error:
            lines.print_stderr(f"mutitask: {advice(error)}", "error")
            sys.exit(error.exit_status)
        if status:
            sys.exit(status)

    def _run(self, iterators: list[Iterator[Any]]) -> int:
        from mutitask_tui.embedded.valkey import default_redis_listens
        from mutitask_tui.launch.redis_location import RedisLocation, embedded_location
        from mutitask_tui.launch.run_server import run_server
        from worker_agent.protocol.connection.address import read_server_file, resolve
        from worker_agent.protocol.membership import RunPlan

        (times, delay), (lease_ms, results_max) = self._retry_values, self._terms
        count = len(iterators)
        plan = RunPlan(
            channels=count,
            devices=self._devices,
            capacity=self._capacity,
            policies=policy_fields(self._retry, count, times=times, delay=delay),
            rates=rate_fields(self._rates, count),
            lease_ms=lease_ms,
            results_max=results_max,
            autostart=self._autostart,
            mode=self._mode,  # type: ignore[arg-type]
            anyway=self._anyway,
        )
        host, port, db, password = self._address
        url, named = resolve(self._redis_url, self._name, host, port, db, password)
        if url == read_server_file(self._name) or (not named and not default_redis_listens()):
            usual_port = (host, port) == ("localhost", 6379)
            location = embedded_location(self._name, "127.0.0.1", usual_port=usual_port)
        else:
            location = RedisLocation(url)
        self._url = location.url
        return run_server(
            location,
            self._name,
            plan,
            iterators,
            headless=self._headless,
            until_done=self._until_done,
            failed_ok=self._failed_ok,
            totals=lambda: self._totals,
            on_allotted=self._on_allotted,
        )

    def command(self, command: Command, *values: Any) -> Outcome:
        """Carry out a command of the registry.

        Raises `CommandError`, `TypeError` if an argument is not a whole number, or `RuntimeError` before `start()`.
        """
        from mutitask_tui.server.commands.commander import Commander

        for param, value in zip(command.params, values, strict=False):
            number = param.kind in ("device", "channel", "count") and not (param.optional and value is None)
            if number and not is_count(value):
                raise TypeError(f"{param.name} of {command.usage} must be a whole number, not {shown(value)}")
        if not self._url:
            raise RuntimeError("call start() first, and call commands from another thread while it runs")
        return Commander(self._url, self._name).run(command, values)


def _as_method(command: Command) -> Callable[..., Outcome]:
    def method(self: Server, *values: Any) -> Outcome:
        return self.command(command, *values)

    method.__name__ = command.name
    method.__doc__ = f"{command.usage}: {command.summary}."
    return method


for _command in COMMANDS:
    if _command.run is not None:
        for _name in (_command.name, *_command.aliases):
            setattr(Server, _name, _as_method(_command))
