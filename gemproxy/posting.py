"""(edge) How requests go out: small bodies at once, large ones in slices, so that no image holds up the loop; questions
about credentials and models with their whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection
from aiohttp.http import StreamWriter
from msgspec import Struct

from gemproxy.upstream.dialect import HttpRequest

WHOLE = 1 << 20  # bytes; beyond this aiohttp itself warns of one single write
SLICE = 1 << 18
MOST = 4 << 20  # bytes of an answer to a question; a thousand models take one


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


def outgoing(body: bytes) -> payload.Payload:
    """Return what to hand to aiohttp for a JSON body: made here, since looking for the kind of bytes costs 3 us."""
    return Whole(body, content_type="application/json") if len(body) <= WHOLE else Sliced(body)


class Whole(payload.BytesPayload):
    """Bytes that are written in one go."""

    @property
    def content(self) -> bytes:
        """Return them."""
        return self._value


class Direct(aiohttp.ClientRequest):
    """A request whose ``Whole`` body is written along with its head, for sessions with ``DIRECT``.

    aiohttp starts a task to write any body, which on Python 3.11 costs 6 % of a small request and a round of the loop.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        """Write the request; return the response whose head is still to come."""
        protocol, body = conn.protocol, self.body
        if not isinstance(body, Whole) or protocol is None or protocol.writing_paused or self.proxy is not None:
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        await writer.write(body.content, drain=False)  # an early refusal is read while the network takes the rest
        writer.set_eof()
        protocol.start_timeout()
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )


# ``send`` is aiohttp's own of this version, without what no request of ours needs; a later one is left as it is
DIRECT = Direct if aiohttp.__version__.startswith("3.14.") else aiohttp.ClientRequest


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
