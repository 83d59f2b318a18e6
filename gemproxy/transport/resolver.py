"""(edge) Look-ups of upstreams' names: a name server that is silent is told as such before patience with the whole
request ends, which could not tell what it waited for.

In: a host. Out: its addresses, for aiohttp's connector. The look-up itself goes on (nothing ends a ``getaddrinfo`` but
itself): where the first of two name servers is dead, the second answers after five seconds, and whoever asks next has
its word.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

LOOKUP_TIMEOUT = 3.5  # seconds; a token is waited for four at least
LATE_ANSWER_TTL = 60.0  # seconds in which addresses that came too late are still good for the next one who asks
SILENT_NAME_SERVER = "the name server is silent"
_Lookup = tuple[str, int, socket.AddressFamily]


class Resolver(AbstractResolver):
    """aiohttp's own resolver, waited for so long."""

    def __init__(self) -> None:
        self._inner: AbstractResolver = DefaultResolver()
        self._lookups: dict[_Lookup, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises ``OSError``."""
        lookup = (host, port, family)
        task = self._lookups.get(lookup) or self._start(lookup)
        await asyncio.wait((task,), timeout=LOOKUP_TIMEOUT)
        if not task.done():
            raise socket.gaierror(socket.EAI_AGAIN, SILENT_NAME_SERVER)
        self._forget(lookup, task)
        return task.result()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._lookups.values():
            task.cancel()
        await self._inner.close()

    def _start(self, lookup: _Lookup) -> asyncio.Task[list[ResolveResult]]:
        work = self._inner.resolve(*lookup)
        task = self._lookups[lookup] = asyncio.get_running_loop().create_task(work, name=f"look-up of {lookup[0]}")
        task.add_done_callback(lambda _: self._ended(lookup, task))
        return task

    def _ended(self, lookup: _Lookup, task: asyncio.Task[list[ResolveResult]]) -> None:
        """Keep addresses that came too late for the next one who asks, and forget a failure."""
        if task.cancelled() or task.exception() is not None:
            self._forget(lookup, task)
        else:
            asyncio.get_running_loop().call_later(LATE_ANSWER_TTL, self._forget, lookup, task)

    def _forget(self, lookup: _Lookup, task: asyncio.Task[list[ResolveResult]]) -> None:
        if self._lookups.get(lookup) is task:
            del self._lookups[lookup]
