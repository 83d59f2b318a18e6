"""(edge) The end of a stream that a client reads: what it has no room for waits here, in one piece, and is counted.

A transport keeps a copy of all that it is given, so it is given no more than a slice at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import HttpVersion11
from aiohttp_sse import EventSourceResponse

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.load.budget import Hold
from gemproxy.tasks import spawn

SLICE = 1 << 16  # bytes


class Outlet:
    """Writes to one client. ``take`` at once, as the writer does it but without a coroutine."""

    __slots__ = ("_chunked", "_hold", "_most", "_on_taken", "_rest", "_transport", "_writer")

    def __init__(
        self,
        transport: asyncio.Transport | None,
        writer: AbstractStreamWriter,
        hold: Hold,
        on_taken: Callable[[], object] = bool,
    ) -> None:
        """``on_taken`` hears of each slice that the client has taken while it was waited for.

        Raises ``ConnectionResetError`` if the client has left.
        """
        if transport is None:
            raise ConnectionResetError
        self._transport = transport
        self._writer = writer
        self._hold = hold
        self._on_taken = on_taken
        self._chunked = bool(getattr(writer, "chunked", False))
        self._rest = memoryview(b"")
        _, self._most = transport.get_write_buffer_limits()

    @property
    def within(self) -> bool:
        """Return whether an event is being written, so that nothing else may be."""
        return bool(self._rest)

    async def write(self, data: bytes) -> None:
        """Write the first bytes, and wait until the client has taken all but the last of them."""
        if len(data) > SLICE:
            self._keep(memoryview(data)[SLICE:])  # first: refused, the event must not have begun, nor may a ping follow
        await self._writer.write(data[:SLICE])
        if self._rest:
            await self.drain()

    def take(self, data: bytes) -> bool:
        """Write bytes; returns whether the client is so far behind that ``drain`` must be waited for."""
        if len(data) > SLICE:
            self._keep(memoryview(data))
            return self._go_on()
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        return self._transport.get_write_buffer_size() > self._most

    async def drain(self) -> None:
        """Wait until the client has room again and nothing waits here."""
        await self._writer.drain()
        while self._rest:
            self._on_taken()
            if self._go_on():
                await self._writer.drain()

    def abandon(self) -> None:
        """Give up what is left: nobody will take it."""
        self._hold.more(-len(self._rest))
        self._rest = memoryview(b"")

    def _keep(self, rest: memoryview) -> None:
        self._hold.more(len(rest))
        self._rest = rest

    def _go_on(self) -> bool:
        """Write slices while there is room; returns whether something is left or there is none."""
        while self._rest and self._transport.get_write_buffer_size() <= self._most:
            part, self._rest = bytes(self._rest[:SLICE]), self._rest[SLICE:]
            self._transport.write(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
            self._hold.more(-len(part))
        return bool(self._rest) or self._transport.get_write_buffer_size() > self._most


class Whole(web.Response):
    """A small answer to an HTTP/1.1 client, written as aiohttp does it but in one step: 5 % of a small request."""

    _written = False

    @property
    def prepared(self) -> bool:
        """Return whether it is on its way."""
        return self._written or super().prepared

    @property
    def at_once(self) -> bool:
        """Return whether all of it was written in one step."""
        return self._written

    @property
    def keep_alive(self) -> bool | None:
        """Return whether the connection goes on behind it, None before that is known."""
        return self._goes_on if self._written else super().keep_alive

    async def write_eof(self, data: bytes = b"") -> None:
        """End; all was said with the first step."""
        if not self._written:
            await super().write_eof(data)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write all of it, unless it takes aiohttp's own way."""
        transport = request.transport
        if self._written:
            return None
        if super().prepared or request.version != HttpVersion11 or request.method == "HEAD":
            return await super().prepare(request)
        if transport is None or transport.is_closing():
            raise ConnectionResetError
        wanted = super().keep_alive
        self._goes_on = request.keep_alive if wanted is None else wanted
        transport.write(self._message())
        self._written = True
        if request.protocol.writing_paused:
            await request.writer.drain()
        return None

    def _message(self) -> bytes:
        body = self.body
        assert isinstance(body, bytes)
        lines = [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        if not "".join(self.headers.values()).isprintable():
            raise ValueError("a header of an answer holds control characters")
        end = "\r\n" if self._goes_on else "Connection: close\r\n\r\n"
        head = (
            f"HTTP/1.1 {self.status} {self.reason}\r\n{''.join(lines)}"
            f"Content-Length: {len(body)}\r\nDate: {rfc822_formatted_time()}\r\n{end}"
        )
        return head.encode() + body


class EventStream(EventSourceResponse):
    """A stream, of events mostly, whose pings keep out of an event that goes out in pieces.

    Its pings become a task when the first is due, which for most never happens, and the kernel's limit for who confirms
    nothing is set with the connection (``process/connections``): 4 % of a small stream. Whether its connection stays
    open is told as with every other answer: aiohttp-sse says so even where it closes.
    """

    outlet: Outlet | None = None
    _send_headers_immediately = bool(PLAIN)  # else they go out with the first bytes: 6 % of a small stream
    _first_ping: asyncio.TimerHandle | None = None
    _pinging: asyncio.Task[None] | None = None

    def __init__(self, *, ping: bytes, content_type: str, **options: Any) -> None:
        super().__init__(**options)
        self._word = ping
        self._interval: float = options.get("ping_interval", self.DEFAULT_PING_INTERVAL)
        self.headers["Content-Type"] = content_type
        del self.headers["Connection"]
        self.headers["Cache-Control"] = "no-cache, no-transform"  # who compresses a stream collects it first

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Begin: status, headers, and the time to the first ping."""
        if request.version < HttpVersion11:
            self.force_close()  # nothing else tells its end there, whatever the client asked for
        self._asked = request
        writer = await web.StreamResponse.prepare(self, request)
        if self._first_ping is None and self._word:
            self._first_ping = asyncio.get_running_loop().call_later(self._interval, self._begin_pings)
        return writer

    def end_pings(self) -> None:
        """Let no ping follow the last event."""
        if self._first_ping is not None:
            self._first_ping.cancel()
        if self._pinging is not None:
            self._pinging.cancel()
            self._pinging = None  # a circle that only the garbage collector would find

    def _begin_pings(self) -> None:
        self._pinging = spawn(self._pings(), name="pings")

    async def _pings(self) -> None:
        request = self._asked
        try:
            while True:
                async with asyncio.timeout(self.DEFAULT_SEND_TIMEOUT):
                    await self.write(self._word)
                await asyncio.sleep(self._interval)
        except TimeoutError:
            if request.transport is not None:
                request.transport.abort()
        except (ConnectionResetError, RuntimeError):  # the client left, or the last event is written
            pass

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a ping, or the last event: it waits for the end of the one before."""
        if self.outlet is not None and self.outlet.within:
            if data is self._word:
                return  # what is being written says as much
            await self.outlet.drain()
        await super().write(data)
