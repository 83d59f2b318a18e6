"""(edge) Connections to upstreams: which of them may be used again, and how much may arrive when.

HTTP/1.1 has no word for which request an answer belongs to: what arrives on a kept connection is taken for the answer
to whatever is asked on it next, be it another client's. So a connection is kept only while nothing is left on it,
neither to be written nor to be read; it is looked at again when it is taken; and the first byte between the two closes
it. Where an answer begins and ends, aiohttp's own protocol knows, which is extended here.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import select
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Any, TypeVar, cast
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from yarl import URL

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.load.reads import read_little

log = logging.getLogger("gemproxy")

LONGEST_HEAD = 1 << 16  # bytes that may come before a body: the head of the answer, and what is said before it
PARSE_SLICE = 1 << 15  # bytes parsed before it is judged what they were: a segment has room for thousands of answers
DISTRUST = 600.0  # seconds in which no connection is kept to a host that said what nobody had asked for
SWITCHING_PROTOCOLS = 101  # the one status below 200 after which nothing follows
UNASKED_ANSWER = "the upstream spoke before it was asked"
LATE_CONNECTION = "no connection in time"  # told by a type of its own: an answer may be late, too
Check = Callable[[asyncio.BaseTransport], None]
Hear = Callable[[URL, BaseException | None], None]
_Opened = TypeVar("_Opened", Connection, ResponseHandler)


def open_connector(check: Check | None = None, hear: Hear | None = None, **options: Any) -> aiohttp.TCPConnector:
    """Return a ``TCPConnector`` with these options, whose connections are kept only while nothing is left on them.

    ``check`` looks at each connection once it stands, before anything is asked over it; it may raise ``OSError``.
    ``hear`` is told of each connection that was tried: the address asked, and what went wrong, None if it stands.
    """
    if not PLAIN:
        return Connector(check, hear, **options)
    options.pop("keepalive_timeout", None)
    return PlainConnector(check, hear, **options)


# super() would be looked up for every piece of an answer
_parse, _queue = ResponseHandler.data_received, ResponseHandler.feed_data


class Line(ResponseHandler):
    """The protocol of one connection, which hears only what was asked for, and no head without an end.

    ``key`` says whose pool it was in, None before its first exchange. ``on_unasked`` is told of bytes that came between
    two exchanges.
    """

    def __init__(self, on_unasked: Callable[[Line, bytes], None], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.key: ConnectionKey | None = None
        self._on_unasked = on_unasked
        self._room: int | None = 0  # bytes that may come before a body; 0: nobody asks; None: the body has begun
        self._parsing = False
        self._pauses = False  # whether reading was ever paused
        self._poll = select.poll()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        read_little(transport)
        super().connection_made(transport)
        if transport.get_extra_info("sslcontext") is None:  # else what comes first are the tickets of TLS
            self._watch(transport)

    @property
    def resting(self) -> bool:
        """True between two exchanges."""
        return self._room == 0

    def end_exchange(self, key: ConnectionKey) -> bool:
        """End an exchange; returns whether another one may follow: nothing is left to be written or to be read."""
        if self.transport is None or self.transport.get_write_buffer_size():
            return False
        if self.key is None:
            self._watch(self.transport)
        self.key, self._room = key, 0
        return self._parsing or self._clean()  # in the parser's own call the rest of the bytes is yet to be seen

    def begin_exchange(self) -> bool:
        """Begin an exchange; returns whether it may: nothing was said that this request would get as its answer."""
        clean = self.is_connected() and (self._room == 0 or self._clean())
        clean = clean and not self._poll.poll(0)  # the loop may have had other things to do than to read what has come
        self._room = LONGEST_HEAD
        return clean

    def close(self) -> None:
        """End the connection, with what is still to be written: who reads nothing would keep it for ever."""
        if self.transport is not None and self.transport.get_write_buffer_size():
            self.abort()
        else:
            super().close()

    def data_received(self, data: bytes) -> None:
        """Parse what came, if it was asked for."""
        if self._room == 0:
            if data:  # else a reader goes on with what is here
                self._refuse(data)
        elif len(data) > PARSE_SLICE:
            for place in range(0, len(data), PARSE_SLICE):
                if self.transport is not None and self.exception() is None:
                    self.data_received(data[place : place + PARSE_SLICE])
        else:
            self._parsing = True
            _parse(self, data)
            self._parsing = False
            if self._room is not None:
                self._inspect(data)

    def pause_reading(self) -> None:
        """Read no further for now."""
        self._pauses = True
        super().pause_reading()

    def resume_reading(self, resume_parser: bool = True) -> None:
        """Read on; aiohttp does so after every piece, which is a fifth of a chunk.

        After a first pause it has to: the parser may have kept a piece without saying so.
        """
        if self._pauses:
            super().resume_reading(resume_parser)

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Pass on a head."""
        code = data[0].code
        if self._room and (code >= 200 or code == SWITCHING_PROTOCOLS):  # else it is no answer yet (RFC 9110 15.2)
            self._room = None
            if code == SWITCHING_PROTOCOLS:
                self.force_close()
        _queue(self, data, size)

    def _watch(self, transport: asyncio.BaseTransport) -> None:
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def _inspect(self, data: bytes) -> None:
        """Judge what came behind an answer, whose last byte gave the connection back, or how much before one."""
        if self._room == 0:
            if self.transport is not None and not self._clean():
                self._refuse(data)
        elif self._room is not None and self.exception() is None:
            self._room -= len(data)
            if self._room <= 0:
                self._room = LONGEST_HEAD  # 0 would say that nobody asks
                self._give_up()

    def _clean(self) -> bool:
        """Return whether nothing is left of what has come, be it half a head."""
        if self.transport is None or self.should_close:
            return False
        try:
            return self._parser is None or self._parser.feed_eof() is None  # between two messages it says nothing
        except HttpProcessingError:
            return False

    def _refuse(self, data: bytes) -> None:
        self._on_unasked(self, data)
        self.abort()

    def _give_up(self) -> None:
        self.set_exception(HttpProcessingError(message=f"more than {LONGEST_HEAD} bytes before the body"))
        if self.transport is not None:
            self.transport.abort()


class Trials:
    """Has an eye on each connection that is tried: it must pass a check, and somebody may hear of it."""

    def __init__(self, check: Check | None, hear: Hear | None) -> None:
        self._check = check
        self._hear = hear

    async def made(
        self, connecting: Awaitable[_Opened], req: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout
    ) -> _Opened:
        """Return a connection; raises what went wrong, ``ClientConnectorError`` for one that does not pass."""
        try:
            opened = await _in_time(connecting, req, timeout)
            self._inspect(opened, req)
        except (aiohttp.ClientError, OSError) as fault:
            told = _of_proxy(req, fault) if req.proxy else fault
            self._report(req.url, told)
            if told is fault:
                raise
            raise told from None
        self._report(req.url, None)
        return opened

    def _inspect(self, opened: Connection | ResponseHandler, req: aiohttp.ClientRequest) -> None:
        try:
            if self._check is not None and opened.transport is not None:
                self._check(opened.transport)
        except BaseException as fault:
            opened.close()
            if isinstance(fault, OSError):
                raise aiohttp.ClientConnectorError(req.connection_key, fault) from fault
            raise

    def _report(self, url: URL, fault: BaseException | None) -> None:
        if self._hear is not None:
            self._hear(url, fault)


async def _in_time(
    connecting: Awaitable[_Opened], req: aiohttp.ClientRequest, timeout: aiohttp.ClientTimeout
) -> _Opened:
    """Wait for a connection; raises what went wrong, ``ConnectionTimeoutError`` for one that came to no end."""
    try:
        # aiohttp's own patience with a proxy ends once that has taken the connection, be it silent then
        async with asyncio.timeout(timeout.sock_connect if req.proxy else None):
            return await connecting
    except (aiohttp.ClientError, OSError) as fault:
        if type(fault) is not TimeoutError:
            raise
    raise aiohttp.ConnectionTimeoutError(LATE_CONNECTION)


def _of_proxy(req: aiohttp.ClientRequest, fault: aiohttp.ClientError | OSError) -> aiohttp.ClientError | OSError:
    """Return what a failure on the way through a proxy is: it broke off, or spoke another protocol, before a tunnel
    stood. aiohttp tells of that as of an answer that the upstream broke off.
    """
    known = (aiohttp.ClientConnectorError, aiohttp.ClientHttpProxyError, aiohttp.ServerTimeoutError)
    if not isinstance(fault, aiohttp.ClientError) or isinstance(fault, known):
        return fault
    lost = isinstance(fault, aiohttp.ServerDisconnectedError | OSError)
    number = errno.ECONNRESET if lost else errno.EPROTO
    return aiohttp.ClientProxyConnectionError(req.connection_key, OSError(number, os.strerror(number)))


def _begun(line: ResponseHandler) -> ResponseHandler:
    if not cast("Line", line).begin_exchange():
        line.close()
        raise aiohttp.ClientConnectionError(UNASKED_ANSWER)
    return line


class PlainConnector(aiohttp.TCPConnector):
    """Opens a connection for each request, by what aiohttp documents alone."""

    def __init__(self, check: Check | None = None, hear: Hear | None = None, **options: Any) -> None:
        super().__init__(**options | {"force_close": True})
        self._trials = Trials(check, hear)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """Return a new connection, on which nothing has come yet."""
        made = await self._trials.made(super().connect(req, traces, timeout), req, timeout)
        if _has_spoken(made):
            made.close()
            raise aiohttp.ClientConnectionError(UNASKED_ANSWER)
        return made


def _has_spoken(made: Connection) -> bool:
    """Return whether something has come on a new connection; over TLS that may be its tickets, unless it was read."""
    protocol, transport = made.protocol, made.transport
    if protocol is None or transport is None or protocol.should_close:
        return True
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return transport.get_extra_info("sslcontext") is None and bool(poll.poll(0))


class Connector(aiohttp.TCPConnector):
    """Opens connections and keeps them while they are clean. What of aiohttp it rests on: docs/aiohttp.md."""

    def __init__(self, check: Check | None = None, hear: Hear | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._trials = Trials(check, hear)
        self._factory = self._line  # type: ignore[assignment] # a subclass
        self._lines: WeakSet[Line] = WeakSet()
        self._distrusted: dict[ConnectionKey, float] = {}  # until when

    def _line(self) -> Line:
        line = Line(self._unasked, asyncio.get_running_loop())
        self._lines.add(line)
        return line

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """Return a kept connection on which nothing has come, None if there is none."""
        while (kept := await super()._get(key, traces)) is not None:
            if cast("Line", kept.protocol).begin_exchange() and not (self._distrusted and self._distrusts(key)):
                return kept
            kept.close()
        return None

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        return _begun(await self._trials.made(super()._create_connection(req, traces, timeout), req, timeout))

    async def _create_direct_connection(
        self, *arguments: Any, client_error: type[Exception] = aiohttp.ClientConnectorError, **options: Any
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        made = await super()._create_direct_connection(*arguments, client_error=client_error, **options)
        if client_error is aiohttp.ClientProxyConnectionError:
            _begun(made[1])  # for CONNECT; what is asked through the tunnel has a line of its own
        return made

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        if not cast("Line", protocol).end_exchange(key) or (self._distrusted and self._distrusts(key)):
            should_close = True
        super()._release(key, protocol, should_close=should_close)

    def _unasked(self, line: Line, data: bytes) -> None:
        """Keep no connection to a host that speaks unasked: the next word may come while somebody's request is on its
        way, and be taken for its answer.
        """
        key = line.key
        if key is None or data.startswith((b"HTTP/1.1 408", b"HTTP/1.0 408")):  # how some, Google's too, say goodbye
            return
        if not self._distrusts(key):
            log.warning("%s answered more than it was asked: no connection to it is kept for %g s", key.host, DISTRUST)
        self._distrusted[key] = monotonic() + DISTRUST
        for other in [other for other in self._lines if other.key == key and other.resting]:
            other.abort()

    def _distrusts(self, key: ConnectionKey) -> bool:
        return self._distrusted.get(key, 0.0) > monotonic()
