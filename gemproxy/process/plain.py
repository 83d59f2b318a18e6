"""(edge) A client's connection by what aiohttp documents alone.

Whether a request is under way is told by its handler and by the end of its answer; what has come of one that has not
begun, by its bytes.
"""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gemproxy.errors import ClientFault, Failure
from gemproxy.load.reads import HEAD_READ_SIZE, read_little
from gemproxy.process.dismissal import HEAD, LAST_CHUNK, LATE, LINGER, TOO_LONG, dismiss, has_come
from gemproxy.process.watched import Watched
from gemproxy.tasks import spawn

HEAD_END = b"\r\n\r\n"
STEP = 1 << 14  # bytes parsed at once
AHEAD = 1 << 13  # bytes that may come behind a request before its answer is written
TURNS = 8  # turns of the loop in which the handler of a head that is whole has begun; aiohttp needs two or three


class PlainConnection(Watched):
    """One client's connection, watched from outside.

    Bytes are parsed up to where a request may begin. Whether one has, its handler tells some turns of the loop later;
    if none does, a head is not yet complete, or too long. What comes behind a request waits for its answer.
    """

    __slots__ = (
        *("_ahead", "_body", "_chunked", "_deaf", "_full", "_handling", "_kept", "_last", "_late", "_looking"),
        *("_pieces", "_plain_end", "_refused", "_retired", "_whole"),
    )

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._ahead = b""  # came, and is not parsed yet
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request
        self._chunked = False  # that body comes in chunks
        self._deaf = False
        self._full = False  # so much has come ahead that no more is read
        self._handling: asyncio.Task[Any] | None = None  # of the request under way
        self._kept = 0  # bytes since the last request or piece of a body: what the parser may keep
        self._last = False  # the request under way is the connection's last
        self._late: asyncio.TimerHandle | None = None
        self._looking: asyncio.Task[None] | None = None
        self._pieces = 0  # that were parsed since a request began
        self._plain_end = False  # the last of them may have ended a body without trailers
        self._refused = False
        self._retired = False
        self._whole = False  # a head may be complete whose handler has not begun

    @property
    def busy(self) -> bool:
        """True while a request is being answered."""
        return self._handling is not None

    @property
    def speaking(self) -> bool:
        """True if a request may be on its way: nothing was said yet, or half of it."""
        return self._late is not None or self._looking is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._heard()
        super().connection_lost(exc)
        self._body = EMPTY_PAYLOAD  # which holds its connection

    def data_received(self, data: bytes) -> None:
        """Take bytes; headers that do not come to an end are waited for only so long, and kept up to a limit."""
        if not data:
            super().data_received(data)  # aiohttp goes on with what its parser has kept
        elif not self._deaf:
            self._ahead += data
            self._parse_ahead()
            if not self.busy and self._late is None:
                self._wait()

    def begin(self, request: web.BaseRequest) -> None:
        """Hear that a request is being handled."""
        self._heard()
        self._body, self._handling, self._kept = request.content, asyncio.current_task(), 0
        self._chunked = "Transfer-Encoding" in request.headers
        if self._chunked and self._body.is_eof() and not (self._pieces == 1 and self._plain_end):
            self._last = True
        self._pieces, self._whole = 0, False
        if self.transport is not None and not self._body.is_eof():
            read_little(self.transport)
        self._parse_ahead()

    def retire(self) -> None:
        """Close the connection at once if it is idle, else after the answer under way: its client may not know yet."""
        self._retired = True
        if not self.busy and not self.speaking and self.transport is not None and not has_come(self.transport):
            self.transport.close()

    def interrupt(self) -> None:
        """Have the request under way cancelled, as if its client had left."""
        if self._handling is not None:
            self._handling.cancel()

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; after the last one to a client that may still be sending, take that for a while."""
        try:
            done = await super().finish_response(request, resp, start_time)
        finally:
            self._handling, self._kept = None, 0
        if self.transport is not None and self._body.is_eof():
            read_little(self.transport, HEAD_READ_SIZE)
        if self._last:
            self.close()  # not before: it would also end the reading of a body
        elif self._ahead or self._retired:
            self._look()
        if self._refused and self.transport is not None and not self.transport.is_closing():
            self._deaf = True
            self.transport.write_eof()
            await asyncio.sleep(LINGER)  # or until the client closes
        return done

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP, as the last thing on this connection."""
        self._heard()
        self._refused = isinstance(exc, HttpProcessingError)
        return super().handle_error(request, status, exc, message)

    def _parse_ahead(self) -> None:
        """Parse what has come, as far as it may belong to the request under way or begin one."""
        if self._full and self._may_parse() and self.transport is not None:
            self._full = False
            self.transport.resume_reading()  # before more is parsed, upon which aiohttp itself may pause it
        ahead, place = self._ahead, 0
        while place < len(ahead) and self._may_parse():
            self._parse(ahead[place : place + STEP])
            place += STEP
        self._ahead = ahead[place:]
        if len(self._ahead) > AHEAD and self.transport is not None:
            self._full = True
            self.transport.pause_reading()
        if self._whole and self._ahead:
            self._look()

    def _may_parse(self) -> bool:
        waits = self._whole or self._looking is not None
        return not (self._deaf or waits or (self.busy and self._body.is_eof()))

    def _parse(self, piece: bytes) -> None:
        body, before, ended = self._body, self._body.total_bytes, self._body.is_eof()
        super().data_received(piece)
        self._pieces += 1
        self._plain_end = piece.endswith(LAST_CHUNK)
        self._whole = not self.busy and HEAD_END in piece
        if self._chunked and not ended and body.is_eof() and not self._plain_end:
            self._end()
        self._kept = 0 if body.total_bytes != before else self._kept + len(piece)
        if self._kept > HEAD:
            if body.is_eof():
                self._look()
            else:
                self._break_off(body)

    def _end(self) -> None:
        """Let the request under way be the last: aiohttp takes its trailers for headers of the next."""
        self._last = True
        if not self.busy:
            self.close()  # it was answered, and what was left of its body has been read past

    def _break_off(self, body: StreamReader) -> None:
        """Let whoever reads a body hear that its trailers, or the extension of a chunk, do not end."""
        self._deaf = self._last = self._refused = True
        body.set_exception(ClientFault(TOO_LONG.message, status=TOO_LONG.status, code=TOO_LONG.code))
        body.feed_eof()

    def _look(self) -> None:
        if self._looking is None:
            self._looking = spawn(self._wait_for_handler(), name="look for a request")

    async def _wait_for_handler(self) -> None:
        """Go on after some turns of the loop in which no request has begun; ``begin`` ends it."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        self._looking, self._whole = None, False
        if self.busy:
            return
        if self._kept > HEAD:
            self._dismiss(TOO_LONG)
        elif self._ahead:
            self._parse_ahead()
            if self._late is None:
                self._wait()
        if self._retired and self._late is None and self.transport is not None:
            self.transport.close()

    def _wait(self) -> None:
        self._late = asyncio.get_running_loop().call_later(self.patience, self._dismiss, LATE)

    def _heard(self) -> None:
        """End all waiting for a request."""
        if self._late is not None:
            self._late.cancel()
        if self._looking is not None:
            self._looking.cancel()
        self._late = self._looking = None

    def _dismiss(self, failure: Failure) -> None:
        self._heard()
        if not self.busy and self.transport is not None:
            self._deaf = True
            dismiss(self.transport, failure)


def watch(server: web.Server) -> None:
    """Have a server's connections hear of each request that is handled."""
    handler = server.request_handler
    if getattr(handler, "watches", False):
        return  # one socket more

    async def watched(request: web.BaseRequest) -> web.StreamResponse:
        if isinstance(request.protocol, PlainConnection):
            request.protocol.begin(request)
        return await handler(request)

    watched.watches = True  # type: ignore[attr-defined]
    server.request_handler = watched
