"""Shows the settings in effect and where each came from: `mutitask config`."""

from __future__ import annotations

import os

from mutitask_tui.dashboard.keys.keymap import default_keys, effective_keys
from mutitask_tui.settings.config_file import FILE_VARIABLE, Loaded
from mutitask_tui.settings.options import SETTINGS
from mutitask_tui.settings.preferences import Preferences
from worker_agent.protocol.unpatched import json


def to_lines(loaded: Loaded) -> list[str]:
    """Return a line for the file, then one for each setting and each changed key."""
    named = f" (named by {FILE_VARIABLE})" if os.environ.get(FILE_VARIABLE) else ""
    note = "" if loaded.exists else ", does not exist yet: the dashboard creates it when you change something"
    preferences = Preferences(loaded)
    rows = [(s.name, _shown(preferences.value(s.name)), _origin(loaded, s.name)) for s in SETTINGS]
    defaults = default_keys()
    changed = {n: k for n, k in effective_keys(loaded.config.keys).items() if k != defaults[n]}
    for name, key in changed.items():
        origin = _origin(loaded, f"keys.{name}") if name in loaded.config.keys else "its default key is taken"
        rows.append((f"keys.{name}", _shown(key), origin))
    name_width = max(len(name) for name, _, _ in rows)
    value_width = max(len(value) for _, value, _ in rows)
    lines = [f"{name:{name_width}}  {value:{value_width}}  {origin}" for name, value, origin in rows]
    if os.environ.get("NO_COLOR"):
        lines.append("NO_COLOR is set: the dashboard shows no colours")
    return [f"{loaded.path}{named}{note}", "", *lines]


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _origin(loaded: Loaded, name: str) -> str:
    if name not in loaded.lines and not name.startswith("keys."):
        return "default"
    line = loaded.lines.get(name)
    return f"line {line}" if line else "the file"
