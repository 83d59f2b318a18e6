"""(edge) Name resolution for hosts that clients choose, in threads of its own.

In: a host name, and in ``CALLER`` for whom. Out: its addresses, for aiohttp's connector. Must not share the loop's
default threads: a few hosts whose name servers never answer would hold them, and with them the look-ups of Google's own
names (docs/architecture.md 13.2). Nor may one caller's silent name servers hold up another's look-ups: nothing ends a
``getaddrinfo`` but itself, after half a minute, so each look-up has a thread, and each caller a share of those.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from gemproxy.fetch.shares import Shares

CALLER: ContextVar[str] = ContextVar("caller", default="")  # aiohttp hands nothing through to a resolver
LOOKUP_TIMEOUT = 5.0  # seconds for a look-up; resolv.conf(5) gives the first name server as many
OVERDUE_AGE = 15.0  # seconds after which a thread counts against its caller no more
_COUNTED_THREADS = 128  # that count
_THREADS_EACH = 32  # of one caller: eight of its requests
_ALL_THREADS = 256  # with those that are overdue
_Found = list[tuple[Any, ...]]


class Lookup(AbstractResolver):
    """``getaddrinfo`` in threads; the addresses are judged later, when one is connected to."""

    def __init__(self) -> None:
        self._shares = Shares(_COUNTED_THREADS, _THREADS_EACH)
        self._threads = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name, at least one; raises ``OSError``."""
        look = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        caller = CALLER.get()
        await self._shares.take(caller)
        answer = self._start(look, caller)
        await asyncio.wait([answer], timeout=LOOKUP_TIMEOUT)
        if not answer.done():
            raise socket.gaierror(socket.EAI_AGAIN, "the name server is silent")
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=family, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for family, _, proto, _, address in answer.result()
        ]

    async def close(self) -> None:
        """Let the threads go; one that waits for a name server ends by itself, and holds up no exit."""

    def _start(self, look: Callable[[], _Found], caller: str) -> asyncio.Future[_Found]:
        """Look up in a thread, in the place that ``caller`` has taken: left when the thread ends, or is overdue."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[_Found] = loop.create_future()
        answer.add_done_callback(asyncio.Future.exception)  # whoever asked may have given up
        place = _Place(partial(self._shares.give, caller))
        overdue = loop.call_later(OVERDUE_AGE, place.leave)

        def ended(found: _Found | Exception) -> None:
            self._threads -= 1
            overdue.cancel()
            place.leave()
            if isinstance(found, Exception):
                answer.set_exception(found)
            else:
                answer.set_result(found)

        self._threads += 1
        if self._threads > _ALL_THREADS:
            ended(socket.gaierror(socket.EAI_AGAIN, "too many name servers are silent"))
        else:
            thread = threading.Thread(target=_look_up, args=(look, loop, ended), name="image-lookup", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                ended(socket.gaierror(socket.EAI_AGAIN, "no thread is free"))
        return answer


class _Place:
    """A caller's place, which is left once."""

    def __init__(self, give: Callable[[], None]) -> None:
        self._give: Callable[[], None] | None = give

    def leave(self) -> None:
        give, self._give = self._give, None
        if give is not None:
            give()


def _look_up(
    look: Callable[[], _Found], loop: asyncio.AbstractEventLoop, ended: Callable[[_Found | Exception], None]
) -> None:
    found: _Found | Exception
    try:
        found = look()
    except (OSError, UnicodeError) as fault:
        found = fault
    with suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(ended, found)
