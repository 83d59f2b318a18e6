"""What the suites measured, printed at the end of the run (``conftest``): figures for people, asserted elsewhere."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

TOLD: list[str] = []


def note(line: str) -> None:
    """Keep a line, or a whole table, for the end of the run."""
    TOLD.append(line)


def spread(seconds: Sequence[float]) -> str:
    """Return median and worst of some times in milliseconds."""
    return f"median {statistics.median(seconds) * 1000:.1f} ms, worst {max(seconds) * 1000:.1f} ms of {len(seconds)}"
