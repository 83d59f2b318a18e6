"""POST /chat/completions: decode, convert, open, then fold or transcode. No decisions about content here.

Two commits (DESIGN 1): the *status* by the first content or after ``timeouts.hold``, the *content* inside
``dispatcher.open``. Before the status commit a failure is raised and gets its true HTTP status; after it the failure is
the stream's last event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext
from datetime import UTC, date, datetime

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp_sse import EventSourceResponse

from gemproxy.converter import media
from gemproxy.converter.request import decode
from gemproxy.dispatch import Answer
from gemproxy.errors import Failure, timeout
from gemproxy.models import Model
from gemproxy.server.asking import Asking
from gemproxy.server.body import read_body
from gemproxy.server.exchange import Exchange
from gemproxy.server.keyring import Caller, allow
from gemproxy.server.middleware import JSON
from gemproxy.server.negotiation import wants_stream
from gemproxy.server.service import Service
from gemproxy.server.tasks import spawn
from gemproxy.stall import StallWatch

log = logging.getLogger("gemproxy.server")
WHOLE = 1 << 16  # bytes; a larger answer may have to wait for its client
_UNLIMITED = nullcontext()


async def chat_completions(
    request: web.Request, service: Service, exchange: Exchange, caller: Caller
) -> web.StreamResponse:
    """Answer one chat request, as a stream or as JSON."""
    asked = decode(await read_body(request, service.door))
    stream = _by_client(request, service) if asked.stream is None else asked.stream
    models = _models(service, asked.model, caller)
    exchange.model, exchange.stream = models[0].id, stream
    remote = media.remote_images(asked)
    images = await service.images.fetch(remote, caller.name) if remote else {}
    asking = Asking(service, exchange, asked, images, stream)
    try:
        if stream:
            return await _Stream(request, service, exchange).run(asking, models)
        return await _unary(request, service, exchange, asking, models)
    finally:
        asking.close()


def _by_client(request: web.Request, service: Service) -> bool:
    return wants_stream(
        request.headers.get("Accept", ""),
        request.headers.get("User-Agent", ""),
        default=service.door.stream_default,
        json_clients=service.door.json_clients,
    )


def _models(service: Service, name: str, caller: Caller) -> Sequence[Model]:
    """Return the model asked for, and its fallbacks as far as the caller may use them."""
    model = service.catalogue.lookup(name)
    if caller.models is not None:
        allow(caller, model.id)
    if model.shutdown_date is not None:
        _warn_of_age(service, model, model.shutdown_date)
    others = service.door.fallbacks.get(model.id)
    if not others:
        return (model,)
    return [model, *(other for other in others if caller.models is None or other.id in caller.models)]


def _warn_of_age(service: Service, model: Model, shutdown: str) -> None:
    if model.id in service.outdated:
        return
    if date.fromisoformat(shutdown) <= datetime.fromtimestamp(service.clock(), UTC).date():
        service.outdated.add(model.id)
        log.warning("%s is past its shutdown date, %s; clients still ask for it", model.id, shutdown)


def within(limit: float) -> AbstractAsyncContextManager[None]:
    """Raise ``UpstreamFault`` 504 in what takes longer than ``timeouts.total`` seconds (0: as long as it takes)."""
    return _limited(limit) if limit else _UNLIMITED


@asynccontextmanager
async def _limited(limit: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError:
        raise timeout(f"The answer took longer than timeouts.total = {limit:g} s.") from None


async def _unary(
    request: web.Request, service: Service, exchange: Exchange, asking: Asking, models: Sequence[Model]
) -> web.Response:
    async with within(service.door.total):
        answer = await asking.open(models)
    try:
        _note(exchange, answer)
        body = answer.whole()
        _note_end(exchange, answer)
    finally:
        answer.close()
    response = web.Response(body=body, content_type=JSON)
    if service.door.expose_routing:
        _show_routing(response, answer)
    if len(body) > WHOLE:
        await _write_large(request, response, service, exchange)
    return response


async def _write_large(request: web.Request, response: web.Response, service: Service, exchange: Exchange) -> None:
    """Write a large answer here, so that a client that takes nothing is dropped after ``timeouts.send``."""
    stall = StallWatch(service.door.send, lambda: _drop(request))
    stall.start()
    try:
        response.headers.update(exchange.headers)
        await response.prepare(request)
        await response.write_eof()
    finally:
        stall.close()


class _Stream:
    """One answer as a stream of events."""

    def __init__(self, request: web.Request, service: Service, exchange: Exchange) -> None:
        self._request = request
        self._service = service
        self._exchange = exchange
        self._response = EventSourceResponse(
            sep="\n",
            allow_all_methods=True,
            ping_interval=service.door.ping_interval,
            send_timeout=service.door.send,
        )
        self._early: asyncio.Task[object] | None = None
        self._writer: AbstractStreamWriter | None = None
        self._hold = asyncio.get_running_loop().call_later(service.door.hold, self._commit_early)

    async def run(self, asking: Asking, models: Sequence[Model]) -> web.StreamResponse:
        """Open and stream; raises the failure if the status is not committed yet."""
        try:
            async with within(self._service.door.total):
                answer = await asking.open(models)
                with self._owned(answer) as stall:
                    writer = await self._commit(answer)
                    stall.start()
                    await writer.write(answer.head)
                    stall.stop()
                    take = self._taker(writer)
                    while not await answer.pour(take):
                        stall.start()
                        await writer.drain()
                        stall.stop()
                    stall.start()
                    await self._response.write_eof()
        except Failure:
            await self._committed()  # if so, the failure becomes the last event
            raise
        finally:
            self._end()
        return self._response

    def _taker(self, writer: AbstractStreamWriter) -> Callable[[bytes], bool]:
        """Return what writes bytes at once, and tells whether the client is so far behind that it must be waited for.

        As the writer does it, but without a coroutine; that has sent the headers with the first bytes.
        """
        transport, chunked = self._request.transport, getattr(writer, "chunked", False)
        if transport is None:
            raise ConnectionResetError
        _, most = transport.get_write_buffer_limits()

        def take(data: bytes) -> bool:
            transport.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
            return transport.get_write_buffer_size() > most

        return take

    @contextmanager
    def _owned(self, answer: Answer) -> Iterator[StallWatch]:
        """Write down what the answer tells, and close it; gives what drops a client that takes nothing."""
        stall = StallWatch(self._service.door.send, lambda: _drop(self._request))
        try:
            _note(self._exchange, answer)
            yield stall
        finally:
            stall.close()
            _note_end(self._exchange, answer)
            answer.close()

    # -------------------------------------------------------------------------------------------- the status commit

    def _commit_early(self) -> None:
        self._early = spawn(self._prepare(), name="status commit")

    async def _prepare(self) -> None:
        self._exchange.response = self._response
        self._response.headers.update(self._exchange.headers)
        self._writer = await self._response.prepare(self._request)

    async def _committed(self) -> bool:
        self._hold.cancel()
        if self._early is not None:
            await self._early
        return self._response.prepared

    async def _commit(self, answer: Answer) -> AbstractStreamWriter:
        if not await self._committed():
            if self._service.door.expose_routing:
                _show_routing(self._response, answer)
            await self._prepare()
        assert self._writer is not None
        return self._writer

    def _end(self) -> None:
        self._hold.cancel()
        if self._early is not None:
            self._early.cancel()
        if self._response.is_connected():
            self._response.stop_streaming()  # no ping follows the last event
            self._response._ping_task = None  # a circle that only the garbage collector would find


def _drop(request: web.Request) -> None:
    # a client that takes nothing for timeouts.send seconds: its connection goes, and with it this request
    if request.transport is not None:
        request.transport.abort()


def _note(exchange: Exchange, answer: Answer) -> None:
    exchange.first_byte = exchange.clock()
    exchange.credential = answer.lease.slot.name
    exchange.attempts = answer.attempts


def _note_end(exchange: Exchange, answer: Answer) -> None:
    exchange.usage = answer.transcoder.usage
    exchange.finish = ",".join(answer.transcoder.reasons)


def _show_routing(response: web.StreamResponse, answer: Answer) -> None:
    response.headers["x-gemproxy-credential"] = answer.lease.slot.name
    response.headers["x-gemproxy-attempts"] = str(answer.attempts)
