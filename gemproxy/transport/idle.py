"""(edge) Ends what stands still: one timer for all waits of a kind instead of one timeout object per chunk.

``start`` before a wait that may hang, ``stop`` after it: two assignments a chunk, no clock. A timer a limit ticks a few
times within it, and each wait counts its ticks, so it may last a quarter longer than its limit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

TICKS_PER_LIMIT = 4
STOPPED = -(1 << 40)  # ticks of a timer whose wait is over: so many more never come


class IdleTimer:
    """Calls ``expire`` once when one wait took longer than ``limit`` seconds; then ``expired`` is True.

    ``loop`` saves asking for the running one, which is a system call (getpid) each time.
    """

    __slots__ = ("_expire", "_round", "_ticks", "expired")

    def __init__(
        self, limit: float, expire: Callable[[], object], loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._expire: Callable[[], object] | None = expire
        self._ticks = STOPPED  # since this wait began
        loop = loop or asyncio.get_running_loop()
        self._round = _rounds.get((loop, limit)) or Round(loop, limit)
        self._round.watches.add(self)
        self.expired = False

    def start(self) -> None:
        """A wait begins."""
        self._ticks = 0

    def stop(self) -> None:
        """The wait is over."""
        self._ticks = STOPPED

    def close(self) -> None:
        """Nothing is watched any more."""
        self._round.watches.discard(self)
        self._expire = None  # who expires mostly holds the watch: a circle that only the garbage collector would find

    def tick(self) -> None:
        """Count a tick; end the wait if it has seen too many."""
        self._ticks += 1
        expire = self._expire
        if self._ticks > TICKS_PER_LIMIT and expire is not None:
            self.close()
            self.expired = True
            expire()


class Round:
    """All watches of one limit on one loop; it and its timer last as long as there are any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float) -> None:
        self.watches: set[IdleTimer] = set()
        self._loop = loop
        self._limit = limit
        _rounds[loop, limit] = self
        self._later()

    def _later(self) -> None:
        self._loop.call_later(self._limit / TICKS_PER_LIMIT, self._walk)

    def _walk(self) -> None:
        for watch in list(self.watches):
            watch.tick()
        if self.watches:
            self._later()
        else:
            del _rounds[self._loop, self._limit]


_rounds: dict[tuple[asyncio.AbstractEventLoop, float], Round] = {}
