"""How many examples hypothesis tries. HYPOTHESIS_PROFILE=long multiplies the number of a test by 20."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "short")
LONG = PROFILE == "long"
SINGLE = os.environ.get("MUTITASK_TEST_TOPOLOGY", "single") == "single"


def examples(count: int) -> int:
    """Return `count`, 20 times as many in a long run, or a fifth on a cluster or with Sentinels, where tests repeat."""
    return count * (20 if LONG else 1) if SINGLE else count // 5
