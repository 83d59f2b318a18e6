"""(edge) Waiting for a credential when every fit one is at its cap: in order, for a bounded time.

Who waits longest is served first of all whom a free credential can serve. Those that differ in what can serve them
(model, what they have tried, upstreams, cooldowns of some requests only) wait in lines of their own, or one would hold
up the rest.

The rotator stays synchronous and decides; this only asks it again: when a lease came back, when a cooldown ends, and
every ``BUSY_WAIT`` seconds, since a reload, a check or another process may have changed the pool.
"""

from __future__ import annotations

import asyncio
import heapq
from bisect import insort
from collections import deque
from collections.abc import Callable, Collection

from msgspec import Struct

from gemproxy.errors import NoCredential, forget_way
from gemproxy.pool.rotator import BUSY_WAIT, Rotator
from gemproxy.pool.slot import Lease
from gemproxy.upstream.demand import PLAIN_DEMAND, Demand
from gemproxy.upstream.dialect import Verdict

# a model, the kinds of requests for it that rest apart, what they have tried, and which upstreams may serve them
Line = tuple[str, tuple[str, ...], frozenset[str], tuple[str, ...] | None]


class Waiting(Struct, eq=False):
    """One request in line. ``turn`` gets its lease, or why there will be none."""

    number: int  # in the order of arrival
    model: str
    tried: frozenset[str]
    dialects: tuple[str, ...] | None
    demand: Demand
    turn: asyncio.Future[Lease]
    line: Line = ("", (), frozenset(), None)


class Queue:
    """The rotator, with a queue in front. ``limit`` in seconds (``timeouts.queue``); 0: nobody waits.

    ``on_report`` hears what came of every lease.
    """

    def __init__(self, rotator: Rotator, limit: float) -> None:
        self.rotator = rotator
        self.limit = limit
        self.on_report: Callable[[Lease, Verdict | None], None] | None = None
        self._lines: dict[Line, deque[Waiting]] = {}
        self._arrivals = 0
        self._timer: asyncio.TimerHandle | None = None

    async def acquire(
        self, model: str, tried: Collection[str], dialects: Collection[str] | None, demand: Demand = PLAIN_DEMAND
    ) -> Lease:
        """Return a lease as ``Rotator.acquire`` does; raises ``NoCredential`` when none came free in time."""
        try:
            return self.at_once(model, tried, dialects, demand)
        except NoCredential as none:
            if not none.full or not self.limit:
                raise
            patience = none.returns_in or BUSY_WAIT
        self._arrivals += 1
        upstreams, turn = None if dialects is None else tuple(dialects), asyncio.get_running_loop().create_future()
        waiting = Waiting(self._arrivals, model, frozenset(tried), upstreams, demand, turn)
        try:
            async with asyncio.timeout(self.limit):
                return await self._queue(waiting, patience)
        except TimeoutError:
            raise self._timed_out(model) from None

    def at_once(
        self,
        model: str,
        tried: Collection[str],
        dialects: Collection[str] | None = None,
        demand: Demand = PLAIN_DEMAND,
    ) -> Lease:
        """Return a lease without waiting; raises ``NoCredential`` when there is none."""
        if self._lines:
            self._serve()  # so that what is left is nothing to those who came before
        return self.rotator.acquire(model, tried, dialects, demand)

    def report(self, lease: Lease, verdict: Verdict | None) -> None:
        """Give a lease back and serve those who wait."""
        self.rotator.report(lease, verdict)
        if self.on_report is not None:
            self.on_report(lease, verdict)
        if self._lines:
            self._serve()

    def confirm(self, lease: Lease) -> None:
        """A probe passed: others need not wait for its end."""
        if lease.probe:
            self.rotator.confirm(lease)
            self._serve()

    async def _queue(self, waiting: Waiting, patience: float) -> Lease:
        self._join(waiting)
        self._look_again(patience)
        try:
            return await waiting.turn
        except asyncio.CancelledError:
            self._leave(waiting)
            if not waiting.turn.cancelled() and waiting.turn.exception() is None:  # it got a lease in the same moment
                self.report(waiting.turn.result(), None)
            raise

    def _join(self, waiting: Waiting) -> None:
        waiting.line = self._line(waiting)
        insort(self._lines.setdefault(waiting.line, deque()), waiting, key=_number)

    def _leave(self, waiting: Waiting) -> None:
        line = self._lines.get(waiting.line)
        if line is not None and waiting in line:
            line.remove(waiting)
            if not line:
                del self._lines[waiting.line]

    def _line(self, waiting: Waiting) -> Line:
        held = self.rotator.held(waiting.model, waiting.demand)
        return waiting.model, held, waiting.tried, waiting.dialects

    def _serve(self) -> None:
        """Give those who wait what there is, the longest waiting first; of each line until its first must wait on."""
        firsts = [(line[0].number, key) for key, line in self._lines.items()]
        heapq.heapify(firsts)
        patience = BUSY_WAIT
        while firsts:
            key = heapq.heappop(firsts)[1]
            if key not in self._lines:  # it was here twice, and all of it is served
                continue
            first = self._lines[key][0]
            wait = self._try(first)
            if wait is not None and self._line(first) == key:
                patience = min(patience, wait)
                continue
            self._leave(first)
            if wait is not None:  # since it came, requests like it have begun to rest apart
                self._join(first)
                heapq.heappush(firsts, (first.number, first.line))
            if key in self._lines:
                heapq.heappush(firsts, (self._lines[key][0].number, key))
        if self._lines:
            self._look_again(patience)

    def _look_again(self, patience: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if loop.time() < self._timer.when() <= loop.time() + patience:
                return
            self._timer.cancel()
        self._timer = loop.call_later(patience, self._serve)

    def _try(self, waiting: Waiting) -> float | None:
        """Return the seconds after which to try again; None: it need wait no longer, or has left."""
        if waiting.turn.done():
            return None
        try:
            lease = self.rotator.acquire(waiting.model, waiting.tried, waiting.dialects, waiting.demand)
        except NoCredential as none:
            if none.full:
                return none.returns_in or BUSY_WAIT
            forget_way(none)
            waiting.turn.set_exception(none)
        else:
            waiting.turn.set_result(lease)
        return None

    def _timed_out(self, model: str) -> NoCredential:
        return NoCredential(
            f"Every credential for {model!r} is busy (rotation.max_in_flight) and none came free within "
            f"timeouts.queue = {self.limit:g} s.",
            returns_in=BUSY_WAIT,
            full=True,
        )


def _number(waiting: Waiting) -> int:
    return waiting.number
