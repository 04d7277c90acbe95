"""The config file of a person's dashboard: which settings there are, where they stand, what is wrong with them.

Read with `tomllib` into frozen dataclasses. Whatever is wrong is one `ConfigError`, which names the file, the
line and what is allowed. `config_edit.py` changes a value in the file's text and leaves the rest as it stands.
"""

from __future__ import annotations

import difflib
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from worker_agent.protocol.errors import MutiTaskError

FILE_VARIABLE = "MUTITASK_CONFIG_FILE"
MOST_BYTES = 1_000_000

Density = Literal["auto", "roomy", "dense"]
SORT_COLUMNS = ("device", "state", "channel", "running", "age", "rate", "done", "errors", "seen", "host")
CHART_MINUTES = (1, 2, 5, 15, 60)


class ConfigError(MutiTaskError):
    """The config file cannot be used; the text names the file, the line and what is allowed."""

    exit_status = 2


@dataclass(frozen=True, slots=True)
class Layout:
    """How the dashboard's panels are laid out."""

    density: Density = "auto"
    """One line for each device, or three; `auto`: by their number."""
    hide_offline: bool = False
    """Whether offline devices are left out of the grid."""
    chart_minutes: int = 60
    """How many minutes the chart screen shows."""


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting, with its default."""

    theme: str = "mutitask"
    sort: str = "device"
    """The grid's column to sort by; with `-` before it from the largest down."""
    refresh: float = 0.5
    """Seconds from a snapshot to the next question."""
    layout: Layout = Layout()
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys by command name, as Textual names keys, several with commas between."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A config and where each of its settings came from."""

    config: Config
    path: Path
    lines: Mapping[str, int | None]
    """Of each setting that stands in the file (`theme`, `layout.density`, `keys.pause_all`): its line, where
    it was found."""
    exists: bool


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the file, but for the keys: its name, how it is read, what is allowed."""

    name: str
    """With its section: `layout.density`."""
    allowed: str
    """For a message: `one of auto, roomy, dense`."""
    fits: Callable[[Any], bool]
    choices: Callable[[], Iterable[str]] = tuple
    """Where it is one of some words: those, so that the nearest can be named."""

    @property
    def section(self) -> str:
        """The table that it stands in; '' for the top of the file."""
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Its name in that table."""
        return self.name.rpartition(".")[2]


def theme_names() -> tuple[str, ...]:
    """Ours first, then Textual's."""
    # The dashboard's room first: it says how often Textual draws before Textual reads that.
    from mutitask_tui.dashboard.themes import THEMES  # isort: skip
    from textual.theme import BUILTIN_THEMES

    return (*(theme.name for theme in THEMES), *sorted(BUILTIN_THEMES))


def _sorts() -> tuple[str, ...]:
    return tuple(sign + column for sign in ("", "-") for column in SORT_COLUMNS)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


SETTINGS: tuple[Setting, ...] = (
    Setting("theme", "a theme's name", lambda v: v in theme_names(), theme_names),
    Setting(
        "sort",
        f"one of {', '.join(SORT_COLUMNS)}, with - before it from the largest down",
        # `failed` is what `errors` was called before.
        lambda v: v in (*_sorts(), "failed", "-failed"),
        _sorts,
    ),
    Setting("refresh", "a number of seconds from 0.1 to 60", lambda v: _is_number(v) and 0.1 <= v <= 60),
    Setting(
        "layout.density",
        "one of auto, roomy, dense",
        lambda v: v in ("auto", "roomy", "dense"),
        lambda: ("auto", "roomy", "dense"),
    ),
    Setting("layout.hide_offline", "true or false", lambda v: isinstance(v, bool)),
    Setting(
        "layout.chart_minutes",
        f"one of {', '.join(map(str, CHART_MINUTES))}",
        lambda v: not isinstance(v, bool) and v in CHART_MINUTES,
    ),
)
"""All but the keys, in the order in which they are shown."""

SECTIONS = ("layout", "keys")


def config_path() -> Path:
    """The file in use: `MUTITASK_CONFIG_FILE`, else `mutitask/config.toml` in the user's config directory."""
    if named := os.environ.get(FILE_VARIABLE):
        return Path(named).expanduser()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification has relative paths ignored.
    base = Path(home) if home and Path(home).is_absolute() else Path.home() / ".config"
    return base / "mutitask" / "config.toml"


def load(path: Path | None = None) -> Loaded:
    """The config; the defaults where there is no file. Raises `ConfigError`."""
    path = path or config_path()
    text = read_text(path)
    if text is None:
        return Loaded(Config(), path, {}, exists=False)
    config, lines = parse(text, path)
    return Loaded(config, path, lines, exists=True)


def read_text(path: Path) -> str | None:
    """The file's text; None where there is none. Raises `ConfigError`."""
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{path} cannot be read ({why}): mend that, or name another file with {FILE_VARIABLE}"
        ) from None
    if len(raw) > MOST_BYTES:
        raise ConfigError(f"{path} is larger than {MOST_BYTES:,} bytes: that is no config file of MutiTask")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: not UTF-8: save the file as UTF-8") from None


def parse(text: str, path: Path) -> tuple[Config, dict[str, int | None]]:
    """The config that `text` holds, and the line of each setting in it. Raises `ConfigError`."""
    from mutitask_tui.dashboard.actions.keymap import full_name

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {_first_line(error)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: not TOML: nested too deeply") from None
    checked = _Checked(text, path)
    values: dict[str, Any] = {}
    for name, value in data.items():
        if name in SECTIONS:
            if not isinstance(value, dict):
                raise checked.wrong(name, f"{name} is a section: write [{name}] and its settings under it")
        elif isinstance(value, dict):
            sections = _listed(f"[{section}]" for section in SECTIONS)
            near = _near(name, SECTIONS)
            raise checked.wrong(name, f"there is no section [{_shown(name)}]{near}; there are {sections}")
        else:
            values[name] = checked.setting("", name, value)
    layout = {key: checked.setting("layout", key, value) for key, value in data.get("layout", {}).items()}
    keys = checked.keys(data.get("keys", {}))
    lines = {name: line_of(text, name) for name in (*values, *(f"layout.{key}" for key in layout))}
    lines |= {f"keys.{full_name(word)}": line_of(text, f"keys.{word}") for word in data.get("keys", {})}
    if "refresh" in values:
        values["refresh"] = float(values["refresh"])
    return Config(**values, layout=Layout(**layout), keys=keys), lines


class _Checked:
    """The values of one file, each looked at."""

    def __init__(self, text: str, path: Path) -> None:
        self._text = text
        self._path = path

    def wrong(self, name: str, what: str) -> ConfigError:
        """What to raise about the setting of that name."""
        line = line_of(self._text, name)
        where = f"{self._path}, line {line}" if line else str(self._path)
        return ConfigError(f"{where}: {what}")

    def setting(self, section: str, key: str, value: Any) -> Any:
        """The value, if there is such a setting and it may have it."""
        name = f"{section}.{key}" if section else key
        known = {s.key: s for s in SETTINGS if s.section == section}
        setting = known.get(key)
        if setting is None:
            place = f"[{section}]" if section else "the top part"
            what = f"there is no setting {_shown(key)!r}{_near(key, known)}"
            raise self.wrong(name, f"{what}; in {place} there are {_listed(known)}")
        if not setting.fits(value):
            near = _near(value, setting.choices()) if isinstance(value, str) else ""
            allowed = f"one of {_listed(theme_names())}" if name == "theme" else setting.allowed
            raise self.wrong(name, f"{name} is {_shown_value(value)}{near}; it must be {allowed}")
        return value

    def keys(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The remapped keys by command name, no key twice and every command there."""
        from mutitask_tui.dashboard.actions.keymap import KeyProblem, checked_keys

        try:
            return checked_keys(given)
        except KeyProblem as problem:
            raise self.wrong(f"keys.{problem.name}", str(problem)) from None


def line_of(text: str, name: str) -> int | None:
    """The line at which a setting (`layout.density`) or a section (`layout`) stands; None where that cannot be
    told."""
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
    return ".".join(part.strip().strip("\"'") for part in name.split("."))


def _shown(value: object) -> str:
    """Text from the file, fit to stand in a message."""
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
