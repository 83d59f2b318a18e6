"""(edge) What stands before HTTP: how many connections there may be, and how long one may take to say what it wants.

aiohttp has no hook for either, nor one that tells an idle connection from one whose request is on its way; so its
connection is refined here, by as few of its own fields as that takes. What is no HTTP is refused without being repeated
to anybody: it may hold a key.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gemproxy import errors
from gemproxy.errors import ClientFault, Failure, Overload
from gemproxy.server.middleware import JSON, error_body

log = logging.getLogger("gemproxy.server")
FULL = Overload("The server has as many connections as server.max_connections allows.")
LATE = Failure(
    "The request's headers did not arrive within timeouts.headers.", status=408, type="timeout", code="timeout"
)
LINGER = 1.0  # seconds
NO_HTTP = ClientFault("The request is not valid HTTP.")


class GuardedSite(web.SockSite):
    """A listening socket whose connections are counted and watched.

    ``limit`` gives the most connections there may be (0: any number), ``patience`` the seconds that headers may take.
    """

    __slots__ = ("_limit", "_patience")

    def __init__(
        self, runner: web.AppRunner, sock: socket.socket, *, limit: Callable[[], int], patience: Callable[[], float]
    ) -> None:
        super().__init__(runner, sock, backlog=1024)
        self._limit = limit
        self._patience = patience

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, sock=self._sock, backlog=self._backlog)

    async def stop(self) -> None:
        """Accept no more; what was accepted is served."""
        asyncio.get_running_loop().remove_reader(self._sock)
        # asyncio makes the transport of a connection one turn of the loop after accepting it,
        # and drops the connection without a word if the server was closed in between
        await asyncio.sleep(0)
        await super().stop()

    def _connection(self) -> asyncio.Protocol:
        server = self._runner.server
        if server is None or 0 < self._limit() <= len(server._connections):  # its public view copies them all
            return Refusal(FULL)
        connection = Connection(server, loop=asyncio.get_running_loop(), **server._kwargs)
        connection.patience = self._patience()
        return connection


class Connection(web.RequestHandler):
    """One client's connection, which knows whether anything is under way on it."""

    __slots__ = ("_late", "patience")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.patience = 30.0  # seconds for the headers of a request
        self._late: asyncio.TimerHandle | None = None

    @property
    def busy(self) -> bool:
        """True while a request is being answered or waits for it: aiohttp's task does not wait for another one."""
        waiter = self._waiter
        return waiter is None or waiter.done() or self._current_request is not None or bool(self._messages)

    @property
    def starting(self) -> bool:
        """True between the headers of a request and its handler."""
        return self.busy and self._current_request is None

    @property
    def speaking(self) -> bool:
        """True if a request may be on its way: nothing was said yet, or half of it."""
        return self._late is not None and not self.busy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; headers that do not come to an end are waited for only so long."""
        super().data_received(data)
        if self.busy is (self._late is None):
            return
        if self.busy:
            self._heard()
        else:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._heard()
        super().connection_lost(exc)

    def retire(self) -> None:
        """Close the connection at once if it is idle."""
        if not self.busy and not self.speaking and self.transport is not None:
            self.transport.close()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP; aiohttp's own answer and log would repeat it."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        log.info("refused what is not valid HTTP (%s)", type(exc).__name__)
        response = web.Response(body=error_body(NO_HTTP), status=NO_HTTP.status, content_type=JSON)
        response.force_close()
        return response

    def _wait(self) -> None:
        self._late = asyncio.get_running_loop().call_later(self.patience, self._give_up)

    def _heard(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.busy and self.transport is not None:
            self.transport.write(plain_answer(LATE))
            self.transport.close()


class Refusal(asyncio.Protocol):
    """Says why, and closes: a connection too many costs one write."""

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer before anything was asked."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(plain_answer(self._failure))
        # what the client still sends is taken: closing on unread bytes
        # would reset the connection, and the answer with it
        transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER, transport.close)

    def eof_received(self) -> None:
        """Let the transport close: both sides have said all."""


def connections(runner: web.AppRunner) -> Iterator[Connection]:
    """Yield the open connections."""
    for connection in runner.server.connections if runner.server is not None else ():
        if isinstance(connection, Connection):
            yield connection


def plain_answer(failure: Failure) -> bytes:
    """Return a failure as a whole HTTP answer."""
    body = error_body(failure)
    lines = [f"HTTP/1.1 {failure.status} {'Request Timeout' if failure.status == 408 else 'Service Unavailable'}"]
    lines += [f"{name}: {value}" for name, value in errors.headers(failure).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
