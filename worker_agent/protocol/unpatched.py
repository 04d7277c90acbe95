"""Copies of `time` and `json`, made at import. A job that replaces functions in those modules does not change them."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import json
    import time
else:
    import json as _json
    import time as _time

    def _copy(module: ModuleType) -> ModuleType:
        copy = ModuleType(module.__name__, module.__doc__)
        vars(copy).update(vars(module))
        return copy

    json, time = _copy(_json), _copy(_time)

__all__ = ["json", "time"]
