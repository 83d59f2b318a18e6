"""When a quota comes back: durations, reset times and the end of Google's day, from any of the places they stand in.

In: texts of an upstream answer and the wall clock (seconds since the epoch). Out: seconds, or deadlines on that clock.
No row of the verdict tables reads a clock itself. Sources: docs/protocol.md 3.4-3.6, S34-S35.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from datetime import time as day_time
from typing import Final
from zoneinfo import ZoneInfo

SHORTEST_DELAY: Final = 1.0
"""Seconds; a hint below it still rests that long, or the same slot is refused again at once (docs/protocol.md 3.3)."""

LONGEST_DELAY: Final = 30 * 86_400.0
"""Seconds; a longer hint is a mistake, and must not become infinity, which means parked."""

MINUTE_QUOTA_DELAY: Final = 60.0
"""Seconds that a per-minute quota rests when no hint came (docs/protocol.md 3.5, step 10)."""

_PACIFIC: Final = ZoneInfo("America/Los_Angeles")
_UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_UNIT: Final = "ms|us|µs|ns|d|h|m|s"
_DURATION_PIECE: Final = re.compile(rf"(\d+(?:\.\d*)?)({_UNIT})")
_DURATION: Final = rf"(?:\d+(?:\.\d*)?(?:{_UNIT}))+"
_WHOLE_DURATION: Final = re.compile(_DURATION)
_DELAY_IN_PROSE: Final = re.compile(
    rf"(?i)\b(?:reset(?:s|ting)?|retry|try again)\s+(?:after|in)\s+({_DURATION}\b|\d+(?:\.\d+)?(?= seconds?\b))"
)
_HTTP_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"


def seconds(text: str) -> float | None:
    """Return a duration such as ``56.18s``, ``900ms`` or ``161h39m41.3s`` in seconds; None for anything else."""
    text = text.strip()
    if not _WHOLE_DURATION.fullmatch(text):
        return None
    return min(sum(float(number) * _UNITS[unit] for number, unit in _DURATION_PIECE.findall(text)), LONGEST_DELAY)


def prose(message: str) -> float | None:
    """Return the delay named in a sentence: "Please retry in 38.8s", "will reset after 4h28m20s", "Resets in 9h"."""
    found = _DELAY_IN_PROSE.search(message)
    return (seconds(found.group(1)) or seconds(found.group(1) + "s")) if found else None


def timestamp(text: str) -> float | None:
    """Return an RFC 3339 time as seconds since the epoch; None for anything else."""
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def retry_after(header: str, now: float) -> float | None:
    """Return the delay of a ``Retry-After`` header (RFC 9110 10.2.3: seconds or an HTTP date) in seconds."""
    header = header.strip()
    if re.fullmatch(r"\d{1,9}(?:\.\d{0,9})?", header, re.ASCII):
        return float(header)
    try:
        return datetime.strptime(header, _HTTP_DATE).replace(tzinfo=UTC).timestamp() - now
    except ValueError:
        return None


def first_delay(candidates: Iterable[float | None]) -> float | None:
    """Return the first delay that says something, within bounds; 0 and the past say nothing (docs/protocol.md 3.5)."""
    for delay in candidates:
        if delay is not None and delay > 0:
            return min(max(delay, SHORTEST_DELAY), LONGEST_DELAY)
    return None


def midnight_pacific(now: float) -> float:
    """Return the next midnight in Los Angeles, in its summer time: daily quotas come back (docs/protocol.md 3.4)."""
    today = datetime.fromtimestamp(now, _PACIFIC).date()
    return datetime.combine(today + timedelta(days=1), day_time(), _PACIFIC).timestamp()
