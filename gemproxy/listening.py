"""(edge) What stands before HTTP: how many connections there may be, and how long one may take to say what it wants.

aiohttp has no hook for either. A connection beyond the limit hears a 503 at once, for the price of one write.
"""

from __future__ import annotations

import asyncio
import socket

from aiohttp import web

from gemproxy import errors
from gemproxy.errors import Failure, Overload
from gemproxy.server.middleware import HEARD, error_body

FULL = Overload("The server has as many connections as server.max_connections allows.")
LATE = Failure(
    "The request's headers did not arrive within timeouts.headers.", status=408, type="timeout", code="timeout"
)


class GuardedSite(web.SockSite):
    """A listening socket whose connections are counted; ``limit`` 0: none. ``patience`` in seconds."""

    __slots__ = ("_limit", "_patience")

    def __init__(self, runner: web.AppRunner, sock: socket.socket, *, limit: int, patience: float) -> None:
        super().__init__(runner, sock, backlog=1024)
        self._limit = limit
        self._patience = patience

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._sock, backlog=self._backlog)

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or 0 < self._limit <= len(server._connections):  # its public view copies them all
            return Refusal(FULL)
        handler = server()
        asyncio.get_running_loop().call_later(self._patience, _look, handler)
        return handler


class Refusal(asyncio.Protocol):
    """Says why, and closes."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer before anything was asked."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(plain_answer(self._failure))
        transport.close()


def plain_answer(failure: Failure) -> bytes:
    """Return a failure as a whole HTTP answer."""
    body = error_body(failure)
    lines = [f"HTTP/1.1 {failure.status} {'Request Timeout' if failure.status == 408 else 'Service Unavailable'}"]
    lines += [f"{name}: {value}" for name, value in errors.headers(failure).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _look(handler: web.RequestHandler) -> None:
    transport = handler.transport
    if transport is not None and transport not in HEARD:
        transport.write(plain_answer(LATE))
        transport.close()
