"""(edge) Places that callers share: so many in all, so many for each, and a free one goes to who holds the fewest.

In: names of callers. Out: a place, when there is one. Must not let what one caller waits for keep one from another.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Shares:
    """``most`` places in all, ``each`` for one caller; callers with nothing taken or wanted cost nothing."""

    def __init__(self, most: int, each: int) -> None:
        self._free = most
        self._each = each
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def place(self, caller: str) -> AsyncIterator[None]:
        """Hold a place, when the caller has one."""
        await self.take(caller)
        try:
            yield
        finally:
            self.give(caller)

    async def take(self, caller: str) -> None:
        """Return when the caller has a place; ``give`` must follow. Those that wait get theirs in order."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(place)
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                self._forget(caller, place)
            else:  # it was given one in the same moment
                self.give(caller)
            raise

    def give(self, caller: str) -> None:
        """Give a place back."""
        self._free += 1
        self._held[caller] -= 1
        if not self._held[caller]:
            del self._held[caller]
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free:
            wanting = [caller for caller in self._waiting if self._held[caller] < self._each]
            if not wanting:
                return
            caller = min(wanting, key=self._held.__getitem__)
            place = self._waiting[caller][0]
            self._forget(caller, place)
            if not place.done():
                self._free -= 1
                self._held[caller] += 1
                place.set_result(None)

    def _forget(self, caller: str, place: asyncio.Future[None]) -> None:
        queue = self._waiting.get(caller)
        if queue is not None and place in queue:
            queue.remove(place)
            if not queue:
                del self._waiting[caller]
