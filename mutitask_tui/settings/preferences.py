"""Keeps a person's choices between two starts of the dashboard: theme, sort order, layout."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from mutitask_tui.settings.config_file import Loaded
from mutitask_tui.settings.edit import write_settings
from mutitask_tui.settings.options import Config


class Preferences:
    """The settings in effect and the file that stores them. Without a file nothing is written."""

    def __init__(self, loaded: Loaded | None = None) -> None:
        self.config = loaded.config if loaded else Config()
        self.path: Path | None = loaded.path if loaded else None
        self._unwritten: set[str] = set()
        self._writing = threading.Lock()

    def value(self, name: str) -> Any:
        """Return a setting's value by its name in the file: `theme`, `layout.density`."""
        value: Any = self.config
        for part in name.split("."):
            value = getattr(value, part)
        return value

    def set(self, name: str, value: Any) -> bool:
        """Change a setting for this process; return whether there is something to `write`."""
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
        """Write the changed settings into the file; blocks while the disk writes. Raises `ConfigError`."""
        with self._writing:
            names, self._unwritten = self._unwritten, set()
            if names and self.path is not None:
                write_settings(self.path, {name: self.value(name) for name in sorted(names)})
