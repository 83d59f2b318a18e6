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
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.tracing import Trace
from yarl import URL

from gemproxy.load.reads import read_little

log = logging.getLogger("gemproxy")

LONGEST_HEAD = 1 << 16  # bytes that may come before a body: the head of the answer, and what is said before it
PARSE_SLICE = 1 << 15  # bytes parsed before it is judged what they were: a segment has room for thousands of answers
DISTRUST = 600.0  # seconds in which no connection is kept to a host that said what nobody had asked for
SWITCHING_PROTOCOLS = 101  # the one status below 200 after which nothing follows
UNASKED_ANSWER = "the upstream spoke before it was asked"
LATE_CONNECTION = "no connection in time"  # told by a type of its own: an answer may be late, too
# What is extended here is aiohttp's inside, as it is in this version; beside another one no connection is kept.
KNOWN = aiohttp.__version__.startswith("3.14.")


Check = Callable[[asyncio.BaseTransport], None]
Hear = Callable[[URL, BaseException | None], None]


def open_connector(check: Check | None = None, hear: Hear | None = None, **options: Any) -> aiohttp.TCPConnector:
    """Return a ``TCPConnector`` with these options, whose connections are kept only while nothing is left on them.

    ``check`` looks at each connection once it stands, before anything is asked over it; it may raise ``OSError``.
    ``hear`` is told of each connection that was tried: the address asked, and what went wrong, None if it stands.
    """
    if KNOWN:
        return Connector(check, hear, **options)
    options.pop("keepalive_timeout", None)
    return Checked(check, hear, **options | {"force_close": True})


def warn_of_unknown() -> None:
    """Say, beside an aiohttp that is not known, what is done without."""
    if not KNOWN:
        log.warning(
            "aiohttp %s is not known here: no connection to an upstream is kept, and requests take the long way",
            aiohttp.__version__,
        )


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
                if self.transport is not None and self._exception is None:
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
        """Read on; aiohttp does so after every piece, which is 3 % of a small request.

        After a first pause it has to: the parser may have kept a piece without saying so.
        """
        if self._pauses or self._buffer_paused:
            super().resume_reading(resume_parser)

    def feed_data(self, data: tuple[RawResponseMessage, aiohttp.StreamReader], size: int = 0) -> None:
        """Pass on a head."""
        code = data[0].code
        if self._room and (code >= 200 or code == SWITCHING_PROTOCOLS):  # else it is no answer yet (RFC 9110 15.2)
            self._room = None
            self._should_close = self._should_close or code == SWITCHING_PROTOCOLS
        _queue(self, data, size)

    def _watch(self, transport: asyncio.BaseTransport) -> None:
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def _inspect(self, data: bytes) -> None:
        """Judge what came behind an answer, whose last byte gave the connection back, or how much before one."""
        if self._room == 0:
            if self.transport is not None and not self._clean():
                self._refuse(data)
        elif self._room is not None and self._exception is None:
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


class Checked(aiohttp.TCPConnector):
    """Opens connections that pass a check, and tells of each."""

    def __init__(self, check: Check | None = None, hear: Hear | None = None, **options: Any) -> None:
        super().__init__(**options)
        self._check = check
        self._hear = hear

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        try:
            # aiohttp's own patience with a proxy ends once that has taken the connection, be it silent then
            async with asyncio.timeout(timeout.sock_connect if req.proxy else None):
                made = await super()._create_connection(req, traces, timeout)
        except (aiohttp.ClientError, OSError) as fault:
            if type(fault) is not TimeoutError:
                told = _of_proxy(req, fault) if req.proxy else fault
                self._report(req.url, told)
                if told is fault:
                    raise
                raise told from None
            late = aiohttp.ConnectionTimeoutError(LATE_CONNECTION)
            self._report(req.url, late)
            raise late from None
        self._report(req.url, None)
        return made

    def _report(self, url: URL, fault: BaseException | None) -> None:
        if self._hear is not None:
            self._hear(url, fault)

    async def _wrap_create_connection(
        self,
        *arguments: Any,
        req: aiohttp.ClientRequest,
        client_error: type[Exception] = aiohttp.ClientConnectorError,
        **options: Any,
    ) -> tuple[asyncio.Transport, ResponseHandler]:
        made = await super()._wrap_create_connection(*arguments, req=req, client_error=client_error, **options)
        try:
            if self._check is not None:
                self._check(made[0])
        except BaseException as fault:
            made[0].abort()
            if isinstance(fault, OSError):
                raise client_error(req.connection_key, fault) from fault
            raise
        return made


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


class Connector(Checked):
    """Opens connections and keeps them while they are clean."""

    def __init__(self, check: Check | None = None, hear: Hear | None = None, **options: Any) -> None:
        super().__init__(check, hear, **options)
        self._factory = partial(Line, self._unasked, loop=self._loop)  # type: ignore[assignment] # a subclass
        self._distrusted: dict[ConnectionKey, float] = {}  # until when, on the loop's clock

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        """Return a kept connection on which nothing has come, None if there is none."""
        kept = self._conns.get(key)
        while kept:
            line, since = kept.popleft()
            if not kept:
                del self._conns[key]
            assert isinstance(line, Line)
            if line.begin_exchange() and monotonic() - since <= (self._keepalive_timeout or 0):
                self._acquired.add(line)
                return Connection(self, key, line, self._loop)
            line.close()
        return None

    async def _create_connection(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> ResponseHandler:
        line = await super()._create_connection(req, traces, timeout)
        return _begun(line)

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
        self._distrusted[key] = self._loop.time() + DISTRUST
        for kept, _ in self._conns.pop(key, ()):
            kept.abort()

    def _distrusts(self, key: ConnectionKey) -> bool:
        return self._distrusted.get(key, 0.0) > self._loop.time()
