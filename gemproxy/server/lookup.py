"""(edge) Name resolution for hosts that clients choose, in threads of its own.

In: a host name. Out: its addresses, for aiohttp's connector. Must not share the loop's default threads: a few hosts
whose name servers never answer would hold them, and with them the look-ups of Google's own names (DESIGN 11).
"""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from aiohttp.abc import AbstractResolver, ResolveResult

_THREADS = 4


class Lookup(AbstractResolver):
    """``getaddrinfo`` in a few threads; the addresses are judged later, when one is connected to."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="image-lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return the addresses of a name, at least one; raises ``OSError``."""
        look = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look)
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=family, proto=proto, flags=socket.AI_NUMERICHOST
            )
            for family, _, proto, _, address in found
        ]

    async def close(self) -> None:
        """Let the threads go; one that waits for a name server ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
