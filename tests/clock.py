"""A wall clock turned by hand."""

from __future__ import annotations


class Clock:
    """Seconds since the epoch; it stands still until ``advance``."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Turn the clock and return the new time."""
        self.now += seconds
        return self.now
