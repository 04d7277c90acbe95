"""What a dashboard keeps of a person's choices between two starts: theme, sort, layout."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutitask_tui.config import Config, Loaded


class Memory:
    """The config as it is now, and the file that it is kept in; without a file nothing is written.

    `change` may be called from any thread; it blocks for as long as the disk takes.
    """

    def __init__(self, loaded: Loaded | None = None) -> None:
        self.config = loaded.config if loaded else Config()
        self.path: Path | None = loaded.path if loaded else None
        self._lock = threading.Lock()

    def value(self, name: str) -> Any:
        """A setting's value, by its name in the file: `theme`, `layout.density`."""
        where: Any = self.config
        for part in name.split("."):
            where = getattr(where, part)
        return where

    def change(self, name: str, value: Any) -> None:
        """Remember a setting's new value. Raises `ConfigError` if the file cannot take it."""
        with self._lock:
            if self.value(name) == value:
                return
            section, _, key = name.rpartition(".")
            if section:
                inner = replace(getattr(self.config, section), **{key: value})
                self.config = replace(self.config, **{section: inner})
            else:
                self.config = replace(self.config, **{key: value})
            if self.path is not None:
                from mutitask_tui.config_edit import remember

                remember(self.path, {name: value})
