"""Writes docs/commands.md from the one registry of commands: `python docs/make_commands.py`."""

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

`N` is a device's number (for `reset_max_task` a number of tasks), `C` a channel's, `ID` a failed task's id as the
dashboard shows it, or its number alone for a task of this run. What stands in brackets may be left out: then it is for
all channels. A key acts on the selected device, channel or failed task. Commands marked *asks* ask for confirmation;
`mutitask ctl` asks on a terminal only, and `--yes` answers.

`mutitask ctl ... --json` prints one object: `command`, `ok`, `text` (a sentence), and what the command found or did.
The exit status is 0 when it was carried out and 2 when it was refused; [errors.md](errors.md) lists the sentences.

| key | command | what it does |
|---|---|---|
"""


def key_of(command: Command) -> str:
    """The key as a person reads it, or nothing."""
    *held, last = command.key.split("+") if command.key else [""]
    if not last:
        return ""
    name = format_key(last)
    return f"`{'+'.join([*(word.capitalize() for word in held), name.upper() if held else name])}`"


def row(command: Command) -> str:
    """One line of the table."""
    also = f" (also `{'`, `'.join(command.aliases)}`)" if command.aliases else ""
    asks = " *asks*" if command.dangerous else ""
    where = "" if command.run else " (in a dashboard only)"
    return f"| {key_of(command)} | `{command.usage}`{also} | {command.summary}{where}{asks} |\n"


def page() -> str:
    """The whole page."""
    return HEAD + "".join(row(command) for command in COMMANDS)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
