"""Writes docs/commands.md from the registry of commands. Run it with `python docs/make_commands.py`."""

from __future__ import annotations

from pathlib import Path

from textual.keys import format_key

from mutitask_tui.server.commands.registry import COMMANDS, Command

PAGE = Path(__file__).with_name("commands.md")

HEAD = """\
# The commands

<!-- Made by `python docs/make_commands.py` from mutitask_tui/server/commands/registry.py: do not edit. -->

Each command has one name everywhere: its key in the dashboard, the `:` line there (`:pause_one 0`), the palette
(Ctrl+P), `mutitask ctl pause_one 0`, and a method of the server in a program (`server.pause_one(0)`).

`N` is a device number (for `reset_max_task`, a number of tasks), and `C` is a channel number. `CHANNELS` is `all`, or
channel numbers such as `0,2` (in a program also a number or a list of numbers: `server.assign(3, [0, 2])`). `RATE` is
`off`, or a number of tasks per `s`, `min` or `h`, such as `10/s` or `90/min`. `ID` is the id of a failed or running
task as the dashboard shows it; for a task of this run, its number alone is enough. Arguments in brackets are optional:
without them the command acts on all channels. A key acts on the selected device, channel, failed or running task.
Commands marked *asks* ask for confirmation. `mutitask ctl` asks only on a terminal; `--yes` answers the question.

What `assign` sets belongs to the device's number: it outlives the agent and takes the place of the agent's
`--channel`. A new run forgets it, and so does `purge_device`.

`mutitask ctl ... --json` prints one object: `command`, `ok`, `text` (a sentence), and the data that the command found
or changed. The exit status is 0 if the command was carried out and 2 if it was refused. [errors.md](errors.md) lists
the messages.

Reload and export of very many failed tasks print on stderr how far they are. Ctrl+C stops them in order: the outcome
says how many were done, the rest stays, and the exit status is 130. A second Ctrl+C ends the process at once.

| key | command | what it does |
|---|---|---|
"""


def key_of(command: Command) -> str:
    """Return the key as a person reads it, or '' if the command has no key."""
    *held, last = command.key.split("+") if command.key else [""]
    if not last:
        return ""
    name = format_key(last)
    return f"`{'+'.join([*(word.capitalize() for word in held), name.upper() if held else name])}`"


def row(command: Command) -> str:
    """Return one line of the table."""
    also = f" (also `{'`, `'.join(command.aliases)}`)" if command.aliases else ""
    asks = " *asks*" if command.dangerous else ""
    where = "" if command.run else " (in a dashboard only)"
    return f"| {key_of(command)} | `{command.usage}`{also} | {command.summary}{where}{asks} |\n"


def page() -> str:
    """Return the whole page."""
    return HEAD + "".join(row(command) for command in COMMANDS)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
