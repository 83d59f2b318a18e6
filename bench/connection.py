"""A client's connection: one raw keep-alive connection that asks, and collects what comes. Knows HTTP/1.1's framing.

It does as little as it can while an answer arrives: bytes are kept, the end is found, the first byte and the events are
counted. What the answer must say is looked at afterwards (``check``).
"""

from __future__ import annotations

import asyncio

from msgspec import Struct

_LAST_CHUNK = b"\r\n0\r\n\r\n"


class BrokenReply(Exception):  # noqa: N818 - what the server did
    """The answer is no whole HTTP message, or the connection broke before its end."""


class Reply(Struct):
    """One answer; times in seconds on the loop's clock, ``first`` is that of the first byte of the body."""

    status: int
    body: bytes
    first: float
    ended: float


class Connection(asyncio.Protocol):
    """Asks one question at a time. ``events`` counts SSE events over its whole life, roughly where reads cut them."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[Reply] | None = None
        self.events = 0
        self.begun: asyncio.Future[None] | None = None  # set: done with the first byte of the next body
        self._reset()

    def _reset(self) -> None:
        self._pieces: list[bytes] = []
        self._in_body = False
        self._chunked = False
        self._missing = 0
        self._status = 0
        self._first = 0.0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended within an answer ({exc or 'closed'})")

    def ask(self, request: bytes) -> asyncio.Future[Reply]:
        """Send a request; the future gives the reply, or raises ``BrokenReply``."""
        self._reset()
        self._waiter = self._loop.create_future()
        if self._transport.is_closing():
            self._fail("the connection was closed between two requests")
        else:
            self._transport.write(request)
        return self._waiter

    def close(self) -> None:
        """End the connection."""
        self._transport.close()

    def data_received(self, data: bytes) -> None:
        if self._in_body:
            self._take(data)
            return
        head = b"".join((*self._pieces, data)) if self._pieces else data
        end = head.find(b"\r\n\r\n")
        if end < 0:
            self._pieces = [head]
            return
        self._open(head[:end])
        self._take(head[end + 4 :])

    def _open(self, head: bytes) -> None:
        fields = head.lower()
        self._pieces = []
        self._in_body = True
        self._status = int(head[9:12])
        self._chunked = b"\r\ntransfer-encoding: chunked" in fields
        place = fields.find(b"\r\ncontent-length:")
        if place >= 0:
            self._missing = int(fields[place + 17 :].partition(b"\r\n")[0])
        elif not self._chunked:
            self._fail("the answer has neither a length nor chunks")

    def _take(self, data: bytes) -> None:
        if data:
            if not self._pieces:
                self._first = self._loop.time()
                if self.begun is not None and not self.begun.done():
                    self.begun.set_result(None)
            self._pieces.append(data)
        if not self._chunked:
            self._missing -= len(data)
            if self._missing <= 0:
                self._end()
            return
        self.events += data.count(b"data: ")
        self._tail = data[-7:] if len(data) >= 7 else (self._tail + data)[-7:]
        if self._tail == _LAST_CHUNK:
            self._end()

    def _end(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is None or waiter.done():
            return
        try:
            body = self._body()
        except BrokenReply as broken:
            waiter.set_exception(broken)
        else:
            waiter.set_result(Reply(self._status, body, self._first, self._loop.time()))

    def _body(self) -> bytes:
        raw = b"".join(self._pieces)
        if self._missing:
            raise BrokenReply("the body is longer than its Content-Length")
        return unchunked(raw) if self._chunked else raw

    def _fail(self, why: str) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_exception(BrokenReply(why))
        if self.begun is not None and not self.begun.done():
            self.begun.set_result(None)


def unchunked(raw: bytes) -> bytes:
    """Return the body that chunks carry (RFC 9112 7.1); raises ``BrokenReply`` unless they are whole and all."""
    pieces = []
    place = 0
    while True:
        line = raw.find(b"\r\n", place)
        try:
            size = int(raw[place:line], 16)
        except ValueError:
            raise BrokenReply("a chunk has no size") from None
        place = line + 2 + size
        if raw[place : place + 2] != b"\r\n":
            raise BrokenReply("a chunk is not as long as it says")
        if size == 0:
            break
        pieces.append(raw[line + 2 : place])
        place += 2
    if place + 2 != len(raw):
        raise BrokenReply("bytes follow the last chunk")
    return b"".join(pieces)
