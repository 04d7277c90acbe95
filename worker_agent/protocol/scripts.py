"""Load the scripts in `lua/` and call them: by EVALSHA, and by EVAL if the server does not know a script yet."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from worker_agent.protocol.settlements import MODES, OUTCOMES

Argument = str | bytes | int | float


class Script:
    """One atomic transition. Its source is the used parts of the prelude, then the script's own file."""

    def __init__(self, name: str) -> None:
        folder = files("worker_agent.protocol") / "lua"
        prelude = constants() + (folder / "prelude.lua").read_text(encoding="utf-8")
        text = (folder / f"{name}.lua").read_text(encoding="utf-8")
        self.name = name
        self.source = used_parts(prelude, text) + text
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[str | bytes], args: Sequence[Argument]) -> Any:
        """Call the script and return its reply. Raises the errors of redis-py."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.execute_command("EVAL", self.source, len(keys), *keys, *args)


def constants() -> str:
    """Return the outcomes and modes of `settlements.py` as lines of Lua constants."""
    lines = ""
    for named in (OUTCOMES, MODES):
        letters = ", ".join(f"'{letter.decode()}'" for letter in named.values())
        lines += f"local {', '.join(named)} = {letters}\n"
    return lines


def used_parts(prelude: str, text: str) -> str:
    """Return the definitions of the prelude that a script uses. Each starts with `local` at the start of a line.

    Valkey creates every function of a script again at each call, which takes about 700 instructions a function.
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
    """Return the script of that name."""
    return Script(name)
