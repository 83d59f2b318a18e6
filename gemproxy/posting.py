"""(edge) How requests go out: large bodies in slices, so that no image holds up the loop; questions about credentials
and models with their whole answer.
"""

from __future__ import annotations

from collections.abc import Mapping

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter
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
