"""(edge) Ends what stands still: one timer for all waits of a kind instead of one timeout object per chunk.

``start`` before a wait that may hang, ``stop`` after it: two assignments a chunk. A timer a limit looks after all of
them a few times within it, so a wait may last a quarter longer than its limit.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

LOOKS = 4  # within one limit


class StallWatch:
    """Calls ``expire`` once when one wait took longer than ``limit`` seconds; then ``expired`` is True."""

    __slots__ = ("_expire", "_round", "_since", "expired")

    def __init__(self, limit: float, expire: Callable[[], object]) -> None:
        self._expire = expire
        self._since = 0.0  # the loop's time at which the wait began; 0: nobody waits
        self._round = _round(asyncio.get_running_loop(), limit)
        self._round.add(self)
        self.expired = False

    def start(self) -> None:
        """A wait begins."""
        self._since = self._round.time()

    def stop(self) -> None:
        """The wait is over."""
        self._since = 0.0

    def close(self) -> None:
        """Nothing is watched any more."""
        self._round.watches.discard(self)

    def look(self, oldest: float) -> None:
        """End the wait if it began before ``oldest``."""
        if 0.0 < self._since < oldest:
            self.close()
            self.expired = True
            self._expire()


class Round:
    """All watches of one limit on one loop; its timer runs as long as there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        self.time = loop.time
        self.watches: set[StallWatch] = set()
        self._call_later = loop.call_later
        self._limit = limit
        self._walking = False

    def add(self, watch: StallWatch) -> None:
        """Watch one more."""
        self.watches.add(watch)
        if not self._walking:
            self._walking = True
            self._call_later(self._limit / LOOKS, self._walk)

    def _walk(self) -> None:
        oldest = self.time() - self._limit
        for watch in list(self.watches):
            watch.look(oldest)
        self._walking = bool(self.watches)
        if self._walking:
            self._call_later(self._limit / LOOKS, self._walk)


_rounds: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[float, Round]] = weakref.WeakKeyDictionary()


def _round(loop: asyncio.AbstractEventLoop, limit: float) -> Round:
    rounds = _rounds.get(loop)
    if rounds is None:
        rounds = _rounds[loop] = {}
    found = rounds.get(limit)
    if found is None:
        found = rounds[limit] = Round(loop, limit)
    return found
