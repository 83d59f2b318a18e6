"""(edge) How requests go out, and the heads of their answers: small bodies at once, large ones in slices, so that no
image holds up the loop; questions about credentials and models with their whole answer. Reads no other body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

import aiohttp
from aiohttp import hdrs, payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import RawResponseMessage
from aiohttp.http_exceptions import HttpProcessingError
from msgspec import Struct
from multidict import MultiMapping
from yarl import URL

from gemproxy.aiohttp_parts import PLAIN
from gemproxy.errors import UpstreamFault
from gemproxy.load.weigh import delimiters
from gemproxy.transport.connections import SWITCHING_PROTOCOLS, UNASKED_ANSWER, Line
from gemproxy.upstream.dialect import HttpRequest

LARGEST_WRITE = 1 << 20  # bytes; beyond this aiohttp itself warns of one single write
WRITE_SLICE = 1 << 18  # bytes of a large body that are written in one go
LARGEST_REPLY = 1 << 20  # bytes of an answer to a question; a thousand models take up to 700,000
MOST_DELIMITERS = 50_000  # (``load.weigh``); a thousand models have 40,000, and it is decoded on the loop
READ_BUFFER = 1 << 16  # bytes of an answer that may wait unread
DIRECT = not PLAIN  # ``Poster`` does what aiohttp itself does with its parts; without them it leaves everything to it
_NO_TIMER = TimerNoop()


class Reply(Struct, frozen=True):
    """An answer; names of ``headers`` in any case. The repr shows the status only: the body may hold a token."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Reply({self.status})"


async def ask(session: aiohttp.ClientSession, request: HttpRequest, timeout: float) -> Reply:
    """Return the answer, read within ``timeout`` seconds. Raises ``aiohttp.ClientError`` or ``OSError``.

    A redirect is an answer like another: following it would hand the credential to whom it names.
    """
    connect = min(session.timeout.sock_connect or timeout, timeout / 2)  # else nobody could tell which was missed
    async with session.request(
        request.method,
        request.url,
        data=outgoing(request.body) if request.body else None,
        headers=request.headers,
        timeout=aiohttp.ClientTimeout(total=timeout, sock_connect=connect),
        allow_redirects=False,
    ) as response:
        body = await read_beginning(response, LARGEST_REPLY)
        if delimiters(body, MOST_DELIMITERS) > MOST_DELIMITERS:
            raise aiohttp.ClientPayloadError("the answer holds too many values")
        return Reply(response.status, response.headers, body)


async def read_beginning(response: Incoming, most: int) -> bytes:
    """Return a body, or its first ``most`` bytes and what came with them; raises as reading does, or if packed."""
    if coding := packed(response.headers):
        raise aiohttp.ClientPayloadError(f"the answer is packed ({coding})")
    body = bytearray()
    while len(body) < most and (more := await response.content.readany()):
        body += more
    return bytes(body)


def packed(headers: MultiMapping[str]) -> str:
    """Return the header that tells of a packed body, "" if none does.

    Nothing is unpacked here: a megabyte may hold a gigabyte, and identity was asked for.
    """
    if hdrs.CONTENT_ENCODING not in headers and hdrs.TRANSFER_ENCODING not in headers:
        return ""
    for name, plain in ((hdrs.CONTENT_ENCODING, "identity"), (hdrs.TRANSFER_ENCODING, "chunked")):
        coding = ",".join(headers.getall(name, ()))
        if coding.strip().lower() not in ("", plain):
            return f"{name}: {coding[:40]}"
    return ""


class Incoming(Protocol):
    """An answer whose head is here."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> MultiMapping[str]: ...
    @property
    def content(self) -> aiohttp.StreamReader: ...
    @property
    def connection(self) -> Connection | None: ...
    def close(self) -> None: ...


class Poster:
    """Posts to a few addresses again and again, over a session's connections.

    ``ClientSession.post`` gets ready for redirects, cookies, traces and proxies each time, and starts a task that
    writes the body: for what no request here has use for, a quarter of a small request's cost.
    """

    def __init__(self, session: aiohttp.ClientSession, *, direct: bool = DIRECT) -> None:
        self._session = session
        self._direct = direct
        self._address = lru_cache(maxsize=512)(self._template)

    async def post(self, request: HttpRequest) -> Incoming:
        """Return the answer once its head is here.

        Raises ``aiohttp.ClientError`` or ``OSError``, and ``UpstreamFault`` for an answer that nobody here can read.
        """
        response: Incoming
        if not self._direct or len(request.body) > LARGEST_WRITE:
            url, body = URL(request.url, encoded=True), outgoing(request.body)
            response = await self._session.post(url, data=body, headers=request.headers, allow_redirects=False)
        else:
            address, head = self._address(request.url, tuple(request.headers))
            message = _message(head, request)
            assert self._session.connector is not None
            connection = await self._session.connector.connect(address, [], self._session.timeout)
            try:
                response = await _exchange(connection, message)
            except BaseException:
                connection.close()
                raise
        if response.status == 200 and (coding := packed(response.headers)):  # of a refusal the status tells enough
            response.close()
            raise UpstreamFault(f"The upstream packed its answer, although asked not to ({coding}).")
        return response

    def _template(self, url: str, names: tuple[str, ...]) -> tuple[aiohttp.ClientRequest, str]:
        """Return what all requests to an address have in common, as aiohttp makes it, and how their heads begin.

        The headers called ``names`` are each request's own: what is kept here holds no credential.
        """
        session, loop = self._session, asyncio.get_running_loop()
        request = session._request_class(  # which knows whether a proxy stands between
            "POST", URL(url, encoded=True), headers=session.headers, loop=loop, session=session
        )
        for name in (*names, "Content-Length"):
            request.headers.popall(name, None)
        lines = [f"{name}: {value}" for name, value in request.headers.items()]
        return request, "\r\n".join([f"POST {request.url.raw_path_qs} HTTP/1.1", *lines, ""])


class _Incoming:
    """Of aiohttp's response what is used here, at half its cost."""

    __slots__ = ("connection", "content", "headers", "status")

    def __init__(self, connection: Connection, head: RawResponseMessage, content: aiohttp.StreamReader) -> None:
        self.connection = connection
        self.status = head.code
        self.headers = head.headers
        self.content = content
        content.on_eof(connection.release)

    def close(self) -> None:
        """Close the connection, unless it is back in its pool: it is with the last byte."""
        self.connection.close()


def _message(head: str, request: HttpRequest) -> bytes:
    """Return a whole request; raises ``ValueError`` for a header that would end its line."""
    lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
    if not "".join(request.headers.values()).isprintable():
        raise ValueError("a header of a request holds control characters")
    return f"{head}{''.join(lines)}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body


async def _exchange(connection: Connection, message: bytes) -> _Incoming:
    """Send a request on a connection and return its answer once the head is here."""
    protocol, transport = connection.protocol, connection.transport
    if protocol is None or transport is None:
        raise aiohttp.ClientConnectionResetError("the connection was lost")
    protocol.set_response_params(timer=_NO_TIMER, read_until_eof=True, auto_decompress=False, read_bufsize=READ_BUFFER)
    transport.write(message)  # at once: an early refusal is read while the network takes the rest
    try:
        head, content = await protocol.read()
        while head.code < 200 and head.code != SWITCHING_PROTOCOLS:  # the answer is yet to come (RFC 9110 15.2)
            head, content = await protocol.read()
    except HttpProcessingError:
        raise aiohttp.ClientPayloadError("the answer is not HTTP") from None
    return _Incoming(connection, head, content)


def outgoing(body: bytes) -> payload.Payload:
    """Return what to hand to aiohttp for a JSON body."""
    return Sliced(body)


class Sliced(payload.Payload):
    """A body that is written piece by piece, waiting for the network in between; may be sent more than once."""

    def __init__(self, value: bytes, on_taken: Callable[[], object] = bool) -> None:
        """``on_taken`` hears of each piece that the other side has taken."""
        super().__init__(value, content_type="application/json")
        self._whole = value
        self._on_taken = on_taken

    @property
    def size(self) -> int:
        """Return the length that is announced."""
        return len(self._whole)

    @property
    def autoclose(self) -> bool:
        """Return that nothing is to be closed."""
        return True

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._whole.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write everything; raises ``aiohttp.ClientConnectionError`` if an answer is there before the request."""
        line = getattr(writer, "protocol", None)  # aiohttp took it a turn of the loop ago, and has written nothing yet
        if isinstance(line, Line) and not line.begin_exchange():
            raise aiohttp.ClientConnectionError(UNASKED_ANSWER)
        view = memoryview(self._whole)
        for place in range(0, len(view), WRITE_SLICE):
            await writer.write(view[place : place + WRITE_SLICE])
            self._on_taken()

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write everything: the length announced is that of the whole."""
        await self.write(writer)
