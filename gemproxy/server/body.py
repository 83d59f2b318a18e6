"""A request's body: how large, how slow, and of which kind it may be. The bytes go on as they are."""

from __future__ import annotations

import asyncio
from io import BytesIO

from aiohttp import web
from aiohttp.http import HttpVersion11

from gemproxy.converter.api import Operation, Received
from gemproxy.errors import ClientFault
from gemproxy.load.budget import Hold
from gemproxy.server.context import Context
from gemproxy.server.middleware import answer
from gemproxy.server.service import SERVICE, Door, Service

BODY_COPIES = 2  # of a body: as it came, and as it goes on
_OTHER_MEDIA = ("multipart/", "image/", "audio/", "video/", "application/xml", "text/xml", "text/html")
_FORM = "multipart/form-data"


async def receive(operation: Operation, request: web.Request, door: Door, hold: Hold) -> Received:
    """Return a request with its body, and twice the size of that in ``hold``: what is made of it is as large.

    Raises ``ClientFault`` 400, 408, 413 or 415, and ``Overload``.
    """
    form = _check_kind(request, operation)
    path = request.rel_url.raw_path_qs
    if request.content.is_eof():  # it came with the headers, as small ones do: nothing to wait for
        body = request.content.read_nowait()
        if len(body) > door.max_body:
            raise _too_large(door)
        hold.more(BODY_COPIES * len(body))
        return Received(body, request.headers, path, is_form=form)
    _check_length(request, door)
    try:
        async with asyncio.timeout(door.body):
            return Received(await _read(request, door, hold), request.headers, path, is_form=form)
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


async def expect_body(operation: Operation, request: web.Request, door: Door) -> None:
    """Ask for a body that its client holds back; raises ``ClientFault`` 413 or 415 for one that would not be read."""
    if request.version != HttpVersion11 or request.headers.get("Expect", "").lower() != "100-continue":
        return
    _check_kind(request, operation)
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
        hold.more(BODY_COPIES * len(piece))
        body.write(piece)
    return body.getvalue()


def _check_kind(request: web.Request, operation: Operation) -> bool:
    """Return whether the body is a form; raises ``ClientFault`` 415."""
    media_type = request.headers.get("Content-Type", "").lower()
    form = operation.forms and media_type.startswith(_FORM)
    if not form and media_type.startswith(_OTHER_MEDIA):
        wanted = f"JSON or {_FORM}" if operation.forms else "JSON"
        raise _unsupported(f"The body must be {wanted}, not {media_type[:80]!r}.")
    coding = request.headers.get("Content-Encoding", "identity").lower()
    if coding != "identity":
        raise _unsupported("The body must not be compressed (Content-Encoding).")
    return form


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
