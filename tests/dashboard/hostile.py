"""Hostile text that may come in a payload, an error, a host name or a task id."""

from __future__ import annotations

PAYLOADS = (
    "ok[/foo]",
    "[/]",
    "[red]x[/red]",
    "[b ",
    "[@click=app.quit]go[/]",
    "[@click=app.exit('exit')]go[/]",
    "\x1b]0;owned\x07",
    "\x1b[2J\x1b[31mred",
    "\x9b31m\x85",
    "\x00\x08\x0b\x7f",
    "\u202egnp.exe\u202c \u200fabc\u2066x\u2069",
    "\u200b\ufeff\u2028\u2029\U000e0041",
    "\ud800 lone",
    "🚀👩‍👩‍👧❤️",
    "日本語のタスク" * 20,
    "a\nb\r\nc\td",
    "x" * 1_000_000,
    "e" + "\u0301" * 500,
    "",
)

TOGETHER = {
    "markup": "ok[/foo] [/] [red]x[/red] [@click=app.quit]go[/] [@click=app.exit('exit')]go[/] [b ",
    "escapes": "\x1b]0;owned\x07 \x1b[2J\x1b[31mred \x9b31m\x85 \x00\x08\x0b\x7f \ud800"
    "\u202egnp.exe\u202c \u200fabc\u2066x\u2069 \u200b\ufeff\u2028\u2029\U000e0041 a\nb\r\nc\td",
    "wide": "🚀👩\u200d👩\u200d👧❤\ufe0f 日本語のタスク" + "e" + "\u0301" * 500,
    "megabyte": "[/x]" + "x" * 1_000_000,
    "nothing": "",
}
"""The same in fewer strings, for the tests that open every screen."""
