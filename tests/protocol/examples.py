"""How many examples hypothesis tries: as many as a test says, twenty times that with HYPOTHESIS_PROFILE=long."""

from __future__ import annotations

import os

LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"


def examples(count: int) -> int:
    """`count`, or many more in a long run."""
    return count * (20 if LONG else 1)
