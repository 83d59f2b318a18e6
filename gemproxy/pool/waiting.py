"""(edge) Waiting for a credential when every fit one is at its cap: in order, per model, for a bounded time.

Requests for a model that rest apart from the others wait apart, too, or one of them would hold up the rest.

The rotator stays synchronous and decides; this only asks it again: when a lease came back, when a rest ends, and every
``BUSY_WAIT`` seconds, since a reload, a check or another process may have changed the pool.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Container

from gemproxy.errors import NoCredential
from gemproxy.pool.rotator import BUSY_WAIT, Rotator
from gemproxy.pool.slot import Lease
from gemproxy.upstream.demand import PLAIN, Demand
from gemproxy.upstream.dialect import Verdict

Line = tuple[str, tuple[str, ...]]  # a model, and the kinds of requests that wait for it apart


class WaitingRoom:
    """The rotator, with a queue in front. ``limit`` in seconds (``timeouts.queue``); 0: nobody waits.

    ``on_report`` hears what came of every lease.
    """

    def __init__(self, rotator: Rotator, limit: float) -> None:
        self.rotator = rotator
        self.limit = limit
        self.on_report: Callable[[Lease, Verdict | None], None] | None = None
        self._lines: dict[Line, deque[asyncio.Future[None]]] = {}

    async def acquire(
        self, model: str, tried: Container[str], dialects: Container[str] | None, demand: Demand = PLAIN
    ) -> Lease:
        """Return a lease as ``Rotator.acquire`` does; raises ``NoCredential`` when none came free in time."""
        if not self._lines or self._line(model, demand) not in self._lines:
            try:
                return self.rotator.acquire(model, tried, dialects, demand)
            except NoCredential as none:
                if not none.full or not self.limit:
                    raise
        try:
            async with asyncio.timeout(self.limit):
                return await self._queue(model, tried, dialects, demand)
        except TimeoutError:
            raise self._timed_out(model) from None

    def report(self, lease: Lease, verdict: Verdict | None) -> None:
        """Give a lease back and let those who wait look again."""
        self.rotator.report(lease, verdict)
        if self.on_report is not None:
            self.on_report(lease, verdict)
        if self._lines:
            self._wake()

    def confirm(self, lease: Lease) -> None:
        """A probe passed: others need not wait for its end."""
        if lease.probe:
            self.rotator.confirm(lease)
            self._wake()

    def _line(self, model: str, demand: Demand) -> Line:
        return model, self.rotator.held(model, demand)

    async def _queue(self, model: str, tried: Container[str], dialects: Container[str] | None, demand: Demand) -> Lease:
        loop = asyncio.get_running_loop()
        place = self._line(model, demand)
        line = self._lines.setdefault(place, deque())
        turn: asyncio.Future[None] = loop.create_future()
        line.append(turn)
        try:
            if line[0] is not turn:
                await turn
            while True:
                try:
                    return self.rotator.acquire(model, tried, dialects, demand)
                except NoCredential as none:
                    if not none.full:
                        raise
                    returns_in = none.returns_in or BUSY_WAIT
                turn = line[0] = loop.create_future()
                await _called(turn, returns_in)
        finally:
            line.remove(turn)
            if line:
                _call(line[0])  # there may be room for more than one
            else:
                del self._lines[place]

    def _wake(self) -> None:
        for line in self._lines.values():
            _call(line[0])

    def _timed_out(self, model: str) -> NoCredential:
        return NoCredential(
            f"Every credential for {model!r} is busy (rotation.max_in_flight) and none came free within "
            f"timeouts.queue = {self.limit:g} s.",
            returns_in=BUSY_WAIT,
            full=True,
        )


async def _called(turn: asyncio.Future[None], patience: float) -> None:
    timer = asyncio.get_running_loop().call_later(patience, _call, turn)
    try:
        await turn
    finally:
        timer.cancel()


def _call(turn: asyncio.Future[None]) -> None:
    if not turn.done():
        turn.set_result(None)
