"""Finds, reads and checks the dashboard's config file.

`tomllib` parses the file and frozen dataclasses hold the result. Every mistake is one `ConfigError` that names the
file, the line and what is allowed. `edit.py` writes a changed value into the file.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutitask_tui.settings.options import SECTIONS, SETTINGS, Config, Layout, theme_names
from worker_agent.protocol.errors import MutiTaskError

# The functions below import the dashboard's modules only when they need them: those import Textual, which takes
# longer than everything else that a program without a dashboard does at its start.

FILE_VARIABLE = "MUTITASK_CONFIG_FILE"
MAX_BYTES = 1_000_000


class ConfigError(MutiTaskError):
    """The config file cannot be used; the text names the file, the line and what is allowed."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config and where each of its settings came from."""

    config: Config
    path: Path
    lines: Mapping[str, int | None]
    """The line of each setting in the file (`theme`, `layout.density`, `keys.pause_all`); None where the line was
    not found."""
    exists: bool
    """Whether there is such a file."""


def config_path() -> Path:
    """Return the path in use: `MUTITASK_CONFIG_FILE`, else `mutitask/config.toml` in the user's config directory."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification says that relative paths are ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "mutitask" / "config.toml"


def load(path: Path | None = None) -> Loaded:
    """Read the config; without a file return the defaults. Raises `ConfigError`."""
    path = path or config_path()
    text = read_text(path)
    if text is None:
        return Loaded(Config(), path, {}, exists=False)
    config, lines = parse(text, path)
    return Loaded(config, path, lines, exists=True)


def read_text(path: Path) -> str | None:
    """Return the file's text; None if there is no file. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{path} cannot be read ({why}): fix that, or name another file with {FILE_VARIABLE}"
        ) from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path} is larger than {MAX_BYTES:,} bytes: it is not a config file of MutiTask")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8: save the file as UTF-8") from None


def parse(text: str, path: Path) -> tuple[Config, dict[str, int | None]]:
    """Return the config in `text` and the line of each setting. Raises `ConfigError`."""
    from mutitask_tui.dashboard.keys.keymap import full_name

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {_first_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None
    checker = _Checker(text, path)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise checker.error(name, f"{name} is a section: write [{name}] and its settings under it")
        elif isinstance(value, dict):
            sections = _listed(f"[{section}]" for section in SECTIONS)
            near = _near(name, SECTIONS)
            raise checker.error(name, f"there is no section [{_shown(name)}]{near}; there are {sections}")
        else:
            values[name] = checker.setting("", name, value)
    layout = {key: checker.setting("layout", key, value) for key, value in data.get("layout", {}).items()}
    keys = checker.keys(data.get("keys", {}))
    lines = {name: line_of(text, name) for name in (*values, *(f"layout.{key}" for key in layout))}
    lines |= {f"keys.{full_name(word)}": line_of(text, f"keys.{word}") for word in data.get("keys", {})}
    if "refresh" in values:
        values["refresh"] = float(values["refresh"])
    return Config(**values, layout=Layout(**layout), keys=keys), lines


class _Checker:
    """Checks the values of one file."""

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path

    def error(self, name: str, message: str) -> ConfigError:
        """Return the error to raise about the setting `name`, with the file and the line."""
        line = line_of(self._text, name)
        where = f"{self._path}, line {line}" if line else str(self._path)
        return ConfigError(f"{where}: {message}")

    def setting(self, section: str, key: str, value: Any) -> Any:
        """Return the value if the setting exists and allows it. Raises `ConfigError`."""
        name = f"{section}.{key}" if section else key
        known = {s.key: s for s in SETTINGS if s.section == section}
        setting = known.get(key)
        if setting is None:
            place = f"[{section}]" if section else "the top part"
            message = f"there is no setting {_shown(key)!r}{_near(key, known)}"
            raise self.error(name, f"{message}; in {place} there are {_listed(known)}")
        if not setting.is_allowed(value):
            near = _near(value, setting.choices()) if isinstance(value, str) else ""
            allowed = f"one of {_listed(theme_names())}" if name == "theme" else setting.allowed
            raise self.error(name, f"{name} is {_shown_value(value)}{near}; it must be {allowed}")
        return value

    def keys(self, given: Mapping[str, Any]) -> dict[str, str]:
        """Return the changed keys by command name. Raises `ConfigError`."""
        from mutitask_tui.dashboard.keys.keymap import KeyProblem, checked_keys

        try:
            return checked_keys(given)
        except KeyProblem as problem:
            raise self.error(f"keys.{problem.name}", str(problem)) from None


def line_of(text: str, name: str) -> int | None:
    """Return the line of a setting (`layout.density`) or a section (`layout`); None where it is not found."""
    section = name.rpartition(".")[0]
    current = ""
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[+\s*([^]#]+?)\s*\]+", line)
        if header:
            current = _bare(header[1])
            if current == name and not section:
                return number
            continue
        found = re.match(r"""\s*((?:"[^"]*"|'[^']*'|[\w.\- ])+?)\s*=""", line)
        full = ".".join(filter(None, (current, _bare(found[1])))) if found else ""
        if full and (full == name or (not section and full.partition(".")[0] == name)):
            return number
    return None


def _bare(name: str) -> str:
    """Return a dotted name without spaces and quotes around its parts."""
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _shown(value: object) -> str:
    """Return text from the file in a form that is safe in a message."""
    from mutitask_tui.dashboard.safe_text import safe_str

    return safe_str(value, 60)


def _shown_value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return repr(_shown(value)) if isinstance(value, str) else _shown(value)


def _near(word: Any, words: Iterable[str]) -> str:
    near = difflib.get_close_matches(str(word), list(words), 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)


def _first_line(error: Exception) -> str:
    return _shown(str(error).splitlines()[0] if str(error) else "it cannot be read")
