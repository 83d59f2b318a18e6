"""How far this machine's clock is from Google's. Pure: both clocks and ``Date`` headers in, a difference out.

A request that is signed is good for minutes only: on a machine whose clock is wrong Google refuses it in words that
blame the account. What was heard once stays true of the steady clock, so that a clock that is set right, or wrong, is
seen without asking again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

TOLERANCE: Final = 300.0  # seconds; Google's own for the times of a signed request
_UNITS: Final = ((2 * 86400.0, 86400.0, "days"), (7200.0, 3600.0, "hours"), (0.0, 60.0, "minutes"))


class Skew:
    """``wall`` and ``steady`` return seconds; only the first may jump. ``on_change`` hears when right turns wrong or
    wrong right, as seen when Google is heard.
    """

    def __init__(self, wall: Callable[[], float], steady: Callable[[], float]) -> None:
        self.on_change: Callable[[], None] | None = None
        self._wall = wall
        self._steady = steady
        self._base: float | None = None  # Google's time when the steady clock stood at 0
        self._wrong = False

    def note(self, headers: Mapping[str, str]) -> None:
        """Hear Google's time, if an answer tells it."""
        told = _seconds(headers.get("Date") or "")
        if told is None:
            return
        self._base = told - self._steady()
        if self._wrong is not self.wrong:
            self._wrong = self.wrong
            if self.on_change is not None:
                self.on_change()

    @property
    def ahead(self) -> float:
        """Return the seconds that this machine's clock is ahead now, below 0 if behind; 0 while nobody knows."""
        return 0.0 if self._base is None else self._wall() - self._steady() - self._base

    @property
    def wrong(self) -> bool:
        """Return whether signed requests are refused for it."""
        return abs(self.ahead) > TOLERANCE

    @property
    def words(self) -> str:
        """Return what an operator reads; "" while the clock is right."""
        if not self.wrong:
            return ""
        off = 60 * round(abs(self.ahead) / 60)
        length, unit = next((length, unit) for least, length, unit in _UNITS if off >= least)
        return (
            f"this machine's clock is {off / length:.0f} {unit} {'ahead of' if self.ahead > 0 else 'behind'} Google's"
        )


def _seconds(date: str) -> float | None:
    try:
        read = parsedate_to_datetime(date)
        # always in UTC (RFC 9110 5.6.7); what names no zone would be taken for the time of this machine's
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError):
        return None
