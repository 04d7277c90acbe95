"""How many examples hypothesis tries: as a test says, twenty times that with HYPOTHESIS_PROFILE=long."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
LONG = PROFILE == "long"
SINGLE = os.environ.get("MUTITASK_TEST_TOPOLOGY", "single") == "single"


def examples(count: int) -> int:
    """`count`, or many more in a long run; fewer on a cluster and with Sentinels, where the same logic runs again."""
    return count * (20 if LONG else 1) if SINGLE else count // 5
