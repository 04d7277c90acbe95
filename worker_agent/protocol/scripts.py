"""Loads the scripts in `lua/` and calls them: EVALSHA, and EVAL where the server does not know one yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from worker_agent.protocol.settlements import OUTCOMES

Argument = str | bytes | int | float


class Script:
    """One atomic transition. The prelude stands before each script's own text."""

    def __init__(self, name: str) -> None:
        folder = files("worker_agent.protocol") / "lua"
        prelude = constants() + (folder / "prelude.lua").read_text(encoding="utf-8")
        text = (folder / f"{name}.lua").read_text(encoding="utf-8")
        self.name = name
        self.source = used(prelude, text) + text
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[str | bytes], args: Sequence[Argument]) -> Any:
        """The script's reply. Errors are redis-py's own."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.execute_command("EVAL", self.source, len(keys), *keys, *args)


def constants() -> str:
    """Return the outcomes of `settlements.py` as one line of Lua constants."""
    letters = ", ".join(f"'{letter.decode()}'" for letter in OUTCOMES.values())
    return f"local {', '.join(OUTCOMES)} = {letters}\n"


def used(prelude: str, text: str) -> str:
    """The lines of the prelude that a script uses, each up to the next `local` at its margin.

    Each function that stands before a script is made anew at each call: that costs Valkey some 700 instructions.
    """
    kept, code = "", without_comments(text)
    for piece in reversed(re.split(r"^(?=local )", prelude, flags=re.MULTILINE)):
        declared = re.match(r"local (?:function )?([\w, ]+)", piece)
        if declared and re.search(rf"\b(?:{declared[1].strip().replace(', ', '|')})\b", code):
            kept, code = piece + kept, without_comments(piece) + code
    return kept


def without_comments(lua: str) -> str:
    """Return Lua source without its comments, so that a word in a comment does not count as a use."""
    return re.sub(r"--.*", "", lua)


@cache
def script(name: str) -> Script:
    """The script of that name."""
    return Script(name)
