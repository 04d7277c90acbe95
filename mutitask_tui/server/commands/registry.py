"""The registry of commands. Keys, palette, `:` line, `mutitask ctl`, methods, help and docs are made from it.

To add a command, add one entry to `COMMANDS` and one method of the same name to a group in this package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from worker_agent.protocol.rate import Rate, parse_rate
from worker_agent.protocol.served_channels import Served, numbers_text, parse_served, served_text
from worker_agent.protocol.text import shown

ParamKind = Literal["device", "channel", "channels", "fail", "task", "count", "rate", "json"]
Scope = Literal["all", "device", "channel", "fail", "task", "view"]

NO_LIMIT = "off"
"""The `rate` argument that removes a limit."""
MOST = 1_000_000_000
"""The largest `count`. No Redis holds so many tasks, and its numbers are still exact there."""


class CommandError(Exception):
    """A command cannot be carried out. The text is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Param:
    """One argument.

    `device`, `channel` and `count` are whole numbers. `channels` is text: `all`, or numbers such as `0,2`. `rate` is
    text: `off`, or a rate such as `10/s`. `fail` is the id of a failed task, `task` that of a running one, and
    `json` is any value.
    """

    name: str
    kind: ParamKind
    optional: bool = False

    def parse(self, text: str) -> Any:
        """Return the argument's value. Raises `CommandError`, which names what was expected."""
        if self.kind in ("fail", "task"):
            return text
        if self.kind == "json":
            return _parse_json(text)
        if self.kind == "channels":
            return served_text(_parse_channels(text))
        if self.kind == "rate":
            return rate_text(rate_argument(text))
        if not text.isascii() or not text.isdigit():
            raise CommandError(f"{self.name} must be a whole number of 0 or more, not {text[:40]!r}")
        number = int(text[:20])
        if self.kind == "count" and number < 1:
            raise CommandError(f"{self.name} must be 1 or more")
        if self.kind == "count" and number > MOST:
            raise CommandError(f"{self.name} must be at most {MOST:,}")
        return number


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did, as one sentence for a person and as plain JSON data."""

    text: str
    ok: bool = True
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Command:
    """One command. It has the same name everywhere."""

    name: str
    summary: str
    key: str
    """The dashboard's key, as Textual names keys. '' if the `:` line and the palette suffice."""
    scope: Scope
    """What it acts on. A `device`, `channel`, `fail` or `task` command acts on the selected one, or asks for one.

    Only the dashboard carries out `view` commands (`detach`): they have no `run`.
    """
    run: Callable[..., Outcome] | None
    params: tuple[Param, ...] = ()
    dangerous: bool = False
    """Whether the dashboard asks first, with Cancel focused."""
    aliases: tuple[str, ...] = ()
    long: bool = False
    """Whether it can take long: it tells how far it is, can be stopped, and other commands need not wait for it."""

    @property
    def usage(self) -> str:
        """The command and its parameters, such as `pause_one N` or `reset_max_task N [C]`."""
        words = [f"[{p.name}]" if p.optional else p.name for p in self.params]
        return " ".join([self.name, *words])

    def parse(self, words: Iterable[str]) -> tuple[Any, ...]:
        """Return the arguments' values from the words after the name. Raises `CommandError`."""
        given = list(words)
        if self.params and self.params[-1].kind in ("json", "channels") and len(given) > len(self.params):
            last = len(self.params) - 1
            given = [*given[:last], " ".join(given[last:])]
        needed = sum(not p.optional for p in self.params)
        if not needed <= len(given) <= len(self.params):
            raise CommandError(f"usage: {self.usage}")
        return tuple(p.parse(word) for p, word in zip(self.params, given, strict=False))

    def __call__(self, commander: object, *values: Any) -> Outcome:
        """Call the `commander`'s method of this name. Raises `CommandError`, or `MutiTaskError` if Redis is away."""
        if self.run is None:
            raise CommandError(f"{self.name} belongs to a dashboard: press its key there")
        return self.run(commander, *values)


def channels_argument(value: object) -> Served:
    """Return the channels that a `channels` argument means: text, a number, or a list of numbers.

    Raises `CommandError` for text that means no channels, and `TypeError` for values of other types.
    """
    if isinstance(value, str):
        return _parse_channels(value)
    if not (text := numbers_text(value)):
        raise TypeError(f"channels must be 'all', a number or a list of numbers, not {shown(value)}")
    return _parse_channels(text)


def _parse_channels(text: str) -> Served:
    try:
        return parse_served(text)
    except ValueError as error:
        raise CommandError(str(error)) from None


def rate_argument(value: object) -> Rate | None:
    """Return the rate that a `rate` argument means, None for `off`.

    Raises `CommandError` for text that means no rate, and `TypeError` for values of other types.
    """
    if isinstance(value, str) and value.strip() == NO_LIMIT:
        return None
    try:
        return parse_rate(value)
    except ValueError as error:
        raise CommandError(f"{error}; {NO_LIMIT} removes the limit") from None


def rate_text(rate: Rate | None) -> str:
    """Return the form that `rate_argument` reads."""
    return NO_LIMIT if rate is None else str(rate)


def _parse_json(text: str) -> Any:
    import json

    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(
            f'not valid JSON ({error}): text stands in double quotes, such as "text"'
        ) from None


def find(name: str) -> Command:
    """Return the command of that name or alias. Raises `CommandError`, which suggests the closest name."""
    import difflib

    try:
        return _BY_NAME[name]
    except KeyError:
        near = difflib.get_close_matches(name, _BY_NAME, 1)
        hint = f"; did you mean {near[0]}?" if near else "; `help` lists them"
        raise CommandError(f"no command is called {name[:40]!r}{hint}") from None


def parse_line(line: str) -> tuple[Command, tuple[Any, ...]]:
    """Parse a typed line, such as `pause_one 0`, into a command and its values. Raises `CommandError`."""
    words = line.split(None, 1)
    if not words:
        raise CommandError("type a command, such as pause_one 0")
    command, rest = find(words[0]), "".join(words[1:])
    # JSON is the last argument and is kept as it was typed, because blanks in its strings count.
    last = len(command.params) - 1 if command.params and command.params[-1].kind == "json" else -1
    return command, command.parse(rest.split(None, last))


_N = Param("N", "device")
_C = Param("C", "channel")
_C_OPTIONAL = Param("C", "channel", optional=True)
_ID = Param("ID", "fail")
_RUNNING_ID = Param("ID", "task")
_CHANNELS = Param("CHANNELS", "channels")
_COUNT = Param("N", "count")
_RATE = Param("RATE", "rate")


def _method(name: str) -> Callable[..., Outcome]:
    def run(commander: object, *values: Any) -> Outcome:
        outcome: Outcome = getattr(commander, name)(*values)
        return outcome

    return run


def _command(
    name: str,
    key: str,
    scope: Scope,
    summary: str,
    *params: Param,
    dangerous: bool = False,
    aliases: tuple[str, ...] = (),
    long: bool = False,
) -> Command:
    run = None if scope == "view" else _method(name)
    return Command(name, summary, key, scope, run, params, dangerous, aliases, long)


COMMANDS: tuple[Command, ...] = (
    _command("detect_all", "D", "all", "Ask every device now for its state and round trip"),
    _command("detect_one", "d", "device", "Ask one device now for its state and round trip", _N),
    _command("pause_all", "P", "all", "Pause all devices; running tasks finish"),
    _command("pause_one", "p", "device", "Pause one device; running tasks finish", _N),
    _command("start_all", "S", "all", "Resume all devices"),
    _command("start_one", "s", "device", "Resume one device", _N),
    _command(
        "assign",
        "i",
        "device",
        "Set which channels a device serves: all, or numbers such as 0,2",
        _N,
        _CHANNELS,
    ),
    _command("pause_allot", "a", "all", "Pause the feeding of tasks from the generators; devices continue"),
    _command("start_allot", "A", "all", "Resume the feeding of tasks from the generators"),
    _command(
        "stop_allot", "w", "all", "End the feeding for good; waiting tasks are still run", dangerous=True
    ),
    _command("detect_fail_channel", "f", "all", "Count the failed tasks of each channel"),
    _command(
        "reload_all_fail_tasks",
        "R",
        "all",
        "Put failed tasks back into their task channel, with fresh retries",
        _C_OPTIONAL,
        dangerous=True,
        long=True,
    ),
    _command(
        "reload_one_fail_task",
        "r",
        "fail",
        "Put one failed task back into its task channel, with fresh retries",
        _C,
        _ID,
    ),
    _command("delete_one_fail_task", "x", "fail", "Delete one failed task for good", _C, _ID, dangerous=True),
    _command(
        "edit_fail_task",
        "e",
        "fail",
        "Change a failed task's payload and put it back; its id stays",
        _C,
        _ID,
        Param("JSON", "json"),
    ),
    _command(
        "export_fail_tasks",
        "E",
        "all",
        "Export failed tasks as JSON lines to a new file (mutitask ctl: `-` for stdout)",
        _C_OPTIONAL,
        long=True,
    ),
    _command(
        "reset_max_task",
        "m",
        "channel",
        "Set a channel's capacity; a smaller one drops no tasks",
        _COUNT,
        _C_OPTIONAL,
        aliases=("reset_task_max",),
    ),
    _command(
        "reset_rate",
        "l",
        "channel",
        "Limit how many of a channel's tasks start: 10/s, 90/min, 1000/h; off removes the limit",
        _RATE,
        _C_OPTIONAL,
    ),
    _command(
        "pause_channel",
        "c",
        "channel",
        "Pause one channel: devices claim no tasks from it; running tasks finish",
        _C,
    ),
    _command("start_channel", "C", "channel", "Resume one channel", _C),
    _command(
        "skip_item",
        "k",
        "channel",
        "Skip the item at which a channel's feed stopped",
        _C,
        dangerous=True,
    ),
    _command("add_device", "plus", "all", "Add a device at the end of the grid"),
    _command("del_device", "minus", "all", "Remove the last device of the grid", dangerous=True),
    _command(
        "stop_one",
        "t",
        "device",
        "Stop one agent: it finishes running tasks, hands back the rest and exits; a second stop does not wait",
        _N,
        dangerous=True,
    ),
    _command(
        "stop_all",
        "T",
        "all",
        "Stop all agents: they finish running tasks, hand back the rest and exit; a second stop does not wait",
        dangerous=True,
    ),
    _command(
        "restart_one",
        "u",
        "device",
        "Restart one agent with the job as it is now; running tasks finish first; a second restart does not wait",
        _N,
        dangerous=True,
    ),
    _command(
        "restart_all",
        "U",
        "all",
        "Restart all agents with the job as it is now; running tasks finish first; a second restart does not wait",
        dangerous=True,
    ),
    _command(
        "cancel_task",
        "K",
        "task",
        "Cancel a running task: it fails at stage cancelled, without a retry",
        _C,
        _RUNNING_ID,
        dangerous=True,
    ),
    _command("purge_device", "z", "device", "Forget a device that is offline", _N),
    _command("detach", "ctrl+d", "view", "Leave the dashboard; the server continues"),
    _command(
        "exit",
        "q",
        "all",
        "Stop all agents and close the server; waiting tasks stay in Redis",
        dangerous=True,
        aliases=("stop", "quit"),
    ),
)

_BY_NAME: dict[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
