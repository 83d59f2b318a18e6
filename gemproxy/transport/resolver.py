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

PATIENCE = 3.5  # seconds; a token is waited for four at least
KEPT = 60.0  # seconds in which addresses that came too late are still good for the next one who asks
SILENT = "the name server is silent"
_Look = tuple[str, int, socket.AddressFamily]


class Resolver(AbstractResolver):
    """aiohttp's own resolver, waited for so long."""

    def __init__(self) -> None:
        self._inner: AbstractResolver = DefaultResolver()
        self._looks: dict[_Look, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises ``OSError``."""
        look = (host, port, family)
        task = self._looks.get(look) or self._start(look)
        await asyncio.wait((task,), timeout=PATIENCE)
        if not task.done():
            raise socket.gaierror(socket.EAI_AGAIN, SILENT)
        self._forget(look, task)
        return task.result()

    async def close(self) -> None:
        """End what is under way."""
        for task in self._looks.values():
            task.cancel()
        await self._inner.close()

    def _start(self, look: _Look) -> asyncio.Task[list[ResolveResult]]:
        work = self._inner.resolve(*look)
        task = self._looks[look] = asyncio.get_running_loop().create_task(work, name=f"look-up of {look[0]}")
        task.add_done_callback(lambda _: self._ended(look, task))
        return task

    def _ended(self, look: _Look, task: asyncio.Task[list[ResolveResult]]) -> None:
        """Keep addresses that came too late for the next one who asks, and forget a failure."""
        if task.cancelled() or task.exception() is not None:
            self._forget(look, task)
        else:
            asyncio.get_running_loop().call_later(KEPT, self._forget, look, task)

    def _forget(self, look: _Look, task: asyncio.Task[list[ResolveResult]]) -> None:
        if self._looks.get(look) is task:
            del self._looks[look]
