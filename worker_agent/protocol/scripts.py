"""Loads the scripts in `lua/` and calls them: EVALSHA, and EVAL where the server does not know one yet."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

Argument = str | bytes | int | float


class Script:
    """One atomic transition. The prelude stands before each script's own text."""

    def __init__(self, name: str) -> None:
        folder = files("worker_agent.protocol") / "lua"
        prelude = (folder / "prelude.lua").read_text(encoding="utf-8")
        self.name = name
        self.source = prelude + (folder / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()

    def __call__(self, client: Any, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        """The script's reply. Errors are redis-py's own."""
        try:
            return client.execute_command("EVALSHA", self.sha, len(keys), *keys, *args)
        except NoScriptError:
            return client.execute_command("EVAL", self.source, len(keys), *keys, *args)


@cache
def script(name: str) -> Script:
    """The script of that name."""
    return Script(name)
