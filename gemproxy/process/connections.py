"""(edge) What stands before HTTP: how many connections there may be, and how long one may take to say what it wants.

Nobody has shown a key yet: what is kept of a head that does not end, of requests that wait behind another, or of
answers that are not taken, is bounded here. aiohttp has no hook for any of it, nor one that tells an idle connection
from one whose request is on its way; so its connection is refined, by as few of its own fields as that takes. What is
no HTTP is refused without being repeated to anybody: it may hold a key.
"""

from __future__ import annotations

import asyncio
import logging
import select
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from gemproxy import descriptors, errors
from gemproxy.converter.openai import error_object
from gemproxy.errors import ClientFault, Failure, Overload
from gemproxy.load.reads import CRUMB_SIZE, HEAD_READ_SIZE, READ_SIZE, read_little
from gemproxy.process.listener import Listener
from gemproxy.server.replies import JSON

log = logging.getLogger("gemproxy.server")
FULL = Overload("The server has as many connections as server.max_connections allows.")
LATE = Failure(
    "The request's headers did not arrive within timeouts.headers.", status=408, type="timeout", code="timeout"
)
LINGER = 1.0  # seconds
MOST_SILENCE = 2**31 - 1  # milliseconds; the kernel takes no more, and 0 for no limit
HEAD = 1 << 16  # bytes of a request's line and headers; nginx takes half of it, clients send 1 KiB
STEP = 1 << 14  # bytes parsed at once of what is more than a head
QUEUED = 2  # requests behind the one that is answered; with more the connection is read no further
TOO_LONG = ClientFault(
    f"The request's line and headers are too long: a server takes 8 KiB a line, 128 lines and {HEAD >> 10} KiB in all.",
    status=431,
    code="request_too_large",
)
LONG_URL = ClientFault("The request's URL is longer than 8 KiB.", status=414, code="request_too_large")
NO_HTTP = ClientFault("The request is not valid HTTP.")
MANY_HEADERS = "Too many headers received"  # aiohttp's words for more than 128
LAST_CHUNK = b"0\r\n\r\n"  # as any client writes it, without trailers
NOTHING: tuple[Sequence[Any], bool, bytes] = ((), False, b"")


class GuardedSite(web.SockSite):
    """A listening socket whose connections are counted and watched.

    ``limit`` gives the most connections there may be (0: any number), ``carried`` those that there are descriptors for,
    ``patience`` the seconds that headers may take, ``send`` those for which a client may leave its answers untaken.
    ``shared``: another process holds the socket, too, and takes what waits in its queue.
    """

    __slots__ = ("_carried", "_limit", "_listener", "_patience", "_refused", "_send", "shared")

    def __init__(
        self,
        runner: web.AppRunner,
        sock: socket.socket,
        *,
        limit: Callable[[], int],
        patience: Callable[[], float],
        send: Callable[[], float] = lambda: 60.0,
        carried: int = sys.maxsize,
    ) -> None:
        super().__init__(runner, sock, backlog=1024)
        self._limit = limit
        self._carried = carried
        self._refused: set[Refusal] = set()
        self._patience = patience
        self._send = send
        self.shared = False

    async def start(self) -> None:
        """Listen."""
        await web.BaseSite.start(self)
        self._listener = Listener(self._sock, self._connection, self._room)
        self._listener.start(self._backlog)

    async def stop(self) -> None:
        """Accept no more; what was accepted is served, and so is what waits if nobody else would take it."""
        self._listener.stop()
        if not self.shared:
            self._listener.take_all(self._backlog)
        self._listener.close()  # in this very turn: what waits in its queue is reset
        await self._listener.settle()
        await super().stop()

    @property
    def address(self) -> Any:
        """Return what it listens on: an address as the socket names it, or a path."""
        return self._listener.address

    def _connection(self, refused: Failure | None) -> asyncio.Protocol:
        server, loop = self._runner.server, asyncio.get_running_loop()
        refused = refused or self._full(self._count())
        if refused is not None or server is None:
            self._listener.refusals.count(refused or FULL, loop.time())
            return Refusal(refused or FULL, self._refused)
        connection = Connection(server, loop=loop, **server._kwargs)
        connection.patience, connection.send = self._patience(), self._send()
        return connection

    def _count(self) -> int:
        """Return how many connections there are; some were accepted a moment ago, and nobody else knows of them yet."""
        opened: Collection[Any] = () if self._runner.server is None else self._runner.server._connections
        coming = [one for one in self._listener.opening if isinstance(one, Connection) and one not in opened]
        return len(opened) + len(coming)

    def _room(self) -> bool:
        """Return whether who is refused would take no descriptor that whoever is served has yet to open."""
        return self._count() + len(self._refused) - descriptors.RESERVE_UNDER_WAY < self._carried

    def _full(self, count: int) -> Failure | None:
        if 0 < self._limit() <= count:
            return FULL
        return descriptors.NONE_LEFT if count >= self._carried else None


class Connection(web.RequestHandler):
    """One client's connection, which knows whether anything is under way on it."""

    __slots__ = ("_late", "_pauses", "_retired", "_stalled", "patience", "send")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.patience = 30.0  # seconds for the headers of a request
        self.send = 60.0  # seconds in which a client takes some of its answers
        self._pauses = False  # whether reading was ever paused
        self._retired = False
        self._late: asyncio.TimerHandle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._parser: Any = Intake(self._parser, self._end, self._dismiss_long_head)
        self._max_msg_queue_size, self._msg_queue_resume_size = QUEUED, QUEUED - 1

    @property
    def busy(self) -> bool:
        """True while a request is being answered or waits for it: aiohttp's task does not wait for another one."""
        waiter = self._waiter
        return waiter is None or waiter.done() or self._current_request is not None or bool(self._messages)

    @property
    def speaking(self) -> bool:
        """True if a request may be on its way: nothing was said yet, or half of it."""
        return self._late is not None and not self.busy

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first headers."""
        read_little(transport, HEAD_READ_SIZE)
        _limit_silence(transport, self.send)
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take bytes; headers that do not come to an end are waited for only so long."""
        super().data_received(data)
        if len(data) >= HEAD_READ_SIZE and self.transport is not None:
            read_little(self.transport, self._parser.pace)
        if self.busy is (self._late is None):
            return
        if self.busy:
            self._heard()
        else:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget the connection."""
        self._heard()
        self._took()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for a client that takes nothing only so long: answers without a key, too, fill memory."""
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self.send, self._drop)

    def resume_writing(self) -> None:
        """Go on: the client has taken what was written."""
        self._took()
        super().resume_writing()

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

    def retire(self) -> None:
        """Close the connection at once if it is idle, else after the answer under way: its client may not know yet.

        A request that has come and was not read yet is under way, too.
        """
        self._retired = True
        if not self.busy and not self.speaking and self.transport is not None and not _has_come(self.transport):
            self.transport.close()

    def interrupt(self) -> None:
        """Have the request under way cancelled, as if its client had left."""
        task = self._task_handler
        if self._current_request is not None and task is not None:
            task.cancel()
            task.uncancel()  # it is the handler within that must hear of it; the connection goes on to its end

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
        errors.forget_way(exc)  # its frames hold what was read
        log.info("refused what is not valid HTTP (%s)", type(exc).__name__)
        failure = _failure(exc)
        response = web.Response(body=error_object(failure), status=failure.status, content_type=JSON)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer; after the last one to a client that may still be sending, take that for a while."""
        done = await super().finish_response(request, resp, start_time)
        if self._retired and not self._messages:
            self._end()
        parser, transport = self._parser, self.transport
        if (
            parser is not None
            and parser.deaf
            and not self._messages
            and transport is not None
            and not transport.is_closing()
        ):
            transport.write_eof()
            await asyncio.sleep(LINGER)  # or until the client closes
        return done

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Log what aiohttp did not expect; a client whose body breaks off as it is read past is no such thing."""
        if not isinstance(options.get("exc_info"), Failure):
            super().log_exception(*arguments, **options)

    def _end(self) -> None:
        self._close = True  # with the answer under way; ``close`` would also end the wait for a request that just came

    def _wait(self) -> None:
        if not self._parser.deaf:
            self._late = asyncio.get_running_loop().call_later(self.patience, self._give_up)

    def _heard(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if not self.busy and self.transport is not None:
            self._parser.deaf = True
            dismiss(self.transport, LATE)

    def _took(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _dismiss_long_head(self) -> bool:
        """Answer at once where nothing is under way: in aiohttp's way 300 of them would take a tenth of a second."""
        if self.busy or self.transport is None:
            return False
        self._heard()
        dismiss(self.transport, TOO_LONG)
        return True

    def _drop(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Intake:
    """A connection's parser, which takes no more after a fault, or where it can make nothing of what comes.

    That is what it keeps: a head, trailers, the extension of a chunk. Their bytes are counted since the last request or
    piece of a body. ``end`` is called when the body of a request cannot be read on: it is the connection's last.
    ``dismiss`` may answer a head that does not end; it returns whether it has.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_crumbs",
        "_dismiss",
        "_end",
        "_ended",
        "_kept",
        "_parser",
        "deaf",
        "message_consumed",
    )

    def __init__(self, parser: Any, end: Callable[[], None], dismiss: Callable[[], bool]) -> None:
        self.deaf = False
        self._crumbs = False  # a body came in chunks so small that most of what was read only parted them
        self._dismiss = dismiss
        self._chunked = False  # the body of the last request comes in chunks
        self._ended = True
        self._parser = parser
        self.message_consumed = parser.message_consumed  # a count, which does no harm behind the last request either
        self._end = end
        self._kept = 0
        self._body: StreamReader = EMPTY_PAYLOAD  # of the last request

    @property
    def pace(self) -> int:
        """Return how many bytes to read at once."""
        if self._crumbs:
            return CRUMB_SIZE
        return HEAD_READ_SIZE if self._body.is_eof() else READ_SIZE

    def feed_data(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        """Return the requests that begin in these bytes, as aiohttp's own; raises ``HttpProcessingError``."""
        if self.deaf:
            return NOTHING
        found: list[Any] = []
        try:
            return self._feed(data) if len(data) <= HEAD else self._feed_in_steps(data, found)
        except HttpProcessingError as fault:
            self.deaf, self._parser = True, None
            if self._body.is_eof():
                raise  # aiohttp answers it when its turn comes
            self._break(_failure(fault))
            return found, False, b""

    def pause_reading(self) -> None:
        """Parse no further, as aiohttp's own."""
        if not self.deaf:
            self._parser.pause_reading()

    def set_upgraded(self, upgraded: bool) -> None:
        """Go on after another protocol was declined, as aiohttp's own."""
        if not self.deaf:
            self._parser.set_upgraded(upgraded)

    def _feed_in_steps(self, data: bytes, found: list[Any]) -> tuple[Sequence[Any], bool, bytes]:
        """Parse much at once so that what is kept of it is counted before it is too much."""
        start = 0
        while start < len(data):
            end = start + (STEP if self._body.is_eof() else HEAD)  # a body is not kept here, and costs less in one
            requests, upgraded, rest = self._feed(data[start:end])
            found += requests
            if upgraded:
                return found, True, rest + data[end:]
            start = end
        return found, False, b""

    def _feed(self, data: bytes) -> tuple[Sequence[Any], bool, bytes]:
        body, before = self._body, self._body.total_bytes
        self._ended = body.is_eof()
        found: tuple[Sequence[Any], bool, bytes] = self._parser.feed_data(data)
        if len(found[0]) == 1 and not (self._kept or self._chunked or found[0][0][0].chunked):
            self._body = found[0][0][1]  # nearly always
            return found
        gained = body.total_bytes - before
        if 0 < gained < len(data) // 2 > CRUMB_SIZE:
            self._crumbs = True
        kept = 0 if gained else self._kept + len(data)
        if kept > HEAD and (not found[0] or _length(found[0][0][0]) > HEAD):
            if self._dismiss():
                self.deaf, self._parser = True, None
                return NOTHING
            raise LineTooLong(b"", HEAD)
        if trailed := self._trailed(found[0], body, data):
            self.deaf, self._parser = True, None
            self._end()
            found = (found[0][: trailed - 1], False, b"")
        if found[0]:
            self._body, kept = found[0][-1][1], 0
            self._chunked = found[0][-1][0].chunked
        self._kept = kept
        return found

    def _trailed(self, found: Sequence[Any], body: StreamReader, data: bytes) -> int:
        """Return 1 plus the number of new requests up to one whose body in chunks may have ended in trailers; 0: none.

        aiohttp's parser takes those for headers of the next request on the connection, which may be another client's:
        what came with them is served, and nothing after it.
        """
        if data.endswith(LAST_CHUNK):
            return 0
        if self._chunked and not self._ended and body.is_eof():
            return 1
        return next((place + 2 for place, (head, payload) in enumerate(found) if head.chunked and payload.is_eof()), 0)

    def _break(self, fault: ClientFault) -> None:
        """Let whoever reads the body hear of the fault at once, and the connection end with that request's answer."""
        self._body.set_exception(ClientFault(fault.message, status=fault.status, code=fault.code))
        self._body.feed_eof()
        self._end()


class Refusal(asyncio.Protocol):
    """Says why, and closes: a connection too many costs one write. ``everyone`` are those that are open."""

    def __init__(self, failure: Failure, everyone: set[Refusal]) -> None:
        self._failure = failure
        self._everyone = everyone
        everyone.add(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Answer before anything was asked."""
        dismiss(cast("asyncio.Transport", transport), self._failure)  # uvloop's are of no such class

    def eof_received(self) -> None:
        """Let the transport close: both sides have said all."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """End."""
        self._everyone.discard(self)


def dismiss(transport: asyncio.Transport, failure: Failure) -> None:
    """Say why, and close a little later: on unread bytes it would reset the connection, and lose the answer."""
    transport.write(plain_answer(failure))
    transport.write_eof()
    asyncio.get_running_loop().call_later(LINGER, transport.close)


def _limit_silence(transport: asyncio.BaseTransport, seconds: float) -> None:
    """Have the kernel give up a client that confirms nothing: pings to it would be taken as written for hours."""
    sock, option = transport.get_extra_info("socket"), getattr(socket, "TCP_USER_TIMEOUT", None)  # Linux has it
    if option is not None and sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, option, max(1, min(int(seconds * 1000), MOST_SILENCE)))


def _has_come(transport: asyncio.Transport) -> bool:
    """Return whether something was sent that the loop has not read yet, be it an end."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(poll.poll(0))


def connections(runner: web.AppRunner) -> Iterator[Connection]:
    """Yield the open connections."""
    for connection in runner.server.connections if runner.server is not None else ():
        if isinstance(connection, Connection):
            yield connection


@lru_cache(maxsize=8)  # 300 clients may have to be told the same in one turn of the loop
def plain_answer(failure: Failure) -> bytes:
    """Return a failure as a whole HTTP answer."""
    body = error_object(failure)
    lines = [f"HTTP/1.1 {failure.status} {HTTPStatus(failure.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in errors.headers(failure).items()]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _failure(fault: HttpProcessingError) -> ClientFault:
    """Return what to say of what the parser refused; of what was sent it tells only whether that was the URL."""
    if isinstance(fault, LineTooLong):
        return LONG_URL if bytes(fault.args[0]).startswith((b"/", b"http")) else TOO_LONG
    return TOO_LONG if fault.message == MANY_HEADERS else NO_HTTP


def _length(request: Any) -> int:
    """Return the bytes of a request's head, but for its line."""
    return sum(len(name) + len(value) + 4 for name, value in request.raw_headers)
