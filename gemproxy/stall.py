"""(edge) Ends what stands still: one timer per stream instead of one timeout object per chunk.

``start`` before a wait that may hang, ``stop`` after it: two assignments a chunk. The timer looks only when the limit
could have passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class StallWatch:
    """Calls ``expire`` once when one wait took longer than ``limit`` seconds; then ``expired`` is True."""

    __slots__ = ("_expire", "_limit", "_loop", "_since", "_timer", "expired")

    def __init__(self, limit: float, expire: Callable[[], object]) -> None:
        self._loop = asyncio.get_running_loop()
        self._limit = limit
        self._expire = expire
        self._since: float | None = None
        self.expired = False
        self._timer = self._loop.call_later(limit, self._look)

    def start(self) -> None:
        """A wait begins."""
        self._since = self._loop.time()

    def stop(self) -> None:
        """The wait is over."""
        self._since = None

    def close(self) -> None:
        """Nothing is watched any more."""
        self._timer.cancel()

    def _look(self) -> None:
        waited = 0.0 if self._since is None else self._loop.time() - self._since
        if waited >= self._limit:
            self.expired = True
            self._expire()
        else:
            self._timer = self._loop.call_later(self._limit - waited, self._look)
