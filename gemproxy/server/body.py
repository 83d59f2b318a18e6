"""A request's body: how large, how slow, and of which kind it may be. The bytes go on as they are."""

from __future__ import annotations

import asyncio
from io import BytesIO

from aiohttp import web
from aiohttp.http import HttpVersion11

from gemproxy.errors import ClientFault
from gemproxy.load.budget import Hold
from gemproxy.server.context import Context
from gemproxy.server.middleware import answer
from gemproxy.server.service import SERVICE, Door, Service

COPIES = 2  # of a body: as it came, and as it goes on
_OTHER_MEDIA = ("multipart/", "image/", "audio/", "video/", "application/xml", "text/xml", "text/html")


async def read_body(request: web.Request, door: Door, hold: Hold) -> bytes:
    """Return the request's body, and twice its size in ``hold``: what is made of it is as large.

    Raises ``ClientFault`` 408, 413 or 415, and ``Overload``.
    """
    _check_kind(request)
    if request.content.is_eof():  # it came with the headers, as small ones do: nothing to wait for
        body = request.content.read_nowait()
        if len(body) > door.max_body:
            raise _too_large(door)
        hold.more(COPIES * len(body))
        return body
    _check_length(request, door)
    try:
        async with asyncio.timeout(door.body):
            return await _read(request, door, hold)
    except TimeoutError:
        raise ClientFault(
            f"The request body did not arrive within timeouts.body = {door.body:g} s.",
            status=408,
            type="timeout",
            code="timeout",
        ) from None


async def expectation(request: web.Request) -> web.StreamResponse | None:
    """Refuse any ``Expect`` but 100-continue (RFC 9110, 10.1.1), which ``expect_body`` answers.

    Not here: nobody is invited to send a body before key and limits were looked at, or one that nobody reads.
    """
    if request.headers.get("Expect", "").lower() == "100-continue":
        return None
    return await answer(_unexpected, request.app[SERVICE], request)


async def expect_body(request: web.Request, door: Door) -> None:
    """Ask for a body that its client holds back; raises ``ClientFault`` 413 or 415 for one that would not be read."""
    if request.version != HttpVersion11 or request.headers.get("Expect", "").lower() != "100-continue":
        return
    _check_kind(request)
    _check_length(request, door)
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0  # as aiohttp's own handler does: no part of the answer was written


async def _unexpected(request: web.Request, service: Service, context: Context) -> web.StreamResponse:
    raise ClientFault("The header Expect is known here as 100-continue only.", status=417)


async def _read(request: web.Request, door: Door, hold: Hold) -> bytes:
    # one buffer that grows: pieces of 64 KiB to 256 KiB would leave holes in the heap, which never come back
    body = BytesIO()
    while piece := await request.content.readany():
        if body.tell() + len(piece) > door.max_body:
            raise _too_large(door)
        hold.more(COPIES * len(piece))
        body.write(piece)
    return body.getvalue()


def _check_kind(request: web.Request) -> None:
    media_type = request.headers.get("Content-Type", "").lower()
    if media_type.startswith(_OTHER_MEDIA):
        raise _unsupported(f"The body must be JSON, not {media_type[:80]!r}.")
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise _unsupported("The body must not be compressed (Content-Encoding).")


def _check_length(request: web.Request, door: Door) -> None:
    if (request.content_length or 0) > door.max_body:
        raise _too_large(door)


def _too_large(door: Door) -> ClientFault:
    return ClientFault(
        f"The request body is larger than server.max_body = {door.max_body} bytes.",
        status=413,
        code="request_too_large",
    )


def _unsupported(message: str) -> ClientFault:
    return ClientFault(message, status=415, code="unsupported_media_type")
