"""(edge) How requests go out: small bodies at once, large ones in slices, so that no image holds up the loop; questions
about credentials and models with their whole answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import lru_cache

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.helpers import TimerNoop
from aiohttp.http import StreamWriter
from msgspec import Struct
from yarl import URL

from gemproxy.upstream.dialect import HttpRequest

WHOLE = 1 << 20  # bytes; beyond this aiohttp itself warns of one single write
SLICE = 1 << 18
MOST = 4 << 20  # bytes of an answer to a question; a thousand models take one
READ = 1 << 16  # bytes of an answer that may wait unread
# ``Poster`` does what aiohttp itself does in this version; beside another one it leaves everything to aiohttp
DIRECT = aiohttp.__version__.startswith("3.14.")
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
    async with session.request(
        request.method,
        request.url,
        data=request.body or None,
        headers=request.headers,
        timeout=aiohttp.ClientTimeout(total=timeout),
        allow_redirects=False,
    ) as response:
        return Reply(response.status, response.headers, await head(response, MOST))


async def head(response: aiohttp.ClientResponse, most: int) -> bytes:
    """Return a body, or its first ``most`` bytes and what came with them. Raises as reading does."""
    body = bytearray()
    while len(body) < most and (more := await response.content.readany()):
        body += more
    return bytes(body)


class Poster:
    """Posts to a few addresses again and again, over a session's connections.

    ``ClientSession.post`` gets ready for redirects, cookies, traces and proxies each time, and starts a task that
    writes the body: for what no request here has use for, an eighth of a small request's cost.
    """

    def __init__(self, session: aiohttp.ClientSession, *, direct: bool = DIRECT) -> None:
        self._session = session
        self._direct = direct
        self._address = lru_cache(maxsize=512)(self._template)

    async def post(self, request: HttpRequest) -> aiohttp.ClientResponse:
        """Return the answer once its head is here. Raises ``aiohttp.ClientError`` or ``OSError``."""
        if not self._direct or len(request.body) > WHOLE:
            url, body = URL(request.url, encoded=True), outgoing(request.body)
            return await self._session.post(url, data=body, headers=request.headers, allow_redirects=False)
        address = self._address(request.url)
        assert self._session.connector is not None
        connection = await self._session.connector.connect(address, [], self._session.timeout)
        try:
            response = await self._write(connection, address, request)
            try:
                await response.start(connection)
            except BaseException:
                response.close()
                raise
        except BaseException:
            connection.close()
            raise
        return response

    def _template(self, url: str) -> aiohttp.ClientRequest:
        """Return what all requests to an address have in common, as aiohttp makes it; it holds no credential."""
        headers, loop = self._session.headers, asyncio.get_running_loop()
        return aiohttp.ClientRequest("POST", URL(url, encoded=True), headers=headers, loop=loop, session=self._session)

    async def _write(
        self, connection: Connection, address: aiohttp.ClientRequest, request: HttpRequest
    ) -> aiohttp.ClientResponse:
        protocol, loop = connection.protocol, address.loop
        assert protocol is not None
        protocol.set_response_params(timer=_NO_TIMER, read_until_eof=True, read_bufsize=READ)
        headers = address.headers.copy()
        headers.update(request.headers)
        headers["Content-Length"] = str(len(request.body))
        writer = StreamWriter(protocol, loop)
        await writer.write_headers(f"POST {address.url.raw_path_qs} HTTP/1.1", headers)
        await writer.write(request.body, drain=False)  # an early refusal is read while the network takes the rest
        writer.set_eof()
        protocol.start_timeout()
        return aiohttp.ClientResponse(
            "POST",
            address.url,
            writer=None,
            continue100=None,
            timer=_NO_TIMER,
            request_info=address.request_info,
            traces=[],
            loop=loop,
            session=self._session,
            stream_writer=writer,
        )


def outgoing(body: bytes) -> payload.Payload:
    """Return what to hand to aiohttp for a JSON body."""
    return payload.BytesPayload(body, content_type="application/json") if len(body) <= WHOLE else Sliced(body)


class Sliced(payload.Payload):
    """Bytes that are written piece by piece, waiting for the network in between; may be sent more than once."""

    _value: bytes
    _autoclose = True

    def __init__(self, value: bytes) -> None:
        super().__init__(value, content_type="application/json")
        self._size = len(value)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Return the body as text."""
        return self._value.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Write everything."""
        view = memoryview(self._value)
        for place in range(0, len(view), SLICE):
            await writer.write(view[place : place + SLICE])

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Write everything: the length announced is that of the whole."""
        await self.write(writer)
