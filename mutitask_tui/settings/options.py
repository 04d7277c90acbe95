"""The settings of the dashboard's config file: their names, their defaults and the values that are allowed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Density = Literal["auto", "roomy", "dense"]
DENSITIES: tuple[Density, ...] = ("auto", "roomy", "dense")
SORT_COLUMNS = ("device", "state", "channel", "running", "age", "rate", "done", "errors", "seen", "host")
CHANNEL_SORT_COLUMNS = (
    "auto", "fault", "channel", "state", "rate", "waiting", "age", "done", "failed", "errors", "devices",
)  # fmt: skip
CHART_MINUTES = (1, 2, 5, 15, 60)


@dataclass(frozen=True, slots=True)
class Layout:
    """How the dashboard's panels are laid out."""

    density: Density = "auto"
    """`dense`: one line for each device; `roomy`: three; `auto`: chosen by the number of devices."""
    hide_offline: bool = False
    """Whether the grid leaves out offline devices."""
    chart_minutes: int = 60
    """How many minutes the chart screen shows at most."""
    channel_density: Density = "auto"
    """`dense`: one line for each channel; `roomy`: two; `auto`: chosen by the number of channels."""
    channel_sort: str = "auto"
    """The column that the channels are sorted by; with `-` before it in descending order."""


@dataclass(frozen=True, slots=True)
class Config:
    """Every setting with its default."""

    theme: str = "mutitask"
    sort: str = "device"
    """The column that the grid is sorted by; with `-` before it in descending order."""
    refresh: float = 0.5
    """Seconds between the arrival of a snapshot and the next request."""
    layout: Layout = Layout()
    keys: Mapping[str, str] = field(default_factory=dict)
    """Keys by command name, in Textual's names; several keys are separated by commas."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting other than a key: its name and the values that are allowed."""

    name: str
    """The name with its section: `layout.density`."""
    allowed: str
    """The allowed values for an error message: `one of auto, roomy, dense`."""
    is_allowed: Callable[[Any], bool]
    choices: Callable[[], Iterable[str]] = tuple
    """The allowed words, if the value is one of a fixed set. An error message names the closest one."""

    @property
    def section(self) -> str:
        """The section that contains it; '' for the top of the file."""
        return self.name.rpartition(".")[0]

    @property
    def key(self) -> str:
        """Its name within the section."""
        return self.name.rpartition(".")[2]


def theme_names() -> tuple[str, ...]:
    """Return the names of all themes: MutiTask's own first, then Textual's."""
    # Import the dashboard's package before Textual: it sets the frame rate that Textual reads at its import.
    from mutitask_tui.dashboard.themes import THEMES  # isort: skip
    from textual.theme import BUILTIN_THEMES

    return (*(theme.name for theme in THEMES), *sorted(BUILTIN_THEMES))


def _sort_orders(columns: Iterable[str] = SORT_COLUMNS) -> tuple[str, ...]:
    return tuple(sign + column for column in columns for sign in ("", "-"))


def _channel_sort_orders() -> tuple[str, ...]:
    return tuple(order for order in _sort_orders(CHANNEL_SORT_COLUMNS) if order != "-auto")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


SETTINGS: tuple[Setting, ...] = (
    Setting("theme", "a theme's name", lambda v: v in theme_names(), theme_names),
    Setting(
        "sort",
        f"one of {', '.join(SORT_COLUMNS)}, with - before it from the largest down",
        # Accept `failed`, the former name of `errors`, so that old files stay valid.
        lambda v: v in (*_sort_orders(), "failed", "-failed"),
        _sort_orders,
    ),
    Setting("refresh", "a number of seconds from 0.1 to 60", lambda v: _is_number(v) and 0.1 <= v <= 60),
    Setting("layout.density", f"one of {', '.join(DENSITIES)}", lambda v: v in DENSITIES, lambda: DENSITIES),
    Setting("layout.hide_offline", "true or false", lambda v: isinstance(v, bool)),
    Setting(
        "layout.channel_density",
        f"one of {', '.join(DENSITIES)}",
        lambda v: v in DENSITIES,
        lambda: DENSITIES,
    ),
    Setting(
        "layout.channel_sort",
        f"one of {', '.join(CHANNEL_SORT_COLUMNS)}, with - before it from the largest down",
        lambda v: v in _channel_sort_orders(),
        _channel_sort_orders,
    ),
    Setting(
        "layout.chart_minutes",
        f"one of {', '.join(map(str, CHART_MINUTES))}",
        lambda v: not isinstance(v, bool) and v in CHART_MINUTES,
    ),
)
"""All settings except the keys, in the order in which they are shown."""

SECTIONS = ("layout", "keys")
