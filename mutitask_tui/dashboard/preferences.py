"""What a dashboard keeps of a person's choices between two starts: theme, sort, layout."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutitask_tui.settings.config_file import Config, Loaded


class Memory:
    """The config as it is now, and the file that it is kept in; without a file nothing is written."""

    def __init__(self, loaded: Loaded | None = None) -> None:
        self.config = loaded.config if loaded else Config()
        self.path: Path | None = loaded.path if loaded else None
        self._unwritten: set[str] = set()
        self._writing = threading.Lock()

    def value(self, name: str) -> Any:
        """A setting's value, by its name in the file: `theme`, `layout.density`."""
        where: Any = self.config
        for part in name.split("."):
            where = getattr(where, part)
        return where

    def note(self, name: str, value: Any) -> bool:
        """A setting has a new value from now on; whether there is something to `write`."""
        if self.value(name) == value:
            return False
        section, _, key = name.rpartition(".")
        if section:
            changed: Any = replace(getattr(self.config, section), **{key: value})
            self.config = replace(self.config, **{section: changed})
        else:
            self.config = replace(self.config, **{key: value})
        self._unwritten.add(name)
        return self.path is not None

    def write(self) -> None:
        """Write what was noted into the file; blocks for as long as the disk takes. Raises `ConfigError`."""
        from mutitask_tui.settings.edit import remember

        with self._writing:
            names, self._unwritten = self._unwritten, set()
            if names and self.path is not None:
                remember(self.path, {name: self.value(name) for name in sorted(names)})
