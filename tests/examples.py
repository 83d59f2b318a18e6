"""How many examples a test draws that is dear by the example; ``EXAMPLES=5000 pytest …`` looks longer, for new ones.

Without it, and in CI with it too, they are the same in every run: a gate must not change its mind.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("EXAMPLES", "0"))


def draws(usual: int, share: int = 1, **more: Any) -> settings:
    """Return the settings of a test that draws ``usual`` examples, or a ``share``-th of those that are asked for."""
    return settings(
        max_examples=EXAMPLES // share or usual,
        derandomize=not EXAMPLES or "CI" in os.environ,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **more,
    )
