"""What the last detect found, kept for a while so that the grid can show it in its place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KEPT_MS = 15_000


class Detections:
    """Short-lived words on devices: a round trip, or that no answer came."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[str, bool, int]] = {}

    def add(self, data: Mapping[str, Any], now_ms: int) -> None:
        """Take in the data of a detect's outcome."""
        devices = data.get("devices")
        if not isinstance(devices, Mapping):
            return
        for number, answer in devices.items():
            ms = answer.get("ms") if isinstance(answer, Mapping) else None
            text = "no answer" if ms is None else f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
            self._found[int(number)] = (text, ms is not None, now_ms + KEPT_MS)

    def at(self, now_ms: int) -> dict[int, tuple[str, bool]]:
        """What still holds: the words, and whether they are good news."""
        self._found = {number: found for number, found in self._found.items() if found[2] > now_ms}
        return {number: (text, good) for number, (text, good, _) in self._found.items()}
